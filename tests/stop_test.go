package tests

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// deadline is how long an instance may keep a helper after the last sign of life from the client.
const deadline = 20 * time.Second

// unattended checks that the instances get rid of their helpers by themselves, in time counted from since.
func unattended(t testing.TB, since time.Time, hosts ...*bed.Host) {
	t.Helper()
	for _, h := range hosts {
		clean(t, time.Until(since.Add(deadline)), h)
	}
	t.Logf("nothing was left after %v", time.Since(since).Round(10*time.Millisecond))
}

// TestSignals: each of the signals that ask for an end is the normal end, of busy and of idle instances.
func TestSignals(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, hosts, flows := three(t, bed.Options{})
			file := output(t, "a.pcapng")
			c := start(t, b, "web1", "web2", "db1", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
			sendAll(t, 100, 2000, flows[0])
			arrived(t, file, 100)
			c.signal(sig)
			c.exit(5*time.Second, 0)
			t.Logf("ended %v after the signal", time.Since(c.since).Round(time.Millisecond))
			clean(t, 2*time.Second, hosts...)
			for _, h := range hosts {
				bed.WaitFor(t, patience, h.Name+": the connection is closed", func() bool { return len(h.Sessions()) == 0 })
			}
			exactly(t, file, sight{flows[0], "web1:any"})
			if r := c.check(file); r.End != "interrupted" || r.states() != "web1=ok web2=ok db1=ok" {
				t.Errorf("end %q, states %s", r.End, r.states())
			}
		})
	}
}

// TestNothingLostAtStop asks for the end right behind the last packet.
func TestNothingLostAtStop(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	for range 5 {
		file := output(t, "a.pcapng")
		c := start(t, b, "web1", "web2", "db1", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
		for _, f := range flows {
			f.Restart()
		}
		sendAll(t, 400, 4000, flows...)
		c.interrupt(0)
		exactly(t, file, sightsOf(flows, "any")...)
		c.check(file)
	}
	clean(t, patience, hosts...)
}

// TestInterruptWhileConnecting: ^C before all instances are there does not wait for them.
func TestInterruptWhileConnecting(t *testing.T) {
	t.Parallel()
	bed.Require(t, "nft")
	b := bed.New(t, tools...)
	good, hole := b.Add("web1", bed.Options{}), b.Add("web2", bed.Options{})
	hole.BlackHole()
	c := start(t, b, "web1", "web2", "-o", output(t, "a.pcapng"), "--connect-timeout", "60s")
	bed.WaitFor(t, patience, "a helper runs on web1", func() bool { return good.Kill("tcpdump", 0) == 1 })
	c.signal(os.Interrupt)
	c.wait(5 * time.Second)
	clean(t, 2*time.Second, good, hole)
}

// TestSecondInterrupt: a second ^C does not wait for an instance that hangs, and what has come is in a valid file.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(*bed.Host){"black hole": (*bed.Host).BlackHole, "stopped": stopSessions} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bed.Require(t, "nft")
			b, hosts, flows := three(t, bed.Options{})
			file := output(t, "a.pcapng")
			c := start(t, b, "web1", "web2", "db1", "-o", file, "-f", flowFilter, "-s", snaplen, "--grace", "60s").ready()
			sendAll(t, 200, 2000, flows...)
			arrived(t, file, 800)
			hang(hosts[1])
			hung := time.Now()
			c.signal(os.Interrupt)
			bed.WaitFor(t, patience, "the others have ended", func() bool {
				left := 0
				for _, h := range []*bed.Host{hosts[0], hosts[2]} { // the client is done with them when it has closed the connection
					left += len(h.Leftovers()) + len(h.Sessions())
				}
				return left == 0
			})
			if c.ended() {
				t.Fatal("it ended without the instance that hangs, before its grace was over")
			}
			c.signal(os.Interrupt)
			c.exit(3*time.Second, 130)
			t.Logf("ended %v after the second ^C", time.Since(c.since).Round(time.Millisecond))
			exactly(t, file, sightsOf(flows, "any")...)
			if got, want := c.check(file).states(), "web1=ok web2=cut db1=ok"; got != want {
				t.Errorf("states %s, want %s", got, want)
			}
			unattended(t, hung, hosts...)
		})
	}
}

