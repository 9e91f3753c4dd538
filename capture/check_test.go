package capture_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// box plays an instance: it answers what a check sends as a host with tcpdump does.
type box struct {
	helper func(s *sshserver.Session) int // nil = a tcpdump that captures
	about  func(s *sshserver.Session) int // nil = what a Linux tells
	bulk   func(s *sshserver.Session) int // nil = what is asked for

	mu    sync.Mutex
	lines []string // of helpers
}

const aboutText = `@sshpcap system
Linux 6.1.0 x86_64
@sshpcap version
tcpdump version 4.99.3
@sshpcap link
1: lo: <LOOPBACK,UP> mtu 65536
2: eth0: <BROADCAST,UP> mtu 1500
@sshpcap end
`

func (b *box) run(s *sshserver.Session) int {
	do := b.helper
	switch {
	case strings.Contains(s.Command, "@sshpcap ") && strings.Contains(s.Command, "part system"):
		do = b.about
		if do == nil {
			do = func(s *sshserver.Session) int { io.WriteString(s.Stdout, aboutText); return 0 }
		}
	case strings.Contains(s.Command, "dd if=/dev/zero"):
		do = b.bulk
		if do == nil {
			do = func(s *sshserver.Session) int {
				var blocks int
				_, after, _ := strings.Cut(s.Command, "count=")
				fmt.Sscan(after, &blocks)
				s.Stdout.Write(make([]byte, blocks*remote.BulkBlock))
				return 0
			}
		}
	default:
		b.mu.Lock()
		b.lines = append(b.lines, s.Command)
		b.mu.Unlock()
		if do == nil {
			do = tcpdump{}.run
		}
	}
	return do(s)
}

// says is a helper that writes to standard error and ends.
func says(text string, status int) func(*sshserver.Session) int {
	return func(s *sshserver.Session) int {
		fmt.Fprintf(s.Stderr, "@sshpcap clock %d.5\n@sshpcap uid 1000\n@sshpcap host %s net:[1]\n@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n@sshpcap watched\n%s", time.Now().Unix(), s.Connection, text)
		return status
	}
}

// states are the steps of an instance in one text, a letter each: o(k), f(ailed), s(kipped).
func states(in capture.InstanceCheck) (text string) {
	for _, s := range in.Steps {
		text += string(s.State[:1])
	}
	return text
}

// check checks instances, and that nothing runs on the servers afterwards.
func check(t *testing.T, cfg capture.Config, servers ...*sshserver.Server) capture.CheckReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	rep, err := capture.Check(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		deadline := time.Now().Add(10 * time.Second)
		for s.Sessions()+s.Connections() > 0 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n, m := s.Sessions(), s.Connections(); n+m > 0 {
			t.Errorf("%d commands and %d connections are left", n, m)
		}
	}
	return rep
}

func one(t *testing.T, rep capture.CheckReport) capture.InstanceCheck {
	t.Helper()
	if len(rep.Instances) != 1 {
		t.Fatalf("%d instances", len(rep.Instances))
	}
	return rep.Instances[0]
}

