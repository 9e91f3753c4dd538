package sshx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/sshx"
)

// listen serves each connection with serve until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func TestDialErrors(t *testing.T) {
	t.Parallel()
	d := client(t, t.TempDir(), "Host renamed", "HostName real.invalid")
	d.ConnectTimeout = 500 * time.Millisecond
	for name, test := range map[string]struct {
		target string
		kind   sshx.Kind
		words  []string
	}{
		"unknown name":    {"nohost.invalid", sshx.KindUnknownHost, []string{"host name", ""}},
		"renamed":         {"renamed", sshx.KindUnknownHost, []string{"host name"}},
		"refused":         {fmt.Sprintf("127.0.0.1:%d", freePort(t)), sshx.KindRefused, []string{"connection refused on port"}},
		"silent":          {listen(t, silent), sshx.KindTimeout, []string{"said nothing within 500ms", "--connect-timeout"}},
		"reset":           {listen(t, reset), sshx.KindDropped, []string{"connection reset", "MaxStartups"}},
		"closed":          {listen(t, func(c net.Conn) { c.Close() }), sshx.KindDropped, []string{"hung up at once"}},
		"says it is busy": {listen(t, func(c net.Conn) { fmt.Fprint(c, "Exceeded MaxStartups\r\n") }), sshx.KindDropped, []string{"Exceeded MaxStartups"}},
		"web server": {listen(t, func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 400 \x1b[31mBad Request\r\n\r\n")
		}), sshx.KindNotSSH, []string{"no SSH server", "HTTP/1.1 400 [31mBad Request"}},
		"banner only": {listen(t, func(c net.Conn) {
			fmt.Fprint(c, "SSH-2.0-tarpit\r\n")
			silent(c)
		}), sshx.KindTimeout, []string{"did not finish the SSH handshake within 500ms"}},
		"garbage": {listen(t, func(c net.Conn) {
			for i := range 400 {
				fmt.Fprintf(c, "%d bottles of beer\r\n", i)
			}
		}), sshx.KindNotSSH, []string{"0 bottles of beer"}},
		"bad target": {"web:99999", sshx.KindTarget, []string{"99999", "HOST"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			_, err := d.Dial(context.Background(), test.target)
			wantError(t, err, test.kind, test.words...)
			if took := time.Since(begin); took > 8*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// A caller's ctx ends the dial at once, in each of its steps, and says so.
func TestCancel(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 1)
	for name, serve := range map[string]func(net.Conn){
		"before the banner": silent,
		"in the handshake": func(c net.Conn) {
			fmt.Fprint(c, "SSH-2.0-x\r\n")
			silent(c)
		},
	} {
		addr := listen(t, func(c net.Conn) {
			reached <- struct{}{}
			serve(c)
		})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() {
			_, err := client(t, t.TempDir()).Dial(ctx, addr)
			ended <- err
		}()
		<-reached
		cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: still dialling", name)
		}
	}
	addr := listen(t, silent)
	_, err := client(t, t.TempDir()).Dial(within(t, 100*time.Millisecond), addr)
	wantError(t, err, sshx.KindTimeout, "time was up")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("not DeadlineExceeded: %v", err)
	}
}

func TestSharing(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	d := s.client(t, "Host also", "HostName 127.0.0.1", fmt.Sprint("Port ", s.port))
	const n = 50
	conns := make([]*sshx.Conn, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			target := s.addr()
			if i%2 == 1 {
				target = "also" // the same endpoint by another name
			}
			var err error
			if conns[i], err = d.Dial(within(t, 20*time.Second), target); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	s.log.exactly(t, "Accepted publickey", 1)
	for _, c := range conns[1:] {
		c.Close()
		c.Close() // does not count twice
	}
	if got := output(t, conns[0], "echo on"); got != "on\n" {
		t.Errorf("after the others closed: %q", got)
	}
	conns[0].Close()
	s.log.waitFor(t, "Connection closed by", 1)
	c := dial(t, d, s.addr())
	output(t, c, "true")
	s.log.exactly(t, "Accepted publickey", 2)
}

// One caller gives up; the dial goes on for the other.
func TestCancelOneOfTwo(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	hold := make(chan struct{})
	arrived := make(chan struct{}, 1)
	addr := listen(t, func(c net.Conn) {
		arrived <- struct{}{}
		<-hold
		forward(c, s.addr())
	})
	_, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	known := write(t, filepath.Join(dir, "known_hosts"), fmt.Sprintf("[127.0.0.1]:%s %s", port, read(t, s.hostKey+".pub")))
	d := client(t, dir, "IdentityFile "+s.key, "UserKnownHostsFile "+known)
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error)
	go func() {
		_, err := d.Dial(ctx, addr)
		first <- err
	}()
	<-arrived
	second := make(chan error)
	var c *sshx.Conn
	begun := make(chan struct{})
	go func() {
		close(begun)
		var err error
		c, err = d.Dial(within(t, 20*time.Second), addr)
		second <- err
	}()
	<-begun
	waitUsers(t, d, 2)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	close(hold)
	if err := <-second; err != nil {
		t.Fatalf("the second: %v", err)
	}
	defer c.Close()
	output(t, c, "true")
}

