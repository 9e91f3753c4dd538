package capture_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/sshx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcpdump plays a helper: it writes a header, then what give writes, and after the end of its input what last writes.
type tcpdump struct {
	link  layers.LinkType // 0 = Ethernet
	give  func(h *helper) // runs until it has nothing more to say; nil = silent
	last  func(h *helper)
	exit  int
	hang  bool          // do not end when asked to
	ahead time.Duration // of its clock
	steps *atomic.Int64 // ns that its clock was set by since; nil = never
	mute  bool          // it tells its clock only once
	leave bool          // end by itself, in good order
}

// helper is a tcpdump that runs.
type helper struct {
	*sshserver.Session
	pcap    *pcapgo.Writer
	written int
	stop    chan struct{} // closed at the end of the input
}

// packet writes one packet whose bytes tell where and the how many-th it is.
func (h *helper) packet(at time.Time, instance byte) {
	data := make([]byte, 60)
	data[0] = instance
	binary.BigEndian.PutUint32(data[1:], uint32(h.written))
	if h.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: 60, Length: 60}, data) == nil {
		h.written++
	}
}

func (h *helper) stopped() bool {
	select {
	case <-h.stop:
		return true
	default:
		return false
	}
}

// busy writes packets until it is told to stop.
func busy(instance byte) func(*helper) {
	return func(h *helper) {
		for !h.stopped() && h.Context().Err() == nil {
			h.packet(time.Now(), instance)
		}
	}
}

// burst writes n packets, now.
func burst(instance byte, n int) func(*helper) {
	return func(h *helper) {
		for range n {
			h.packet(time.Now(), instance)
		}
	}
}

func (t tcpdump) run(s *sshserver.Session) int {
	if t.link == 0 {
		t.link = layers.LinkTypeEthernet
	}
	stderr := &locked{w: s.Stderr} // listen writes beside, and may when we are done
	s.Stderr = stderr
	defer stderr.end()
	h := &helper{Session: s, stop: make(chan struct{})}
	t.clock(s)
	fmt.Fprintf(s.Stderr, "@sshpcap connection %s\n@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n@sshpcap watched\n", s.Connection)
	s.Go(func() { t.listen(s); close(h.stop) })
	h.pcap = pcapgo.NewWriterNanos(s.Stdout)
	h.pcap.WriteFileHeader(262144, t.link)
	if t.give != nil {
		t.give(h)
	}
	if t.exit != 0 {
		fmt.Fprintf(s.Stderr, "tcpdump: pcap_loop: The interface disappeared\n")
		return t.exit
	}
	if !t.leave {
		<-h.stop
	}
	if t.last != nil {
		t.last(h)
	}
	for t.hang && h.Context().Err() == nil {
		<-h.Context().Done()
	}
	fmt.Fprintf(s.Stderr, "%d packets captured\n%d packets received by filter\n7 packets dropped by kernel\n", h.written, h.written+7)
	return 0
}

// locked is a writer for several goroutines, up to its end.
type locked struct {
	mu    sync.Mutex
	w     io.Writer
	ended bool
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, io.ErrClosedPipe
	}
	return l.w.Write(p)
}

func (l *locked) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// clock tells what the instance's clock shows.
func (t tcpdump) clock(s *sshserver.Session) {
	now := time.Now().Add(t.ahead)
	if t.steps != nil {
		now = now.Add(time.Duration(t.steps.Load()))
	}
	fmt.Fprintf(s.Stderr, "@sshpcap clock %d.%09d\n", now.Unix(), now.Nanosecond())
}

// listen answers questions until there are no more.
func (t tcpdump) listen(s *sshserver.Session) {
	for lines := bufio.NewScanner(s.Stdin); lines.Scan(); {
		if lines.Text() == "c" && !t.mute {
			t.clock(s)
		}
	}
}

// instance starts a server whose command is handler.
func instance(t testing.TB, name string, handler func(*sshserver.Session) int) capture.Instance {
	t.Helper()
	server := &sshserver.Server{Handler: handler}
	return at(t, name, server)
}

func at(t testing.TB, name string, server *sshserver.Server) capture.Instance {
	t.Helper()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	end := endpoint(server)
	var dialer sshx.Dialer
	return capture.Instance{Name: name, Interfaces: []string{"eth0"}, Dial: func(ctx context.Context) (*sshx.Conn, error) {
		return dialer.DialEndpoint(ctx, end)
	}}
}