// TestCheck: all is well, and all is known.
func TestCheck(t *testing.T) {
	t.Parallel()
	b := &box{}
	server := &sshserver.Server{Handler: b.run, Version: "SSH-2.0-Box"}
	in := at(t, "web1", server)
	in.Interfaces = []string{"eth0", "lo"}
	rep := check(t, capture.Config{Instances: []capture.Instance{in}, Filter: "tcp port 80"}, server)
	got := one(t, rep)
	if !got.Works || rep.Works() != 1 || states(got) != "oooooooo" || len(got.Problems) != 0 {
		t.Errorf("%+v", got)
	}
	if got.Address != server.Addr() || got.Server != "SSH-2.0-Box" || got.System != "Linux 6.1.0 x86_64" || got.Helper != "/usr/bin/tcpdump" || got.HelperVersion != "4.99.3" {
		t.Errorf("%+v", got)
	}
	if got.Clock == nil || got.Clock.Offset.Abs() > time.Second || got.RoundTrip == nil || got.Throughput == nil {
		t.Errorf("clock %v, round trip %v, throughput %v", got.Clock, got.RoundTrip, got.Throughput)
	}
	if got.Sessions == nil || *got.Sessions != (capture.Room{Free: 10, More: true}) {
		t.Errorf("sessions %+v", got.Sessions)
	}
	if len(got.Interfaces) != 2 || got.Interfaces[1].Name != "eth0" || got.Interfaces[1].State != "up" {
		t.Errorf("interfaces %+v", got.Interfaces)
	}
	want := []capture.InterfaceCheck{{Interface: "eth0", LinkType: "EN10MB", Works: true}, {Interface: "lo", LinkType: "EN10MB", Works: true}}
	if fmt.Sprint(got.Captures) != fmt.Sprint(want) {
		t.Errorf("captures %+v", got.Captures)
	}
	for _, line := range b.lines {
		if !strings.Contains(line, "(tcp port 80) and less 0") {
			t.Errorf("a helper whose filter may let something through: %.2000s", line)
		}
	}
	if text, err := json.Marshal(rep); err != nil || strings.Contains(string(text), `"addresses":null`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestCheckSteps: each problem fails its step, the steps before it have passed, and those behind it are not reached.
func TestCheckSteps(t *testing.T) {
	t.Parallel()
	refused := errors.New("no")
	for _, test := range []struct {
		name    string
		server  *sshserver.Server
		box     *box
		dial    error
		change  func(*sshx.Endpoint)
		states  string
		problem string
	}{
		{name: "unreachable", change: func(e *sshx.Endpoint) { e.Port = 1 }, states: "fsssssss", problem: "refused"},
		{name: "not found", dial: &capture.Error{Problem: "App 'x' not found."}, states: "fsssssss", problem: "App 'x'"},
		{name: "host key", change: func(e *sshx.Endpoint) {
			e.HostKeyCallback = func(string, net.Addr, ssh.PublicKey) error { return refused }
		}, states: "ofssssss", problem: "no"},
		{name: "login", server: &sshserver.Server{Password: "x"}, states: "oofsssss", problem: "refused"},
		{name: "no code", server: &sshserver.Server{Password: "x"}, change: func(e *sshx.Endpoint) {
			e.Auth = func(context.Context) ([]ssh.AuthMethod, error) { return nil, refused }
		}, states: "oofsssss", problem: "no"},
		{name: "no commands", server: &sshserver.Server{RefuseExec: true}, states: "oofsssss", problem: "will not run"},
		{name: "no shell", box: &box{helper: func(s *sshserver.Session) int { fmt.Fprintln(s.Stderr, "This account is not available"); return 1 }}, states: "oofsssss", problem: "login shell"},
		{name: "welcome", box: &box{helper: func(s *sshserver.Session) int { fmt.Fprintln(s.Stdout, "Welcome to this machine!"); return 0 }}, states: "oofsssss", problem: "Welcome"},
		{name: "no helper", box: &box{helper: func(s *sshserver.Session) int {
			fmt.Fprint(s.Stderr, "@sshpcap uid 0\n@sshpcap nohelper\n")
			return 127
		}}, states: "oooofsss", problem: "no capture program"},
		{name: "broken helper", box: &box{helper: says("tcpdump: cannot load libpcap.so\n", 1)}, states: "oooofsss", problem: "libpcap.so"},
		{name: "rights", box: &box{helper: says("tcpdump: eth0: You don't have permission to capture on that device\n", 1)}, states: "ooooofss", problem: "permission"},
		{name: "interface", box: &box{helper: says("tcpdump: eth0: No such device exists\n", 1)}, states: "oooooofs", problem: "no such interface"},
		{name: "filter", box: &box{helper: says("tcpdump: can't parse filter expression: syntax error\n", 1)}, states: "ooooooof", problem: "syntax error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server, box := cmp.Or(test.server, &sshserver.Server{}), cmp.Or(test.box, &box{})
			server.Handler = box.run
			in := at(t, "web1", server)
			end := endpoint(server)
			if test.change != nil {
				test.change(&end)
			}
			in.Dial = func(ctx context.Context) (*sshx.Conn, error) { return new(sshx.Dialer).DialEndpoint(ctx, end) }
			if test.dial != nil {
				in.Dial = func(context.Context) (*sshx.Conn, error) { return nil, test.dial }
			}
			rep := check(t, capture.Config{Instances: []capture.Instance{in}, Filter: "x"}, server)
			got := one(t, rep)
			if got.Works || rep.Works() != 0 || states(got) != test.states || len(got.Problems) != 1 || !strings.Contains(got.Problems[0].Problem, test.problem) {
				t.Errorf("works %v, steps %s, want %s with %q: %+v", got.Works, states(got), test.states, test.problem, got.Problems)
			}
			if !strings.HasPrefix(test.states, "ooo") != (got.Clock == nil && got.HelperVersion == "") {
				t.Errorf("clock %v, version %q", got.Clock, got.HelperVersion)
			}
		})
	}
}

// TestCheckSessions: a server with room for few sessions on a connection, as many as there are interfaces or not, works as
// it does for a capture, and the room is told.
func TestCheckSessions(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2} {
		server := &sshserver.Server{Handler: (&box{}).run, MaxSessions: most}
		in := at(t, "web1", server)
		in.Interfaces = []string{"eth0", "lo"}
		got := one(t, check(t, capture.Config{Instances: []capture.Instance{in}}, server))
		if !got.Works || got.Sessions == nil || *got.Sessions != (capture.Room{Free: most}) || got.HelperVersion == "" || got.Throughput == nil {
			t.Errorf("MaxSessions %d: %+v, %+v", most, got, got.Sessions)
		}
	}
}

