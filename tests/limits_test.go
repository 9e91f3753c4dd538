package tests

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// busily sends on the flows until stop is called.
func busily(t *testing.T, rate int, flows ...*bed.Flow) (stop func()) {
	t.Helper()
	quit, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-quit:
				done <- nil
				return
			default:
			}
			if err := bed.SendAll(rate/20, rate, flows...); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() {
		close(quit)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "web2", "db1", "-d", "2s", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
	began := time.Now()
	sendAll(t, 500, 1000, flows...)
	c.exit(patience, 0)
	if took := time.Since(began); took < 1500*time.Millisecond || took > 5*time.Second {
		t.Errorf("took %v, want 2s", took)
	}
	clean(t, patience, hosts...)
	exactly(t, file, sightsOf(flows, "any")...)
	if r := c.check(file); r.End != "duration" {
		t.Errorf("ended by %s", r.End)
	}
}

// TestMaxRemoteTime: the instances end it themselves, which is a normal end, whatever the client does.
func TestMaxRemoteTime(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		options bed.Options
		args    []string
	}{
		"root":     {},
		"sudo":     {options: bed.Options{User: bed.Sudoer}},
		"dropbear": {options: bed.Options{User: bed.Sudoer, Dropbear: true}},
		"dumpcap":  {options: bed.Options{Hide: []string{"tcpdump"}}},
		"follow":   {args: []string{"--follow"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bed.Require(t, "sudo")
			b := bed.New(t, tools...)
			h := b.Add("web1", how.options)
			flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
			file := output(t, "a.pcapng")
			began := time.Now()
			c := start(t, b, append(how.args, "web1", "--max-remote-time", "3s", "-o", file, "-f", flowFilter, "-s", snaplen)...).ready()
			sendAll(t, 500, 1000, flow)
			c.exit(patience, 0)
			if took := time.Since(began); took < 3*time.Second {
				t.Errorf("took %v, want 3s and more", took)
			}
			clean(t, time.Second, h)
			exactly(t, file, sight{flow, "web1:any"})
			r := c.check(file)
			if end := r.Instances[0].Interfaces[0].End; r.End != "ended" || r.states() != "web1=ok" || end != "its time is over (--max-remote-time)" {
				t.Errorf("ended by %s, states %s, web1: %s", r.End, r.states(), end)
			}
			if !strings.Contains(c.stderr.String(), "\nweb1: its time is over (--max-remote-time)\n") || strings.Contains(c.stderr.String(), "sshpcap: ") {
				t.Errorf("it says %s", c.stderr.String())
			}
			if n := strings.Count(h.Log(), "Starting session: command"); n > 1 && how.options.User == "" {
				t.Errorf("%d helpers were started", n)
			}
		})
	}
	t.Run("client stopped", func(t *testing.T) {
		t.Parallel()
		b := bed.New(t, tools...)
		h := b.Add("web1", bed.Options{})
		c := start(t, b, "web1", "--max-remote-time", "2s", "-o", output(t, "a.pcapng"), "-f", flowFilter, "-s", snaplen).ready()
		c.signal(syscall.SIGSTOP)
		clean(t, 8*time.Second, h) // before it misses signs of life
		c.signal(syscall.SIGCONT)
		c.exit(patience, 0)
	})
}

// TestCount: -c is exact, although three instances are in the middle of sending.
func TestCount(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.pcapng", "a.pcap"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, hosts, flows := three(t, bed.Options{})
			file := output(t, name)
			c := start(t, b, "web1", "web2", "db1", "-c", "1234", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
			stop := busily(t, 2000, flows...)
			c.exit(patience, 0)
			clean(t, patience, hosts...)
			stop()
			r := c.check(file)
			if r.Packets != 1234 || r.End != "count" {
				t.Errorf("%d packets, ended by %s", r.Packets, r.End)
			}
		})
	}
}

func TestMaxSize(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.pcapng", "a.pcap"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, hosts, flows := three(t, bed.Options{})
			file := output(t, name)
			c := start(t, b, "web1", "web2", "db1", "--max-size", "100kB", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
			stop := busily(t, 2000, flows...)
			c.exit(patience, 0)
			clean(t, patience, hosts...)
			stop()
			st, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if st.Size() > 100_000 || st.Size() < 80_000 {
				t.Errorf("the file has %d bytes", st.Size())
			}
			if r := c.check(file); r.End != "max-size" {
				t.Errorf("ended by %s", r.End)
			}
		})
	}
}