// endpoint is all that is needed to log in to a server that lets everybody in.
func endpoint(server *sshserver.Server) sshx.Endpoint {
	host, port, _ := net.SplitHostPort(server.Addr())
	number, _ := strconv.Atoi(port)
	return sshx.Endpoint{
		Host: host, Port: number, User: "u", HostKeyCallback: ssh.FixedHostKey(server.PublicKey()),
		Auth: func(context.Context) ([]ssh.AuthMethod, error) { return []ssh.AuthMethod{ssh.Password("")}, nil },
	}
}

// fixture is a capture under test.
type fixture struct {
	capture.Config
	path   string
	events chan capture.Event
	stop   context.CancelFunc
	ctx    context.Context
}

func newFixture(t *testing.T, name string, instances ...capture.Instance) *fixture {
	f := &fixture{path: filepath.Join(t.TempDir(), name), events: make(chan capture.Event, 1000)}
	f.Instances = instances
	f.Output = capture.Output{Path: f.path}
	if strings.HasSuffix(name, ".pcap") {
		f.Output.Format = capture.Pcap
	}
	f.OnEvent = func(e capture.Event) { f.events <- e }
	f.ctx, f.stop = context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(f.stop)
	return f
}

// run captures until the condition holds, and then ends the capture as ^C does.
func (f *fixture) run(t *testing.T, until func() bool) (capture.Report, error) {
	t.Helper()
	if f.Progress == nil {
		f.Progress = new(capture.Progress)
	}
	type result struct {
		capture.Report
		error
	}
	done := make(chan result, 1)
	go func() {
		report, err := capture.Run(f.ctx, f.Config)
		done <- result{report, err}
	}()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case r := <-done:
			return r.Report, r.error
		case <-tick.C:
			if until != nil && until() {
				f.stop()
			}
		}
	}
}

// packets waits for so many in the output.
func (f *fixture) packets(n int64) func() bool {
	f.Progress = new(capture.Progress)
	return func() bool { return f.Progress.Packets.Load() >= n }
}

// record is a packet of a finished file.
type record struct {
	from     string
	at       time.Time
	instance byte
	number   uint32
}

// read gives the packets of a pcapng file, by pcapgo, which knows nothing of how it was written.
func read(t *testing.T, path string) []record {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ng, err := pcapgo.NewNgReader(bytes.NewReader(raw), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	var out []record
	for {
		data, info, err := ng.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		iface, err := ng.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, record{iface.Name, info.Timestamp, data[0], binary.BigEndian.Uint32(data[1:])})
	}
}

// checkAll checks that a file holds the packets 0 to n-1 of each instance once, in order.
func checkAll(t *testing.T, records []record, want map[string]int) {
	t.Helper()
	next := make(map[string]int)
	for i, r := range records {
		if i > 0 && r.at.Before(records[i-1].at) {
			t.Fatalf("packet %d at %v is before packet %d at %v", i, r.at, i-1, records[i-1].at)
		}
		if int(r.number) != next[r.from] {
			t.Fatalf("packet %d of the file is number %d of %s, want %d", i, r.number, r.from, next[r.from])
		}
		next[r.from]++
	}
	for name, n := range want {
		if next[name] != n {
			t.Errorf("%d packets of %s, want %d", next[name], name, n)
		}
	}
	if len(next) > len(want) {
		t.Errorf("packets of %v, want only %v", next, want)
	}
}

func checkSums(t *testing.T, report capture.Report) {
	t.Helper()
	var sum int64
	for _, in := range report.Instances {
		for _, i := range in.Interfaces {
			if i.Received != i.Written+i.Discarded {
				t.Errorf("%s: received %d != written %d + discarded %d", in.Name, i.Received, i.Written, i.Discarded)
			}
			sum += i.Written
		}
	}
	if sum != report.Packets {
		t.Errorf("the instances' packets are %d, the whole is %d", sum, report.Packets)
	}
}