// TestCheckSudo: the helper is tried as a capture tries it.
func TestCheckSudo(t *testing.T) {
	t.Parallel()
	denied := says("tcpdump: eth0: You don't have permission to capture on that device\n", 1)
	sudo := func(s *sshserver.Session) int {
		if !strings.Contains(s.Command, "d=sudo") {
			return denied(s)
		}
		return tcpdump{}.run(s)
	}
	for when, works := range map[capture.Sudo]bool{capture.SudoAuto: true, capture.SudoAlways: true, capture.SudoNever: false} {
		server := &sshserver.Server{Handler: (&box{helper: sudo}).run, MaxSessions: 1}
		got := one(t, check(t, capture.Config{Instances: []capture.Instance{at(t, "web1", server)}, Sudo: when}, server))
		if got.Works != works {
			t.Errorf("sudo %d: %+v", when, got)
		}
	}
}

// TestCheckInterfaces: of two interfaces one is there. The hint names those that are.
func TestCheckInterfaces(t *testing.T) {
	t.Parallel()
	server := &sshserver.Server{Handler: (&box{helper: func(s *sshserver.Session) int {
		if strings.Contains(s.Command, "nope0") {
			return says("tcpdump: nope0: No such device exists\n", 1)(s)
		}
		return tcpdump{}.run(s)
	}}).run}
	in := at(t, "web1", server)
	in.Interfaces = []string{"eth0", "nope0"}
	got := one(t, check(t, capture.Config{Instances: []capture.Instance{in}}, server))
	if got.Works || states(got) != "oooooofo" || !got.Captures[0].Works || got.Captures[1].Works {
		t.Errorf("%+v", got)
	}
	if p := got.Problems; len(p) != 1 || p[0].Interface != "nope0" || p[0].Step != capture.StepInterface || !strings.Contains(p[0].Hint, "it has lo, eth0") {
		t.Errorf("%+v", p)
	}
	in.Interfaces = []string{"nope0", "nope01"}
	got = one(t, check(t, capture.Config{Instances: []capture.Instance{in}}, server))
	if p := got.Problems; len(p) != 1 || p[0].Interface != "" {
		t.Errorf("the same problem of both interfaces: %+v", p)
	}
}