// TestRequireAll: one instance that fails ends it, at the beginning and in the middle.
func TestRequireAll(t *testing.T) {
	t.Parallel()
	t.Run("at the beginning", func(t *testing.T) {
		t.Parallel()
		b, hosts, _ := three(t, bed.Options{})
		hosts[2].Kill("sshd", syscall.SIGKILL)
		file := output(t, "a.pcapng")
		c := start(t, b, "web1", "web2", "db1", "--require-all", "-o", file, "-f", flowFilter, "-s", snaplen)
		c.wait(patience)
		if got := c.cmd.ProcessState.ExitCode(); got != 1 && got != 3 {
			t.Errorf("exit code %d", got)
		}
		c.complaint("db1", "refused")
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("it left a file: %v", err)
		}
		clean(t, patience, hosts...)
	})
	t.Run("in the middle", func(t *testing.T) {
		t.Parallel()
		b, hosts, flows := three(t, bed.Options{})
		file := output(t, "a.pcapng")
		c := start(t, b, "web1", "web2", "db1", "--require-all", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
		sendAll(t, 100, 2000, flows...)
		arrived(t, file, 400)
		hosts[1].Kill("tcpdump", syscall.SIGKILL)
		c.exit(patience, 3)
		c.complaint("web2")
		exactly(t, file, sightsOf(flows, "any")...)
		if r := c.check(file); r.End != "required" {
			t.Errorf("ended by %s", r.End)
		}
		clean(t, patience, hosts...)
	})
}

// TestWindow: a packet waits for others as long as --window says, when another instance is silent.
func TestWindow(t *testing.T) {
	t.Parallel()
	for window, bounds := range map[string][2]time.Duration{"100ms": {0, 1500 * time.Millisecond}, "3s": {2 * time.Second, 5 * time.Second}} {
		t.Run(window, func(t *testing.T) {
			t.Parallel()
			b, hosts, flows := three(t, bed.Options{})
			file := output(t, "a.pcapng")
			c := start(t, b, "web1", "web2", "db1", "--window", window, "-o", file, "-f", flowFilter, "-s", snaplen).ready()
			sendAll(t, 1, 1000, flows[0])
			took := bed.WaitFor(t, patience, "the packet is in the file", func() bool { return countRecords(file) == 1 })
			if took < bounds[0] || took > bounds[1] {
				t.Errorf("it took %v", took)
			}
			c.interrupt(0)
			clean(t, patience, hosts...)
			c.check(file)
		})
	}
}

// TestSmallBuffer: packets that may not wait leave early, and none is lost.
func TestSmallBuffer(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "web2", "db1", "--buffer", "32KiB", "--window", "30s", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
	sendAll(t, 1000, 2000, flows...)
	bed.WaitFor(t, patience, "packets leave before their window is over", func() bool { return countRecords(file) > 2000 })
	c.interrupt(0)
	clean(t, patience, hosts...)
	exactly(t, file, sightsOf(flows, "any")...)
	if r := c.result(); r.Packets != 4000 {
		t.Errorf("report: %d packets", r.Packets)
	}
}

func TestSnaplen(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001, Size: 1000}).Open(t)
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "-s", "120", "-o", file, "-f", flowFilter).ready()
	sendAll(t, 100, 2000, flow)
	arrived(t, file, 100)
	c.interrupt(0)
	clean(t, patience, h)
	exactly(t, file, sight{flow, "web1:any"})
	if got := matching(t, file, "frame.len > 1000 && frame.cap_len == 120"); len(got) != 100 {
		t.Errorf("%d packets of more than 1000 bytes are cut to 120, want 100", len(got))
	}
	c.check(file)
}

func TestPromiscuousMode(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct{ flag, want string }{
		"on":  {"-q", "promiscuity 1"},
		"off": {"--no-promiscuous-mode", "promiscuity 0"},
		"-p":  {"-p", "promiscuity 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bed.New(t, tools...)
			h := b.Add("web1", bed.Options{})
			c := start(t, b, "web1", how.flag, "--interface", "eth0", "-o", output(t, "a.pcapng"))
			bed.WaitFor(t, patience, "tcpdump captures", func() bool { return h.Kill("tcpdump", 0) == 1 && packetSockets(h) > 0 })
			out, err := h.Command("ip", "-d", "link", "show", "eth0").Output()
			if err != nil || !strings.Contains(string(out), how.want) {
				t.Errorf("%v, want %s: %s", err, how.want, out)
			}
			c.interrupt(0)
			clean(t, patience, h)
		})
	}
}

// packetSockets is how many sockets capture in a host's namespace, all set up.
func packetSockets(h *bed.Host) int {
	table, _ := h.Command("cat", "/proc/net/packet").Output()
	n := 0
	for line := range strings.Lines(string(table)) {
		// sk RefCnt Type Proto Iface R Rmem User Inode: Proto is 0003 (ETH_P_ALL) once it is bound
		if f := strings.Fields(line); len(f) > 5 && f[3] == "0003" && f[5] == "1" {
			n++
		}
	}
	return n
}
