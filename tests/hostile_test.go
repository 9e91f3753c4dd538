package tests

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sshpcap/sshpcap/internal/rawserver"
	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/tests/bed"
)

// goodHelper plays a tcpdump that captures a packet each millisecond. What it has sent is counted.
type goodHelper struct {
	sent  atomic.Int64
	ahead time.Duration // of its packets' times
}

func (g *goodHelper) run(s *sshserver.Session) int {
	ended := make(chan struct{}) // closed at the end of the input
	s.Go(func() { io.Copy(io.Discard, s.Stdin); close(ended) })
	io.WriteString(s.Stderr, introduction(time.Now()))
	io.WriteString(s.Stdout, pcapHeader(262144, 1))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, err := io.WriteString(s.Stdout, pcapRecord(time.Now().Add(g.ahead), strings.Repeat("g", 60))); err != nil {
				return 1
			}
			g.sent.Add(1)
		case <-ended:
			fmt.Fprintf(s.Stderr, "%d packets captured\n%d packets received by filter\n0 packets dropped by kernel\n", g.sent.Load(), g.sent.Load())
			return 0
		case <-s.Context().Done():
			return 1
		}
	}
}

// introduction is what our script on an instance says before the helper does.
func introduction(clock time.Time) string {
	return fmt.Sprintf("@sshpcap clock %d.%09d\n@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n@sshpcap watched\n", clock.Unix(), clock.Nanosecond())
}

func pcapHeader(snaplen, link uint32) string {
	b := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	return string(little.AppendUint32(little.AppendUint32(b, snaplen), link))
}

func pcapRecord(at time.Time, data string) string {
	return recordHeader(uint32(at.Unix()), uint32(at.Nanosecond()/1000), uint32(len(data)), uint32(len(data))) + data
}

func recordHeader(sec, sub, captured, length uint32) string {
	b := little.AppendUint32(little.AppendUint32(nil, sec), sub)
	return string(little.AppendUint32(little.AppendUint32(b, captured), length))
}

// loopback is a home whose ssh_config knows servers of this process.
type loopback struct {
	t      testing.TB
	home   string
	config strings.Builder
	known  strings.Builder
}

func newLoopback(t testing.TB) *loopback {
	t.Helper()
	l := &loopback{t: t, home: t.TempDir()}
	if err := os.Mkdir(filepath.Join(l.home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	return l
}

// add makes a server known under a name. More are lines of its Host block.
func (l *loopback) add(name, address string, key ssh.PublicKey, more ...string) {
	host, port, _ := strings.Cut(address, ":")
	fmt.Fprintf(&l.config, "Host %s\n  HostName %s\n  Port %s\n  User tester\n", name, host, port)
	for _, line := range more {
		fmt.Fprintf(&l.config, "  %s\n", line)
	}
	if key != nil {
		fmt.Fprintln(&l.known, knownhosts.Line([]string{knownhosts.Normalize(address)}, key))
	}
}

// server starts one whose command is a func.
func (l *loopback) server(name string, s *sshserver.Server, more ...string) *sshserver.Server {
	l.t.Helper()
	if err := s.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { s.Close() })
	l.add(name, s.Addr(), s.PublicKey(), more...)
	return s
}

// raw starts one that sends anything.
func (l *loopback) raw(name string, handle func(*rawserver.Conn)) {
	l.t.Helper()
	s, err := rawserver.Start(handle)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(s.Close)
	l.add(name, s.Addr(), s.Key.PublicKey())
}

func (l *loopback) write(name, text string) string {
	l.t.Helper()
	path := filepath.Join(l.home, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

func (l *loopback) env() []string {
	return []string{"HOME=" + l.home, "PATH=" + os.Getenv("PATH"), "USER=tester", "LANG=C.UTF-8", "TERM=xterm", "GOTRACEBACK=all"}
}

// capture runs `sshpcap capture ARGS` with a report.
func (l *loopback) capture(args ...string) *client {
	l.t.Helper()
	c := l.command(args...)
	if err := c.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	c.watch()
	return c
}

func (l *loopback) command(args ...string) *client {
	l.t.Helper()
	l.write(".ssh/config", l.config.String())
	l.write(".ssh/known_hosts", l.known.String())
	c := &client{t: l.t, report: filepath.Join(l.t.TempDir(), "report.json"), done: make(chan struct{})}
	c.cmd = exec.Command(binary, append([]string{"capture", "--report", c.report, "--progress", "plain"}, args...)...)
	c.cmd.Env, c.cmd.Dir = l.env(), l.t.TempDir()
	c.cmd.Stderr = &c.stderr
	return c
}

// peak watches the memory of a process until it has ended, and then returns the most that it had, in MiB.
func peak(c *client) func() int {
	most, over := 0, make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
			if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
				kib, _ := strconv.Atoi(strings.Fields(rest)[0])
				most = max(most, kib>>10)
			}
			select {
			case <-tick.C:
			case <-c.done:
				return
			}
		}
	}()
	return func() int { <-over; return most }
}