func waitUsers(t *testing.T, d *sshx.Dialer, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); sshx.Users(d) != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d users, want %d", sshx.Users(d), n)
		}
	}
}

// forward connects c with addr until one side ends.
func forward(c net.Conn, addr string) {
	up, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, c)
		up.Close()
	}()
	_, _ = io.Copy(c, up)
	c.Close()
	up.Close()
	<-done
}

// Forty logins at once on a server that drops connections at random from the tenth one on.
func TestMaxStartups(t *testing.T) {
	t.Parallel()
	s := newSSHD(t, "MaxStartups 10:30:100")
	d := s.client(t)
	e, err := d.Resolve(s.addr())
	if err != nil {
		t.Fatal(err)
	}
	e.NoShare = true
	const n = 40
	conns := make([]*sshx.Conn, n)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range n {
		wg.Go(func() {
			var err error
			if conns[i], err = d.DialEndpoint(within(t, 30*time.Second), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d logins in %v, %d drops", n, time.Since(begin), s.log.count("drop connection"))
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
	s.log.exactly(t, "Accepted publickey", n)
}

// A tighter server: most are dropped, all get in.
func TestMaxStartupsTight(t *testing.T) {
	t.Parallel()
	s := newSSHD(t, "MaxStartups 2")
	d := s.client(t)
	e, err := d.Resolve(s.addr())
	if err != nil {
		t.Fatal(err)
	}
	e.NoShare = true
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			c, err := d.DialEndpoint(within(t, 30*time.Second), e)
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		})
	}
	wg.Wait()
	if s.log.count("drop connection") == 0 {
		t.Log("nothing was dropped")
	}
}

// A link that swallows everything is noticed, and what is said about it is right.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	hole := make(chan struct{})
	addr := listen(t, func(c net.Conn) { swallow(c, s.addr(), hole) })
	_, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	known := write(t, filepath.Join(dir, "known_hosts"), fmt.Sprintf("[127.0.0.1]:%s %s", port, read(t, s.hostKey+".pub")))
	d := client(t, dir, "IdentityFile "+s.key, "UserKnownHostsFile "+known)
	e, err := d.Resolve(addr)
	if err != nil {
		t.Fatal(err)
	}
	e.KeepAlive, e.KeepAliveMax = 100*time.Millisecond, 2
	c, err := d.DialEndpoint(within(t, 10*time.Second), e)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := begin(t, c, "sleep 0.7; echo alive; cat")
	b := make([]byte, 6)
	if _, err := io.ReadFull(p.Stdout, b); err != nil { // a silent command is no dead link
		t.Fatalf("the connection died on a silent command: %v", c.Err())
	}
	close(hole)
	cut := time.Now()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("a dead link was not noticed")
	}
	if took := time.Since(cut); took < 200*time.Millisecond {
		t.Errorf("given up after %v", took)
	}
	if err := c.Err(); !errors.Is(err, sshx.ErrKeepAlive) {
		t.Errorf("Err: %v", err)
	}
	if err := p.Wait(); !errors.Is(err, sshx.ErrLost) || !errors.Is(err, sshx.ErrKeepAlive) || hint(err) == "" {
		t.Errorf("Wait: %v", err)
	} else {
		t.Log(err)
	}
	_ = p.Close()
}

// swallow forwards until hole is closed; then it reads on and passes nothing.
func swallow(c net.Conn, addr string, hole <-chan struct{}) {
	up, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer up.Close()
	var wg sync.WaitGroup
	pass := func(to, from net.Conn) {
		defer from.Close()
		defer to.Close()
		b := make([]byte, 32<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			select {
			case <-hole:
				continue
			default:
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
	wg.Go(func() { pass(up, c) })
	wg.Go(func() { pass(c, up) })
	wg.Wait()
}