// stopSessions makes the SSH server's connections hang, and lets them go on in the end: a stopped process is not killed
// by the end of its connection.
func stopSessions(h *bed.Host) {
	for _, p := range h.Sessions() {
		syscall.Kill(p.PID, syscall.SIGSTOP)
	}
}

// TestGrace: an instance that hangs is cut when its grace is over.
func TestGrace(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "web2", "db1", "-o", file, "-f", flowFilter, "-s", snaplen, "--grace", "1s").ready()
	sendAll(t, 100, 2000, flows...)
	arrived(t, file, 400)
	stopSessions(hosts[1])
	c.signal(os.Interrupt)
	c.exit(5*time.Second, 3)
	if took := time.Since(c.since); took < time.Second {
		t.Errorf("cut after %v, before its grace was over", took)
	}
	c.complaint("web2")
	exactly(t, file, sightsOf(flows, "any")...)
	if got, want := c.check(file).states(), "web1=ok web2=cut db1=ok"; got != want {
		t.Errorf("states %s, want %s", got, want)
	}
	clean(t, patience, hosts...)
}

// TestKilled: nothing is left when sshpcap has no chance to stop it. TestNoSignOfLife has it for other servers and users.
func TestKilled(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		options bed.Options
		jump    bool
		busy    bool
	}{
		"busy":    {busy: true},
		"jump":    {options: bed.Options{Nets: []int{1}, Jump: "bastion"}, jump: true},
		"dumpcap": {options: bed.Options{Hide: []string{"tcpdump"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bed.Require(t, "sudo")
			b := bed.New(t, tools...)
			hosts := []*bed.Host{}
			if how.jump {
				hosts = append(hosts, b.Add("bastion", bed.Options{Nets: []int{0, 1}}))
			}
			h := b.Add("web1", how.options)
			hosts = append(hosts, h)
			c := start(t, b, "web1", "-o", output(t, "a.pcapng"), "-f", flowFilter, "-s", snaplen).ready()
			if len(h.Leftovers()) == 0 {
				t.Error("nothing runs on the instance while it is captured on")
			}
			var busy chan error
			if how.busy {
				flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
				busy = make(chan error, 1)
				go func() { busy <- flow.Send(4000, 2000) }()
			}
			c.signal(os.Kill)
			c.exit(patience, -1)
			unattended(t, c.since, hosts...)
			if busy != nil {
				if err := <-busy; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestReaderGone: the capture ends when nobody reads its output any more, with packets or without.
func TestReaderGone(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"busy": true, "idle": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, hosts, flows := three(t, bed.Options{})
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			c := startTo(t, b, w, "web1", "web2", "db1", "-o", "-", "-f", flowFilter, "-s", snaplen)
			w.Close()
			c.ready()
			sendAll(t, 100, 2000, flows...)
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			r.Close()
			if busy {
				sendAll(t, 100, 1000, flows...)
			}
			c.wait(5 * time.Second)
			if got := c.cmd.ProcessState.ExitCode(); got != 0 && got != 1 {
				t.Errorf("exit code %d", got)
			}
			if strings.Contains(c.stderr.String(), "goroutine ") {
				t.Error("it crashed")
			}
			clean(t, patience, hosts...)
		})
	}
}

// TestStandardOutput: -o - is pcapng, all of it, and nothing but.
func TestStandardOutput(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	file := output(t, "piped.pcapng")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(f, r)
		copied <- err
	}()
	c := startTo(t, b, w, "web1", "web2", "db1", "-o", "-", "-f", flowFilter, "-s", snaplen)
	w.Close()
	c.ready()
	sendAll(t, 300, 2000, flows...)
	arrived(t, file, 1200) // live: a reader sees the packets as they come
	if n := countRecords(file); n != 1200 {
		t.Errorf("a reader has seen %d of 1200 packets", n)
	}
	c.interrupt(0)
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	clean(t, patience, hosts...)
	exactly(t, file, sightsOf(flows, "any")...)
	if _, strict := capinfos(t, file); !strict && c.result().late() == 0 {
		t.Error("not in strict time order, and the report knows of no late packet")
	}
	if r := c.result(); r.Output.Path != "-" || r.Output.Format != "pcapng" || r.Packets != 1200 {
		t.Errorf("report: %+v, %d packets", r.Output, r.Packets)
	}
}