// TestCheckFilterAsItIs: what only the filter that lets nothing through fails with is no problem, and packets that come
// with the filter as it is are not in anybody's way.
func TestCheckFilterAsItIs(t *testing.T) {
	t.Parallel()
	var packets atomic.Int64
	server := &sshserver.Server{Handler: (&box{helper: func(s *sshserver.Session) int {
		if strings.Contains(s.Command, "less 0") {
			return says("tcpdump: expression rejects all packets\n", 1)(s)
		}
		return tcpdump{give: func(h *helper) { busy(1)(h); packets.Store(int64(h.written)) }}.run(s)
	}}).run}
	rep := check(t, capture.Config{Instances: []capture.Instance{at(t, "web1", server)}, Filter: "len > 0"}, server)
	if got := one(t, rep); !got.Works || packets.Load() == 0 {
		t.Errorf("%d packets, %+v", packets.Load(), got.Problems)
	}
}

// TestCheckSameHost: two names for one host.
func TestCheckSameHost(t *testing.T) {
	t.Parallel()
	server := &sshserver.Server{Handler: (&box{helper: func(s *sshserver.Session) int {
		fmt.Fprintln(s.Stderr, "@sshpcap uid 0\n@sshpcap host boot net:[1]")
		return tcpdump{}.run(s)
	}}).run}
	a := at(t, "web1", server)
	b := a
	b.Name = "alias"
	rep := check(t, capture.Config{Instances: []capture.Instance{a, b}}, server)
	if !rep.Instances[0].Works || rep.Instances[1].Works || rep.Works() != 1 || !strings.Contains(rep.Instances[1].Problems[0].Problem, "same host as web1") {
		t.Errorf("%+v", rep.Instances)
	}
}

// TestCheckClock: a clock that is off is measured as for a capture, and is worth a note.
func TestCheckClock(t *testing.T) {
	t.Parallel()
	server := &sshserver.Server{Handler: (&box{helper: tcpdump{ahead: -2 * time.Second}.run}).run}
	cfg := capture.Config{Instances: []capture.Instance{at(t, "web1", server)}}
	got := one(t, check(t, cfg, server))
	if c := got.Clock; !got.Works || c == nil || (c.Offset+2*time.Second).Abs() > c.Error || c.Shift != 0 {
		t.Errorf("%v, clock %v", got.Works, c)
	}
	if len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "behind") || !strings.Contains(got.Notes[0], "--align-clocks") {
		t.Errorf("notes %q", got.Notes)
	}
	cfg.AlignClocks = true
	if got := one(t, check(t, cfg, server)); len(got.Notes) != 0 {
		t.Errorf("notes %q", got.Notes)
	}
}

// TestCheckLinkTypes: what a pcap file cannot hold.
func TestCheckLinkTypes(t *testing.T) {
	t.Parallel()
	a := at(t, "web1", &sshserver.Server{Handler: (&box{}).run})
	b := at(t, "web2", &sshserver.Server{Handler: (&box{helper: tcpdump{link: layers.LinkTypeRaw}.run}).run})
	cfg := capture.Config{Instances: []capture.Instance{a, b}, Output: capture.Output{Format: capture.Pcap}}
	if rep := check(t, cfg); rep.Works() != 0 || !strings.Contains(rep.Problem, "one link type only") || rep.Hint == "" {
		t.Errorf("%+v", rep)
	}
	cfg.Output.Format = capture.Pcapng
	if rep := check(t, cfg); rep.Works() != 2 || rep.Problem != "" {
		t.Errorf("%+v", rep)
	}
}