// printable fails the test if a text would do anything to a terminal but show characters.
func printable(t testing.TB, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && (!unicode.IsPrint(r) && r != ' ' || r == 0xfffd && !strings.HasPrefix(text[i:], "\ufffd")) {
			t.Errorf("%s holds %U: %q", what, r, text[max(0, i-40):min(len(text), i+40)])
			return
		}
	}
}

// hostile is an instance that does its worst.
type hostile struct {
	raw     func(*rawserver.Conn) // one of these is set
	handler func(*sshserver.Session) int
	says    []string // what the user is told of it
	state   string   // how it ends, as regards the report; several with a | in between
	told    bool     // before the capture is stopped
	format  string   // of the output; "" = pcapng
	args    []string
	most    int // MiB of memory; 0 = mostMemory
}

// mostMemory is what sshpcap may take with --buffer 16MiB, whatever an instance sends: that and 128 MiB.
const mostMemory = 16 + 128

// TestHostileInstance: one instance does its worst. Of another one every packet is in the file, which is valid; memory is
// bounded; ^C ends the capture in time; nothing but characters reaches the terminal; and the user is told who did what.
func TestHostileInstance(t *testing.T) {
	t.Parallel()
	bed.Require(t, "capinfos", "tshark")
	for name, h := range hostiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h.test(t)
		})
	}
}

func (h hostile) test(t *testing.T) {
	l, good := newLoopback(t), new(goodHelper)
	l.server("good", &sshserver.Server{Handler: good.run})
	if h.raw != nil {
		l.raw("bad", h.raw)
	} else {
		l.server("bad", &sshserver.Server{Handler: h.handler})
	}
	file := output(t, "a."+strings.TrimPrefix("pcapng "+h.format, "pcapng "))
	if h.format == "" {
		file = output(t, "a.pcapng")
	}
	c := l.capture(append([]string{"good", "bad", "-o", file, "--connect-timeout", "3s", "--grace", "2s", "--buffer", "16MiB"}, h.args...)...)
	memory := peak(c)
	c.ready()
	began := time.Now()
	bed.WaitFor(t, patience, "the good instance has been captured on for a while", func() bool {
		return good.sent.Load() > 500 && time.Since(began) > time.Second && (!h.told || tells(c.stderr.String(), h.says))
	})
	c.signal(os.Interrupt)
	c.wait(patience)
	if took := time.Since(c.since); took > 6*time.Second {
		t.Errorf("took %v after ^C", took)
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 && code != 3 {
		t.Errorf("exit code %d", code)
	}
	said := c.stderr.String()
	printable(t, "stderr", said)
	if !tells(said, h.says) {
		t.Errorf("it does not say %q of the bad one:\n%s", h.says, said)
	}
	if most := max(h.most, mostMemory); memory() > most {
		t.Errorf("it took %d MiB of memory, more than %d", memory(), most)
	}
	t.Logf("%d MiB of memory; after %v:\n%s", memory(), time.Since(began).Round(time.Millisecond), said)
	h.checkFile(t, c, file, good.sent.Load())
}

// tells reports whether the lines about the bad instance have all the words.
func tells(said string, words []string) bool {
	var about strings.Builder
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "sshpcap: bad: ") || strings.HasPrefix(line, "bad: ") || strings.HasPrefix(line, "warning: bad: ") || strings.HasPrefix(line, "bad ") || strings.HasPrefix(line, "- bad ") {
			about.WriteString(line)
		}
	}
	for _, word := range words {
		if !strings.Contains(about.String(), word) {
			return false
		}
	}
	return true
}

func (h hostile) checkFile(t *testing.T, c *client, file string, sent int64) {
	t.Helper()
	r := c.check(file)
	text, err := os.ReadFile(c.report)
	if err != nil {
		t.Fatal(err)
	}
	printable(t, "the report", string(text))
	if got := r.Instances[0]; got.State != "ok" || r.written("good") != uint64(sent) {
		t.Errorf("of the good instance's %d packets %d are in the file; it is %s (%s)", sent, r.written("good"), got.State, got.Problem)
	}
	if got := r.Instances[1].State; !strings.Contains("|"+h.state+"|", "|"+got+"|") {
		t.Errorf("the bad instance is %s (%s), want %s", got, r.Instances[1].Problem, h.state)
	}
	out, err := exec.Command("tshark", "-n", "-r", file, "-Y", `data.data[0:8] contains "gggggggg" or frame contains "gggggggg"`, "-T", "fields", "-e", "frame.number").Output()
	if n := strings.Count(string(out), "\n"); err != nil || n != int(sent) {
		t.Errorf("tshark finds %d of the good instance's %d packets in the file: %v", n, sent, err)
	}
}