func TestThreeInstancesInOrder(t *testing.T) {
	const n = 2000
	paced := func(id byte) tcpdump {
		return tcpdump{
			give: func(h *helper) {
				for range n {
					h.packet(time.Now(), id)
				}
			},
			last: burst(id, 5), // what comes after the stop belongs to it, too
		}
	}
	f := newFixture(t, "x.pcapng",
		instance(t, "web1", paced(1).run), instance(t, "web2", paced(2).run), instance(t, "db1", paced(3).run))
	f.Window = 3 * time.Second // a machine that does much else at a time must not make packets late
	report, err := f.run(t, f.packets(3*n))
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, read(t, f.path), map[string]int{"web1:eth0": n + 5, "web2:eth0": n + 5, "db1:eth0": n + 5})
	checkSums(t, report)
	if report.End != capture.EndInterrupted || report.Packets != 3*(n+5) || report.Ready == nil {
		t.Errorf("report: end %q, %d packets, ready %v", report.End, report.Packets, report.Ready)
	}
	for _, in := range report.Instances {
		i := in.Interfaces[0]
		if in.State != capture.OK || *i.Captured != n+5 || *i.Dropped != 7 || i.First.After(*i.Last) || i.LinkType != "EN10MB" {
			t.Errorf("%+v %+v", in, i)
		}
	}
	info, _ := os.Stat(f.path)
	if info.Mode().Perm() != 0o600 || info.Size() != report.Output.Bytes {
		t.Errorf("mode %v, size %d, reported %d", info.Mode(), info.Size(), report.Output.Bytes)
	}
}

func TestSeveralInterfacesOfOneInstance(t *testing.T) {
	in := instance(t, "web1", func(s *sshserver.Session) int {
		id := byte(1)
		if strings.Contains(s.Command, "^0047lo^0047") {
			id = 2
		}
		return tcpdump{give: burst(id, 10)}.run(s)
	})
	in.Interfaces = []string{"eth0", "lo"}
	f := newFixture(t, "x.pcapng", in)
	if _, err := f.run(t, f.packets(20)); err != nil {
		t.Fatal(err)
	}
	records := read(t, f.path)
	checkAll(t, records, map[string]int{"web1:eth0": 10, "web1:lo": 10})
	for _, r := range records {
		if (r.from == "web1:lo") != (r.instance == 2) {
			t.Fatalf("packet of interface %d stands under %s", r.instance, r.from)
		}
	}
}

func TestCountIsExact(t *testing.T) {
	for _, name := range []string{"x.pcapng", "x.pcap"} {
		f := newFixture(t, name, instance(t, "a", tcpdump{give: busy(1)}.run), instance(t, "b", tcpdump{give: busy(2)}.run))
		f.Count = 777
		report, err := f.run(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := countRecords(t, f.path); got != 777 || report.Packets != 777 || report.End != capture.EndCount {
			t.Errorf("%s: %d packets in the file, %d reported, end %q", name, got, report.Packets, report.End)
		}
		checkSums(t, report)
	}
}

func countRecords(t *testing.T, path string) (n int) {
	t.Helper()
	if strings.HasSuffix(path, ".pcapng") {
		return len(read(t, path))
	}
	fd, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	r, err := pcapgo.NewReader(fd)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, _, err := r.ReadPacketData(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return n
		}
		n++
	}
}