// TestCheckOutput: what a capture says of its output before it connects.
func TestCheckOutput(t *testing.T) {
	t.Parallel()
	b := &box{}
	in := at(t, "web1", &sshserver.Server{Handler: b.run})
	dir := t.TempDir()
	there := filepath.Join(dir, "a.pcapng")
	if err := os.WriteFile(there, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]capture.Config{
		"exists":       {Output: capture.Output{Path: there}},
		"no directory": {Output: capture.Output{Path: filepath.Join(dir, "no", "a.pcapng")}},
		"rotation":     {Output: capture.Output{Path: filepath.Join(dir, "b.pcapng")}, Rotation: capture.Rotation{Keep: 3}},
		"snaplen":      {Snaplen: 1 << 20},
	} {
		cfg.Instances = []capture.Instance{in}
		_, err := capture.Check(context.Background(), cfg)
		var problem *capture.Error
		if !errors.As(err, &problem) || !problem.Usage || problem.Tip == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(b.lines) > 0 {
		t.Error("it connected")
	}
	cfg := capture.Config{Instances: []capture.Instance{in}, Output: capture.Output{Path: there, Overwrite: true}}
	if got := one(t, check(t, cfg)); !got.Works {
		t.Errorf("%+v", got)
	}
	if text, _ := os.ReadFile(there); string(text) != "x" {
		t.Errorf("the output now holds %q", text)
	}
}

// TestCheckHostile: an instance that floods every question, or never answers one, is bounded in time and memory.
func TestCheckHostile(t *testing.T) {
	t.Parallel()
	flood := func(s *sshserver.Session) int {
		block := []byte(strings.Repeat("@sshpcap dev\n", 5000))
		for s.Context().Err() == nil {
			if _, err := s.Stdout.Write(block); err != nil {
				break
			}
		}
		return 0
	}
	silent := func(s *sshserver.Session) int { <-s.Context().Done(); return 0 }
	obedient := func(s *sshserver.Session) int { io.Copy(io.Discard, s.Stdin); return 0 }
	for name, bad := range map[string]func(*sshserver.Session) int{"flood": flood, "silent": silent, "obedient": obedient} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			server := &sshserver.Server{IgnoreKeepAlive: true, Handler: (&box{about: bad, bulk: func(s *sshserver.Session) int { asked.Add(1); return bad(s) }}).run}
			start := time.Now()
			got := one(t, check(t, capture.Config{Instances: []capture.Instance{at(t, "web1", server)}, ConnectTimeout: 3 * time.Second, Grace: time.Second}, server))
			if !got.Works || got.HelperVersion != "" || got.RoundTrip != nil || asked.Load() == 0 {
				t.Errorf("%+v", got)
			}
			if (name == "flood") != (got.Throughput != nil) {
				t.Errorf("throughput %v", got.Throughput)
			}
			t.Logf("%v", time.Since(start))
		})
	}
}

// TestCheckHanging: a helper that says nothing fails when its time is over, and the rest is not tried.
func TestCheckHanging(t *testing.T) {
	t.Parallel()
	var others atomic.Int64
	other := func(*sshserver.Session) int { others.Add(1); return 0 }
	server := &sshserver.Server{Handler: (&box{about: other, bulk: other, helper: func(s *sshserver.Session) int { io.Copy(io.Discard, s.Stdin); return 0 }}).run}
	got := one(t, check(t, capture.Config{Instances: []capture.Instance{at(t, "web1", server)}, ConnectTimeout: 300 * time.Millisecond}, server))
	if got.Works || states(got) != "oofsssss" || others.Load() != 0 || !strings.Contains(got.Problems[0].Problem, "within 300ms") {
		t.Errorf("%d others, %+v", others.Load(), got)
	}
}

