package remote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// remoteRun is a command on an instance.
type remoteRun struct {
	t      *testing.T
	name   string
	sess   *ssh.Session
	stdin  io.WriteCloser
	stdout io.Reader
	log    *Log
	alive  chan struct{} // closed to stop the heartbeats
	beats  sync.WaitGroup
}

func start(t *testing.T, client *ssh.Client, c Command) *remoteRun {
	t.Helper()
	sess, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	r := &remoteRun{t: t, sess: sess, log: new(Log), alive: make(chan struct{})}
	sess.Stderr = r.log
	if r.stdin, err = sess.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if r.stdout, err = sess.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := sess.Start(c.Line()); err != nil {
		t.Fatal(err)
	}
	r.beats.Go(r.beat)
	t.Cleanup(r.silence)
	return r
}

func (r *remoteRun) beat() {
	tick := time.NewTicker(HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.stdin.Write(Heartbeat())
		case <-r.alive:
			return
		}
	}
}

func (r *remoteRun) silence() {
	select {
	case <-r.alive:
	default:
		close(r.alive)
	}
	r.beats.Wait()
}

// header waits for the stream's header, at most 10 s.
func (r *remoteRun) header() {
	r.t.Helper()
	got := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(r.stdout, make([]byte, 24))
		got <- err
	}()
	select {
	case err := <-got:
		if err != nil {
			r.t.Fatalf("no header: %v: %+v", err, r.log.Failure(1))
		}
		// What came before it on standard error may come after it, with some servers.
		waitFor(r.t, 10*time.Second, func() []string {
			if !r.log.Report().Started {
				return []string{"nothing of the start"}
			}
			return nil
		})
	case <-time.After(10 * time.Second):
		r.t.Fatalf("no header in time: %+v", r.log.Report())
	}
}

// status waits for the end.
func (r *remoteRun) status() int {
	r.t.Helper()
	rest, _ := io.ReadAll(r.stdout)
	if len(rest) > 0 {
		r.t.Logf("%d bytes more", len(rest))
	}
	err := r.sess.Wait()
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitStatus()
	}
	return -1
}

// TestServers captures with every server, login shell and way to the right
// to do so, and ends it in every way.
func TestServers(t *testing.T) {
	t.Parallel()
	b := newBed(t, "sh", "bash", "ash", "zsh", "tcsh", "fish")
	var rules []string
	for _, name := range b.users {
		rules = append(rules, name+" ALL=(root) NOPASSWD: ALL")
	}
	b.sudoers(t, strings.Join(rules, "\n"))
	servers := []server{b.openssh(t, "127.0.0.1:22"), b.dropbear(t, "127.0.0.1:2222"), b.embedded(t)}
	left := b.left(servers[0].pid, servers[1].pid)
	for _, s := range servers {
		for _, c := range []Command{{Helper: b.capable, Interface: "lo"}, {Interface: "lo", Sudo: true}, {Interface: "any", Sudo: true, Helper: "dumpcap"}} {
			c.ServerPort, c.Filter = 2222, "udp" // not the other users' connections
			for how, end := range map[string]func(*remoteRun, net.Conn){"stop": stopped, "cut": cut, "time up": timeUp} {
				if c.MaxTime = 0; how == "time up" {
					if !c.Sudo {
						continue // the script is the same
					}
					c.MaxTime = time.Second
				}
				name := fmt.Sprintf("%s/sudo=%v,%s/%s", s.name, c.Sudo, c.Interface, how)
				t.Run(name, func(t *testing.T) {
					t.Run("all", func(t *testing.T) { b.everyShell(t, s, c, end) })
					waitFor(t, 5*time.Second, left)
				})
			}
		}
	}
}

// TestLoginShells captures under the login shells that the other tests leave out: rc, which reads a backslash as it stands,
// and others.
func TestLoginShells(t *testing.T) {
	t.Parallel()
	b := newBed(t, otherLogins...)
	do(t, "install", "-d", "-m", "777", b.dir+"/.local") // xonsh does not start without
	s := b.openssh(t, "127.0.0.1:22")
	for how, end := range map[string]func(*remoteRun, net.Conn){"stop": stopped, "cut": cut} {
		t.Run(how, func(t *testing.T) {
			t.Run("all", func(t *testing.T) {
				b.everyShell(t, s, Command{Helper: b.capable, Interface: "lo", Filter: `udp or ip proto \udp`}, end)
			})
			waitFor(t, 5*time.Second, b.left(s.pid))
		})
	}
}

// everyShell captures as each user at the same time.
func (b *bed) everyShell(t *testing.T, s server, c Command, end func(*remoteRun, net.Conn)) {
	for _, sh := range b.logins {
		if s.name == "dropbear" && sh == "ash" {
			continue // it lets only shells in that /etc/shells has
		}
		t.Run(sh, func(t *testing.T) {
			t.Parallel()
			client, conn := b.login(t, s, b.users[sh])
			defer client.Close()
			run := start(t, client, c)
			run.header()
			end(run, conn)
			run.told(s, c, conn)
		})
	}
}

// stopped ends a capture as it should end.
func stopped(r *remoteRun, _ net.Conn) {
	began := time.Now()
	r.stdin.Close()
	if status := r.status(); status != 0 {
		r.t.Errorf("status %d: %+v", status, r.log.Failure(status))
	}
	r.t.Logf("stop took %v; %+v", time.Since(began), r.log.Report())
	if rep := r.log.Report(); !rep.Known || rep.Captured != 0 || rep.Listening == "" {
		r.t.Errorf("report %+v", rep)
	}
}