func TestMaxSizeHolds(t *testing.T) {
	for _, name := range []string{"x.pcapng", "x.pcap"} {
		f := newFixture(t, name, instance(t, "a", tcpdump{give: busy(1)}.run), instance(t, "b", tcpdump{give: busy(2)}.run))
		f.MaxSize = 50_000
		report, err := f.run(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := os.Stat(f.path)
		if info.Size() > 50_000 || info.Size() < 45_000 || report.End != capture.EndMaxSize {
			t.Errorf("%s: %d bytes, end %q", name, info.Size(), report.End)
		}
		if int64(countRecords(t, f.path)) != report.Packets {
			t.Errorf("%s: %d packets in the file, %d reported", name, countRecords(t, f.path), report.Packets)
		}
	}
}

func TestDurationBeginsWhenReady(t *testing.T) {
	release := make(chan struct{})
	slow := instance(t, "slow", func(s *sshserver.Session) int {
		select {
		case <-release:
		case <-s.Context().Done():
		}
		return tcpdump{give: burst(1, 3)}.run(s)
	})
	f := newFixture(t, "x.pcapng", slow, instance(t, "fast", tcpdump{give: burst(2, 3)}.run))
	f.Duration = 100 * time.Millisecond
	open := false
	report, err := f.run(t, func() bool {
		if !open && f.Progress.Capturing.Load() == 1 {
			open = true
			close(release)
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, read(t, f.path), map[string]int{"slow:eth0": 3, "fast:eth0": 3})
	if took := report.Ended.Sub(*report.Ready); report.End != capture.EndDuration || took < f.Duration {
		t.Errorf("end %q, %v after it was ready", report.End, took)
	}
}

// One of the instances fails, each in its own way; the other is captured as if nothing had happened.
func TestOneInstanceFails(t *testing.T) {
	tests := []struct {
		name    string
		handler func(*sshserver.Session) int
		state   capture.State
		problem string
		packets int
	}{
		{"no helper", func(s *sshserver.Session) int {
			fmt.Fprintf(s.Stderr, "@sshpcap nohelper tcpdump dumpcap\n")
			return 127
		}, capture.NotOpened, "no capture program", 0},
		{"no permission, no sudo", func(s *sshserver.Session) int {
			if strings.Contains(s.Command, "sudo") {
				fmt.Fprintf(s.Stderr, "@sshpcap helper /usr/bin/tcpdump\n@sshpcap start sudo\nsudo: a password is required\n")
				return 1
			}
			fmt.Fprintf(s.Stderr, "@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\ntcpdump: eth0: You don't have permission to perform this capture on that device\n")
			return 1
		}, capture.NotOpened, "password", 0},
		{"helper dies", tcpdump{give: burst(9, 4), exit: 1}.run, capture.LostState, "disappeared", 4},
		{"helper ends by itself", func(s *sshserver.Session) int {
			fmt.Fprint(s.Stderr, "@sshpcap start\n@sshpcap watched\n")
			w := pcapgo.NewWriter(s.Stdout)
			w.WriteFileHeader(1000, layers.LinkTypeEthernet)
			return 0
		}, capture.LostState, "by itself", 0},
		{"connection breaks", func(s *sshserver.Session) int {
			tcpdump{give: func(h *helper) { burst(9, 4)(h); h.CloseConnection() }}.run(s)
			return sshserver.NoStatus
		}, capture.LostState, "", 4},
		{"a banner", func(s *sshserver.Session) int {
			fmt.Fprintf(s.Stdout, "Welcome to \x1b[31mproduction\x1b[0m!\nToday is a good day for\nbanners.\n")
			return 0
		}, capture.NotOpened, "Welcome to", 0},
		{"garbage for ever", func(s *sshserver.Session) int {
			for {
				if _, err := s.Stdout.Write(bytes.Repeat([]byte("y\n"), 4096)); err != nil {
					return 1
				}
			}
		}, capture.NotOpened, "not a packet stream", 0},
		{"nonsense in the middle", tcpdump{give: func(h *helper) {
			burst(9, 4)(h)
			h.Stdout.Write(bytes.Repeat([]byte{0xff}, 10_000))
		}}.run, capture.LostState, "", 4},
		{"nothing at all", func(s *sshserver.Session) int { return 0 }, capture.NotOpened, "", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, "x.pcapng", instance(t, "good", tcpdump{give: burst(1, 50)}.run), instance(t, "bad", test.handler))
			failed := false
			report, err := f.run(t, func() bool {
				for len(f.events) > 0 {
					e := <-f.events
					failed = failed || e.Instance == "bad" && (e.Kind == capture.Failed || e.Kind == capture.Lost)
				}
				return failed && f.Progress.Packets.Load() == int64(50+test.packets)
			})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]int{"good:eth0": 50}
			if test.packets > 0 {
				want["bad:eth0"] = test.packets
			}
			checkAll(t, read(t, f.path), want)
			checkSums(t, report)
			good, bad := report.Instances[0], report.Instances[1]
			if good.State != capture.OK || bad.State != test.state || !strings.Contains(bad.Problem, test.problem) || bad.Problem == "" || bad.Hint == "" {
				t.Errorf("good: %q %q; bad: %q %q, hint %q", good.State, good.Problem, bad.State, bad.Problem, bad.Hint)
			}
			if strings.ContainsAny(bad.Problem, "\x1b\n") {
				t.Errorf("the problem is not fit for a terminal: %q", bad.Problem)
			}
		})
	}
}