// TestFollowChangedHostKey: whoever answers with another host key after a loss gets no login, and the user is told.
func TestFollowChangedHostKey(t *testing.T) {
	t.Parallel()
	l, good := newLoopback(t), new(goodHelper)
	l.server("good", &sshserver.Server{Handler: good.run})
	shaky := &goodHelper{}
	first := l.server("bad", &sshserver.Server{Handler: shaky.run})
	file := output(t, "a.pcapng")
	c := l.capture("good", "bad", "--follow", "-o", file).ready()
	bed.WaitFor(t, patience, "both give packets", func() bool { return good.sent.Load() > 100 && shaky.sent.Load() > 100 })
	address := first.Addr()
	first.Close()
	var logins sync.Map
	impostor := &sshserver.Server{Handler: shaky.run, Address: address, AuthLog: func(user, _ string, _ error) { logins.Store(user, true) }}
	bed.WaitFor(t, patience, "the port is free", func() bool { return impostor.Start() == nil })
	defer impostor.Close()
	bed.WaitFor(t, patience, "several tries", func() bool { return impostor.Accepted() >= 3 })
	c.signal(os.Interrupt)
	c.wait(patience)
	if said := c.stderr.String(); !strings.Contains(said, "- bad (") {
		t.Errorf("the loss was not told: %s", said)
	}
	logins.Range(func(user, _ any) bool { t.Errorf("%v tried to log in", user); return true })
	r := c.check(file)
	if in := r.Instances[1]; in.State != "lost" || !strings.Contains(in.Problem, "HOST KEY HAS CHANGED") {
		t.Errorf("%s: %s", in.State, in.Problem)
	}
	if r.written("good") != uint64(good.sent.Load()) {
		t.Errorf("%d of %d packets of the other", r.written("good"), good.sent.Load())
	}
}

// TestSkipSkipsNothingElse: with -k the login is what it was, and known_hosts learns nothing.
func TestSkipSkipsNothingElse(t *testing.T) {
	t.Parallel()
	l, good := newLoopback(t), new(goodHelper)
	server := &sshserver.Server{Handler: good.run, Password: "nobody knows"}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l.add("stranger", server.Addr(), nil, "StrictHostKeyChecking accept-new")
	c := l.capture("stranger", "-k", "-o", output(t, "a.pcapng"))
	c.exit(patience, 1)
	c.complaint("stranger", "login refused")
	if known, err := os.ReadFile(filepath.Join(l.home, ".ssh", "known_hosts")); len(known) > 0 {
		t.Errorf("known_hosts is %q, %v", known, err)
	}
}

// TestHostileJump: a jump host that does its worst concerns who is behind it, and nobody else.
func TestHostileJump(t *testing.T) {
	t.Parallel()
	opening := func(c *rawserver.Conn) bool { return c.Login() == nil }
	for name, h := range map[string]struct {
		raw  func(*rawserver.Conn)
		says string
	}{
		"never an answer": {func(c *rawserver.Conn) { opening(c); c.Discard() }, "jump host evil"},
		"refuses": {func(c *rawserver.Conn) {
			if !opening(c) {
				return
			}
			if _, err := c.Await(rawserver.MsgChannelOpen); err == nil {
				c.Send(struct {
					Channel, Reason uint32 `sshtype:"92"`
					Text, Language  string
				}{0, 2, "refused " + evil, ""})
			}
			c.Discard()
		}, "jump host evil: cannot reach"},
		"is no way to SSH": {func(c *rawserver.Conn) {
			if !opening(c) {
				return
			}
			if ch, err := c.Open(1 << 20); err == nil {
				flood(enough>>2, func() (int, error) { return 16 << 10, c.Data(ch, []byte(strings.Repeat(evil, 500))) })
			}
			c.Discard()
		}, "no SSH server"},
		"takes nothing": {func(c *rawserver.Conn) {
			if opening(c) {
				c.Open(0)
			}
			c.Discard()
		}, "within 3s"},
		"plays the host": {func(c *rawserver.Conn) { // behind the jump it is itself
			if !opening(c) {
				return
			}
			if ch, err := c.Open(1 << 20); err == nil {
				c.Data(ch, []byte("SSH-2.0-x\r\n"))
				c.End(ch, rawserver.MsgChannelClose)
			}
			c.Discard()
		}, "hung up"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, good := newLoopback(t), new(goodHelper)
			l.server("good", &sshserver.Server{Handler: good.run})
			l.raw("evil", h.raw)
			l.server("bad", &sshserver.Server{Handler: new(goodHelper).run}, "ProxyJump evil")
			file := output(t, "a.pcapng")
			c := l.capture("good", "bad", "-o", file, "--connect-timeout", "3s", "--grace", "2s")
			memory := peak(c)
			c.ready()
			bed.WaitFor(t, patience, "the good one is captured on and the bad one is told", func() bool {
				return good.sent.Load() > 100 && tells(c.stderr.String(), []string{h.says})
			})
			c.interrupt(3)
			printable(t, "stderr", c.stderr.String())
			if memory() > mostMemory {
				t.Errorf("it took %d MiB of memory", memory())
			}
			if r := c.check(file); r.written("good") != uint64(good.sent.Load()) || r.states() != "good=ok bad=failed" {
				t.Errorf("%d of %d packets, %s", r.written("good"), good.sent.Load(), r.states())
			}
		})
	}
}