// timeUp waits for the end of a capture whose time is limited.
func timeUp(r *remoteRun, _ net.Conn) {
	if status := r.status(); status != TimeUp {
		r.t.Errorf("status %d: %+v", status, r.log.Failure(status))
	}
	if rep := r.log.Report(); !rep.Known || rep.Captured != 0 {
		r.t.Errorf("report %+v", rep)
	}
}

// cut ends a connection without a word.
func cut(r *remoteRun, conn net.Conn) {
	conn.Close()
	r.silence()
}

// told checks what the instance said of itself.
func (r *remoteRun) told(s server, c Command, conn net.Conn) {
	r.t.Helper()
	rep := r.log.Report()
	if !rep.Started || rep.Sudo != c.Sudo || rep.UID <= 0 || rep.Helper == "" || rep.Clock.IsZero() {
		r.t.Errorf("report %+v", rep)
	}
	want := "tcp port 2222"
	if s.name != "x/crypto" {
		want = End(conn.LocalAddr().(*net.TCPAddr).AddrPort())
	}
	if rep.SelfFilter != want {
		r.t.Errorf("excludes %q, want %q", rep.SelfFilter, want)
	}
}

// TestSelfFilter captures all there is on an instance where nothing happens
// but the capture, and then ten packets.
func TestSelfFilter(t *testing.T) {
	t.Parallel()
	b := newBed(t, "sh")
	b.sudoers(t, b.users["sh"]+" ALL=(root) NOPASSWD: ALL")
	for _, s := range []server{b.openssh(t, "127.0.0.1:22"), b.openssh(t, "[::1]:2200"), b.dropbear(t, "127.0.0.1:2222")} {
		for _, c := range []Command{{Interface: "lo"}, {Sudo: true}, {Sudo: true, Filter: "udp or tcp or icmp"}} {
			if !c.Sudo {
				c.Helper = b.capable
			}
			t.Run(fmt.Sprintf("%s/%+v", s.name, c), func(t *testing.T) {
				client, _ := b.login(t, s, b.users["sh"])
				defer client.Close()
				run := start(t, client, c)
				run.header()
				for range 20 { // traffic of the connection that carries the capture
					run.stdin.Write(Heartbeat())
				}
				b.sendTo(t, 0, 10)
				run.stdin.Close()
				if status := run.status(); status != 0 {
					t.Errorf("status %d: %+v", status, run.log.Failure(status))
				}
				// Interface any sees a packet leave and arrive.
				if rep := run.log.Report(); !rep.Known || rep.Captured != 10 && !(c.Interface == "" && rep.Captured == 20) {
					t.Errorf("%+v", rep)
				}
			})
		}
	}
}

// udp opens what sends UDP packets to a port on lo where somebody listens, so
// that no ICMP comes back; 0 is any port that nobody has.
func (b *bed) udp(t *testing.T, port int) (from net.Conn, end func()) {
	t.Helper()
	b.inside(t, func() error {
		to, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return err
		}
		if from, err = net.Dial("udp4", to.LocalAddr().String()); err != nil {
			to.Close()
			return err
		}
		end = func() { from.Close(); to.Close() }
		return nil
	})
	return from, end
}

// sendTo sends n UDP packets to such a port.
func (b *bed) sendTo(t *testing.T, port, n int) {
	t.Helper()
	from, end := b.udp(t, port)
	defer end()
	for range n {
		if _, err := from.Write([]byte("packet")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHeartbeatLoss keeps every connection up but silent, with the product's
// own times, on every server, under every login shell, and with all rights.
func TestHeartbeatLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 14 s")
	}
	t.Parallel()
	b := newBed(t, "sh", "bash", "ash", "zsh", "tcsh", "fish")
	var rules []string
	for _, name := range b.users {
		rules = append(rules, name+" ALL=(root) NOPASSWD: ALL")
	}
	b.sudoers(t, strings.Join(rules, "\n"))
	servers := []server{b.openssh(t, "127.0.0.1:22"), b.dropbear(t, "127.0.0.1:2222"), b.embedded(t)}
	var silent []*remoteRun
	var clients []*ssh.Client
	for _, s := range servers {
		for _, sh := range b.logins {
			for _, c := range []Command{{Helper: b.capable}, {Sudo: true}, {}} {
				name := b.users[sh]
				switch {
				case s.name == "dropbear" && sh == "ash":
					continue // it lets only shells in that /etc/shells has
				case !c.Sudo && c.Helper == "" && s.name != "x/crypto":
					continue // no user but root is root; the end-to-end tests have that
				case !c.Sudo && c.Helper == "":
					name = asRoot + name
				}
				// The filter keeps them from capturing each other's streams without end.
				c.Interface, c.Filter, c.BufferKiB = "lo", "udp", 512
				client, _ := b.login(t, s, name)
				clients = append(clients, client)
				run := start(t, client, c)
				run.name = fmt.Sprintf("%s/%s/sudo=%v", s.name, name, c.Sudo)
				silent = append(silent, run)
			}
		}
	}
	for _, run := range silent {
		run.header()
	}
	began := time.Now()
	var ends sync.WaitGroup
	for _, run := range silent {
		run.silence()
		ends.Go(func() {
			status, took := run.status(), time.Since(began)
			if rep := run.log.Report(); took < 10*time.Second || took > 20*time.Second || status != Unheard || !rep.Known {
				t.Errorf("%s: ended after %v with status %d, %+v", run.name, took, status, rep)
			}
		})
	}
	ends.Wait()
	t.Logf("%d captures have ended after %v", len(silent), time.Since(began))
	for _, client := range clients { // the servers stay for them
		client.Close()
	}
	waitFor(t, time.Until(began.Add(20*time.Second)), b.left(servers[0].pid, servers[1].pid))
}