// One of five cannot even be logged in to.
func TestOneOfFiveIsNotReached(t *testing.T) {
	stranger := &sshserver.Server{}
	at(t, "stranger", stranger)
	for name, spoil := range map[string]func(end *sshx.Endpoint, server *sshserver.Server){
		"dial": func(_ *sshx.Endpoint, server *sshserver.Server) { server.Close() },
		"host key": func(end *sshx.Endpoint, _ *sshserver.Server) {
			end.HostKeyCallback = ssh.FixedHostKey(stranger.PublicKey())
		},
		"login": func(end *sshx.Endpoint, _ *sshserver.Server) { end.User = "nobody" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var instances []capture.Instance
			want := make(map[string]int)
			for i := range 5 {
				server := &sshserver.Server{User: "u", Password: "p", Handler: tcpdump{give: burst(byte(i), 20)}.run}
				name := fmt.Sprint("i", i)
				in := at(t, name, server)
				end := endpoint(server)
				end.Auth = func(context.Context) ([]ssh.AuthMethod, error) { return []ssh.AuthMethod{ssh.Password("p")}, nil }
				if i == 2 {
					spoil(&end, server)
				} else {
					want[name+":eth0"] = 20
				}
				dialer := new(sshx.Dialer)
				in.Dial = func(ctx context.Context) (*sshx.Conn, error) { return dialer.DialEndpoint(ctx, end) }
				instances = append(instances, in)
			}
			f := newFixture(t, "x.pcapng", instances...)
			report, err := f.run(t, f.packets(80))
			if err != nil {
				t.Fatal(err)
			}
			checkAll(t, read(t, f.path), want)
			for i, in := range report.Instances {
				if state := in.State; (i == 2) != (state == capture.NotOpened) || i != 2 && state != capture.OK {
					t.Errorf("%s: %s %q", in.Name, state, in.Problem)
				}
			}
		})
	}
}

func TestRequireAll(t *testing.T) {
	bad := instance(t, "bad", func(*sshserver.Session) int { return 127 })
	f := newFixture(t, "x.pcapng", instance(t, "good", tcpdump{give: busy(1)}.run), bad)
	f.RequireAll = true
	report, err := f.run(t, nil)
	if !errors.Is(err, capture.ErrRequired) || report.End != capture.EndRequired {
		t.Errorf("error %v, end %q", err, report.End)
	}
}

func TestNothingCapturedLeavesNoFile(t *testing.T) {
	f := newFixture(t, "x.pcapng", instance(t, "bad", func(*sshserver.Session) int { return 127 }))
	report, err := f.run(t, nil)
	if !errors.Is(err, capture.ErrNothing) || report.Output.Path != "" {
		t.Errorf("error %v, output %q", err, report.Output.Path)
	}
	if _, err := os.Stat(f.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}

func TestSilentCaptureLeavesAValidFile(t *testing.T) {
	for _, name := range []string{"x.pcapng", "x.pcap"} {
		f := newFixture(t, name, instance(t, "quiet", tcpdump{}.run))
		if _, err := f.run(t, func() bool { return f.Progress.Capturing.Load() == 1 }); err != nil {
			t.Fatal(err)
		}
		if got := countRecords(t, f.path); got != 0 {
			t.Errorf("%s: %d packets", name, got)
		}
	}
}

func TestExistingOutput(t *testing.T) {
	dialled := false
	in := instance(t, "bad", func(*sshserver.Session) int { return 127 })
	dial := in.Dial
	in.Dial = func(ctx context.Context) (*sshx.Conn, error) { dialled = true; return dial(ctx) }
	f := newFixture(t, "x.pcapng", in)
	if err := os.WriteFile(f.path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.run(t, nil); !errors.Is(err, fs.ErrExist) || dialled {
		t.Errorf("error %v, dialled %v", err, dialled)
	}
	f.Output.Overwrite = true // but it fails before the first packet
	f.run(t, nil)
	if text, _ := os.ReadFile(f.path); string(text) != "precious" {
		t.Errorf("a failed capture left %q", text)
	}
	f = newFixture(t, "x.pcapng", instance(t, "good", tcpdump{give: burst(1, 9)}.run))
	os.WriteFile(f.path, []byte("precious"), 0o644)
	f.Output.Overwrite = true
	if _, err := f.run(t, f.packets(9)); err != nil {
		t.Fatal(err)
	}
	checkAll(t, read(t, f.path), map[string]int{"good:eth0": 9})
	names, _ := filepath.Glob(filepath.Join(filepath.Dir(f.path), ".*"))
	if info, _ := os.Stat(f.path); info.Mode().Perm() != 0o600 || len(names) != 0 {
		t.Errorf("mode %v, left over %v", info.Mode(), names)
	}
}

func TestBadOutputs(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "no", "such.pcap")} {
		f := newFixture(t, "x.pcapng", instance(t, "a", tcpdump{}.run))
		f.Output.Path = path
		var problem *capture.Error
		if _, err := f.run(t, nil); !errors.As(err, &problem) || !problem.Usage || problem.Tip == "" {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	f := newFixture(t, "x.pcapng", instance(t, "a", tcpdump{give: busy(1)}.run), instance(t, "b", tcpdump{give: busy(2)}.run))
	f.Output.Path = "/dev/full"
	report, err := f.run(t, nil)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space") || report.End != capture.EndOutput {
		t.Errorf("error %v, end %q", err, report.End)
	}
	for _, in := range report.Instances {
		if in.State != capture.OK && in.State != capture.Unneeded {
			t.Errorf("%s: %s %s", in.Name, in.State, in.Problem)
		}
	}
}

// alone runs the test in a process of its own, where it reports true: a limit of the process would be one of all other
// tests, too, and of what the testing package itself writes.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv("SSHPCAP_TEST_ALONE") == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "SSHPCAP_TEST_ALONE="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// A disk that fills up in the middle: what is counted as written is in the file, to the packet.
func TestDiskFullInTheMiddle(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, name := range []string{"x.pcapng", "x.pcap"} {
		f := newFixture(t, name, instance(t, "a", tcpdump{give: busy(1)}.run), instance(t, "b", tcpdump{give: busy(2)}.run))
		// A limit on the size of files stands for the full disk: the write fails the same way.
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 300_001, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		report, err := f.run(t, nil)
		syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)
		if !errors.Is(err, syscall.EFBIG) || report.End != capture.EndOutput {
			t.Fatalf("error %v, end %q", err, report.End)
		}
		checkSums(t, report)
		if got := countRecords(t, f.path); int64(got) != report.Packets || got < 2000 {
			t.Errorf("%s: %d packets in the file, %d reported", name, got, report.Packets)
		}
	}
}