// TestCheckUnstoppable: a helper that does not end when it is asked to is a problem: so would the capture be.
func TestCheckUnstoppable(t *testing.T) {
	t.Parallel()
	server := &sshserver.Server{Handler: (&box{helper: tcpdump{hang: true}.run}).run}
	got := one(t, check(t, capture.Config{Instances: []capture.Instance{at(t, "web1", server)}, Grace: 200 * time.Millisecond}, server))
	if got.Works || len(got.Problems) != 1 || got.Problems[0].Step != capture.StepHelper || !strings.Contains(got.Problems[0].Problem, "did not end in time") {
		t.Errorf("%+v", got)
	}
}

// TestCheckStopped: a ctx that ends, at every point of a check, ends it soon, and the helper as it should be.
func TestCheckStopped(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"dial", "helper", "about", "bulk"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			waits := func(name string) func(*sshserver.Session) int {
				if name != where {
					return nil
				}
				return func(s *sshserver.Session) int { stop(); io.Copy(io.Discard, s.Stdin); return 0 }
			}
			server := &sshserver.Server{Handler: (&box{helper: waits("helper"), about: waits("about"), bulk: waits("bulk")}).run}
			in := at(t, "web1", server)
			if where == "dial" {
				in.Dial = func(ctx context.Context) (*sshx.Conn, error) { stop(); <-ctx.Done(); return nil, ctx.Err() }
			}
			start := time.Now()
			rep, err := capture.Check(ctx, capture.Config{Instances: []capture.Instance{in}})
			if err != nil || time.Since(start) > 5*time.Second {
				t.Errorf("%v, after %v", err, time.Since(start))
			}
			reached := where == "about" || where == "bulk"
			got := one(t, rep)
			if got.Works != reached || !reached && !strings.Contains(got.Problems[0].Problem, "stopped before") {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestCheckTakesNothing: the whole of a check moves few bytes, whatever the instance has.
func TestCheckTakesNothing(t *testing.T) {
	t.Parallel()
	var read atomic.Int64
	server := &sshserver.Server{Handler: (&box{}).run}
	in := at(t, "web1", server)
	end := endpoint(server)
	end.DialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &countingConn{conn, &read}, err
	}
	in.Dial = func(ctx context.Context) (*sshx.Conn, error) { return new(sshx.Dialer).DialEndpoint(ctx, end) }
	if got := one(t, check(t, capture.Config{Instances: []capture.Instance{in}}, server)); !got.Works {
		t.Errorf("%+v", got)
	}
	if n := read.Load(); n > 2<<20 {
		t.Errorf("%d bytes came", n)
	}
}

type countingConn struct {
	net.Conn
	read *atomic.Int64
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// TestList asks instances of every kind, each for itself.
func TestList(t *testing.T) {
	t.Parallel()
	good := at(t, "good", &sshserver.Server{Handler: (&box{}).run, Version: "SSH-2.0-Box"})
	nologin := at(t, "nologin", &sshserver.Server{Handler: func(s *sshserver.Session) int { fmt.Fprintln(s.Stderr, "not available"); return 1 }})
	hangs := at(t, "hangs", &sshserver.Server{Handler: func(s *sshserver.Session) int { io.Copy(io.Discard, s.Stdin); return 0 }})
	forced := at(t, "forced", &sshserver.Server{})
	down := at(t, "down", &sshserver.Server{Password: "x"})
	list := capture.List(context.Background(), capture.Config{Instances: []capture.Instance{good, nologin, hangs, forced, down}, ConnectTimeout: time.Second})
	for i, want := range []struct{ state, problem string }{{"up", ""}, {"failed", "login shell"}, {"failed", "in time"}, {"failed", "does not run commands"}, {"failed", "refused"}} {
		l := list[i]
		if l.State != want.state || !strings.Contains(l.Problem, want.problem) || (l.Problem == "") != (l.Hint == "") {
			t.Errorf("%+v, want %+v", l, want)
		}
	}
	l := list[0]
	if l.Name != "good" || l.Target != "good" || l.Address == "" || l.Details != "Linux 6.1.0 x86_64, SSH-2.0-Box" || len(l.Interfaces) != 2 {
		t.Errorf("%+v", l)
	}
}