// Packets may be so many that what the instance has to tell comes only when they are read, and then they are no proof.
func TestFloodBeforeWatched(t *testing.T) {
	t.Parallel()
	for name, word := range map[string]string{"told late": "@sshpcap watched\n", "never told": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, "x.pcapng", instance(t, "a", func(s *sshserver.Session) int {
				io.WriteString(s.Stderr, "@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n")
				w := pcapgo.NewWriterNanos(s.Stdout)
				w.WriteFileHeader(262144, layers.LinkTypeEthernet)
				data := make([]byte, 60_000)
				for range 100 { // more than the server may send before anything is read
					if w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(data), Length: len(data)}, data) != nil {
						return 1
					}
				}
				io.WriteString(s.Stderr, word)
				if word == "" {
					<-s.Context().Done()
				}
				io.Copy(io.Discard, s.Stdin)
				io.WriteString(s.Stderr, "100 packets captured\n100 packets received by filter\n0 packets dropped by kernel\n")
				return 0
			}))
			f.ConnectTimeout = 2 * time.Second
			var until func() bool
			if word != "" {
				until = f.packets(100)
			}
			report, err := f.run(t, until)
			if err != nil {
				t.Fatal(err)
			}
			want := capture.OK
			if word == "" {
				want = capture.LostState
			}
			if in := report.Instances[0]; in.State != want || report.Packets != 100 {
				t.Errorf("%s %q, %d packets", in.State, in.Problem, report.Packets)
			}
		})
	}
}

func TestReaderGoneWhileNothingHappens(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f := newFixture(t, "x.pcapng", instance(t, "quiet", tcpdump{}.run))
	f.Output = capture.Output{File: w}
	header := make([]byte, 8)
	gone := false
	_, err = f.run(t, func() bool {
		if !gone && f.Progress.Capturing.Load() == 1 {
			io.ReadFull(r, header) // the section is there before any packet
			r.Close()
			gone = true
		}
		return false
	})
	if !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error %v", err)
	}
	if want := []byte{0x0a, 0x0d, 0x0d, 0x0a}; !bytes.Equal(header[:4], want) {
		t.Errorf("the stream begins with %x", header)
	}
}

func TestTwoLinkTypesDoNotFitOnePcap(t *testing.T) {
	f := newFixture(t, "x.pcap", instance(t, "a", tcpdump{give: burst(1, 5)}.run),
		instance(t, "b", tcpdump{link: layers.LinkTypeLinuxSLL, give: burst(2, 5)}.run))
	_, err := f.run(t, nil)
	var problem *capture.Error
	if !errors.As(err, &problem) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"a:eth0", "b:eth0", "EN10MB", "LINUX_SLL"} {
		if !strings.Contains(problem.Problem, want) {
			t.Errorf("%q does not name %s", problem.Problem, want)
		}
	}
	if !strings.Contains(problem.Tip, ".pcapng") {
		t.Errorf("hint %q", problem.Tip)
	}
	if _, err := os.Stat(f.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}

func TestInstanceThatDoesNotEndIsCut(t *testing.T) {
	f := newFixture(t, "x.pcapng", instance(t, "good", tcpdump{give: burst(1, 5)}.run), instance(t, "stuck", tcpdump{give: burst(2, 5), hang: true}.run))
	f.Grace = 300 * time.Millisecond
	report, err := f.run(t, f.packets(10))
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, read(t, f.path), map[string]int{"good:eth0": 5, "stuck:eth0": 5})
	if good, stuck := report.Instances[0], report.Instances[1]; good.State != capture.OK || stuck.State != capture.CutState {
		t.Errorf("good %q, stuck %q", good.State, stuck.State)
	}
}

func TestCutDoesNotWait(t *testing.T) {
	f := newFixture(t, "x.pcapng", instance(t, "stuck", tcpdump{give: burst(2, 5), hang: true}.run))
	f.Grace = time.Hour
	cut := make(chan struct{})
	f.Cut = cut
	packets := f.packets(5)
	stopping, closed := false, false
	report, err := f.run(t, func() bool {
		for len(f.events) > 0 {
			if e := <-f.events; e.Kind == capture.Stopping {
				stopping = true
			}
		}
		if stopping && !closed {
			close(cut)
			closed = true
		}
		return packets()
	})
	if err != nil || report.Instances[0].State != capture.CutState {
		t.Errorf("error %v, state %q", err, report.Instances[0].State)
	}
	checkAll(t, read(t, f.path), map[string]int{"stuck:eth0": 5})
}

func TestSudoWhenItIsNeeded(t *testing.T) {
	commands := make(chan string, 10)
	f := newFixture(t, "x.pcapng", instance(t, "a", func(s *sshserver.Session) int {
		commands <- s.Command
		if !strings.Contains(s.Command, "d=sudo") {
			fmt.Fprintf(s.Stderr, "@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\ntcpdump: eth0: You don't have permission to perform this capture on that device\n(socket: Operation not permitted)\n")
			return 1
		}
		return tcpdump{give: burst(1, 5)}.run(s)
	}))
	report, err := f.run(t, f.packets(5))
	if err != nil || len(commands) != 2 || !report.Instances[0].Sudo {
		t.Errorf("error %v, %d commands, sudo %v", err, len(commands), report.Instances[0].Sudo)
	}
	f = newFixture(t, "y.pcapng", f.Instances...)
	f.Sudo = capture.SudoNever
	if _, err := f.run(t, nil); !errors.Is(err, capture.ErrNothing) || len(commands) != 3 {
		t.Errorf("never: error %v, %d commands", err, len(commands))
	}
}

func TestAlignClocks(t *testing.T) {
	const ahead = time.Hour
	var sent atomic.Int64
	shifted := tcpdump{ahead: ahead, give: func(h *helper) {
		now := time.Now().Add(ahead)
		sent.Store(now.UnixNano())
		h.packet(now, 1)
	}}
	f := newFixture(t, "x.pcapng", instance(t, "a", shifted.run))
	f.AlignClocks = true
	before := time.Now()
	report, err := f.run(t, f.packets(1))
	if err != nil {
		t.Fatal(err)
	}
	records, clock := read(t, f.path), report.Instances[0].Clock
	if clock == nil || (clock.Offset-ahead).Abs() > clock.Error+time.Millisecond {
		t.Fatalf("clock %v, want %v", clock, ahead)
	}
	if d := records[0].at.Sub(before); d.Abs() > 10*time.Second {
		t.Errorf("the packet is %v away from when it was sent", d)
	}
	if was := records[0].at.Add(-clock.Shift).UnixNano(); clock.Shift == 0 || was != sent.Load() {
		t.Errorf("shifted by %v from %d, not %d", clock.Shift, was, sent.Load())
	}
	raw, _ := os.ReadFile(f.path)
	if says := fmt.Sprintf("; %+d ns were added to the timestamps", clock.Shift); !bytes.Contains(raw, []byte(says)) || !bytes.Contains(raw, []byte("timestamps were shifted")) {
		t.Errorf("the file does not say%s", says)
	}
}

// The clock is measured over several round trips, the comment of the interface says what came of it, and one line warns
// of clocks that are off.
func TestClocksAreMeasured(t *testing.T) {
	fast := instance(t, "fast", tcpdump{ahead: 80 * time.Millisecond, give: burst(1, 1)}.run)
	slow := instance(t, "slow", tcpdump{ahead: -2 * time.Second, give: burst(2, 1)}.run)
	right := instance(t, "right", tcpdump{give: burst(3, 1)}.run)
	mute := instance(t, "mute", tcpdump{mute: true, give: burst(4, 1)}.run)
	f := newFixture(t, "x.pcapng", fast, slow, right, mute)
	var notes []string
	f.OnEvent = func(e capture.Event) {
		if e.Kind == capture.Note {
			notes = append(notes, e.Instance+": "+e.Text)
		}
	}
	report, err := f.run(t, f.packets(4))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(f.path)
	for i, want := range []time.Duration{80 * time.Millisecond, -2 * time.Second, 0, 0} {
		in := report.Instances[i]
		if c := in.Clock; c == nil || (c.Offset-want).Abs() > c.Error || c.Shift != 0 {
			t.Errorf("%s: %v, want %v", in.Name, c, want)
		}
	}
	if !bytes.Contains(raw, []byte("clock -")) || !bytes.Contains(raw, []byte("clock +")) {
		t.Error("no comment tells the clock")
	}
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "slow: its clock is ") || !strings.Contains(notes[0], "behind") || !strings.Contains(notes[0], ", and another one is off") {
		t.Errorf("notes: %q", notes)
	}
}

// An instance whose clock is ahead must not make the packets of the others late.
func TestClockAheadMakesNothingLate(t *testing.T) {
	const ahead = 3 * time.Second
	fast := instance(t, "fast", tcpdump{ahead: ahead, give: func(h *helper) {
		for range 20 {
			h.packet(time.Now().Add(ahead), 1)
			time.Sleep(10 * time.Millisecond) // the instance's own pace
		}
	}}.run)
	right := instance(t, "right", tcpdump{give: func(h *helper) {
		for range 20 {
			h.packet(time.Now(), 2)
			time.Sleep(10 * time.Millisecond)
		}
	}}.run)
	f := newFixture(t, "x.pcapng", fast, right)
	f.Window = 50 * time.Millisecond
	done := f.packets(20) // those of the right one; those of the fast one wait for their time
	report, err := f.run(t, done)
	if err != nil {
		t.Fatal(err)
	}
	checkAll(t, read(t, f.path), map[string]int{"fast:eth0": 20, "right:eth0": 20})
	for _, in := range report.Instances {
		if in.Interfaces[0].Late != 0 {
			t.Errorf("%s: %d late", in.Name, in.Interfaces[0].Late)
		}
	}
}

// One host under two names would capture its own capture.
func TestOneHostUnderTwoNames(t *testing.T) {
	handler := func(s *sshserver.Session) int {
		fmt.Fprintln(s.Stderr, "@sshpcap host 1b4e28ba-2fa1-11d2-883f-0016d3cca427 net:[4026531840]")
		return tcpdump{give: burst(1, 5)}.run(s)
	}
	f := newFixture(t, "x.pcapng", instance(t, "a", handler), instance(t, "b", handler))
	report, err := f.run(t, f.packets(5))
	if err != nil {
		t.Fatal(err)
	}
	first, second := report.Instances[0], report.Instances[1]
	if first.State != capture.OK {
		first, second = second, first
	}
	if first.State != capture.OK || second.State != capture.NotOpened || !strings.Contains(second.Problem, "the same host as "+first.Name) {
		t.Errorf("%s %q, %s %q", first.State, first.Problem, second.State, second.Problem)
	}
}

func TestNamesAreUnique(t *testing.T) {
	in := instance(t, "a", tcpdump{}.run)
	f := newFixture(t, "x.pcapng", in, in)
	var problem *capture.Error
	if _, err := f.run(t, nil); !errors.As(err, &problem) || !problem.Usage {
		t.Errorf("error %v", err)
	}
}

func TestFileIsReadableWhileItIsWritten(t *testing.T) {
	f := newFixture(t, "x.pcapng", instance(t, "a", tcpdump{give: burst(1, 25)}.run))
	var seen []record
	packets := f.packets(25)
	if _, err := f.run(t, func() bool {
		if packets() && len(seen) == 0 {
			if raw, err := os.ReadFile(f.path); err == nil && len(raw) > 25*92 {
				seen = slices.Clone(read(t, f.path))
			}
		}
		return len(seen) > 0
	}); err != nil {
		t.Fatal(err)
	}
	checkAll(t, seen, map[string]int{"a:eth0": 25})
}
