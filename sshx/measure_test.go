package sshx_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/sshx"
)

// serverEndpoint is that of a server inside this process, with a connection of its own.
func serverEndpoint(t *testing.T, s *sshserver.Server) sshx.Endpoint {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	addr := s.Addr()
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return sshx.Endpoint{Host: tcp.IP.String(), Port: tcp.Port, User: "u", HostKeyCallback: ssh.FixedHostKey(s.PublicKey()),
		Auth: func(context.Context) ([]ssh.AuthMethod, error) { return []ssh.AuthMethod{ssh.Password("")}, nil }}
}

func dialServer(t *testing.T, e sshx.Endpoint) *sshx.Conn {
	t.Helper()
	c, err := new(sshx.Dialer).DialEndpoint(within(t, 10*time.Second), e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestRoom: what the server allows beside what is open, again and again, and a session fits in afterwards at once.
func TestRoom(t *testing.T) {
	t.Parallel()
	s := newSSHD(t, "MaxSessions 3")
	c := dial(t, s.client(t), s.addr())
	for _, most := range []int{10, 3, 2, 0} {
		n, err := c.Room(within(t, 10*time.Second), most)
		if err != nil || n != min(most, 3) {
			t.Errorf("of %d: %d, %v", most, n, err)
		}
		if got := output(t, c, "echo on"); got != "on\n" {
			t.Errorf("afterwards: %q", got)
		}
	}
	begin(t, c, "cat")
	if n, err := c.Room(within(t, 10*time.Second), 10); err != nil || n != 2 {
		t.Errorf("beside one: %d, %v", n, err)
	}
}

// TestNextSession: with room for one session only, the next one fits in when the one before has ended.
func TestNextSession(t *testing.T) {
	t.Parallel()
	s := newSSHD(t, "MaxSessions 1")
	c := dial(t, s.client(t), s.addr())
	for range 30 {
		p := begin(t, c, "true")
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	const delay = 30 * time.Millisecond
	e := serverEndpoint(t, &sshserver.Server{})
	e.DialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &slowConn{Conn: conn, delay: delay}, err
	}
	c := dialServer(t, e)
	got, err := c.RoundTrip(within(t, 10*time.Second))
	if err != nil || got < delay {
		t.Errorf("%v, %v; every read takes %v", got, err, delay)
	}
}

// slowConn takes its time for each read.
type slowConn struct {
	net.Conn
	delay time.Duration
}

func (c *slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(c.delay)
	return n, err
}

// TestMeasureSilent: a server that answers nothing holds nobody up.
func TestMeasureSilent(t *testing.T) {
	t.Parallel()
	c := dialServer(t, serverEndpoint(t, &sshserver.Server{IgnoreKeepAlive: true}))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if d, err := c.RoundTrip(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", d, err)
	}
	if n, err := c.Room(within(t, 10*time.Second), 4); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	c.Close()
	if _, err := c.RoundTrip(context.Background()); sshx.KindOf(err) != sshx.KindLost {
		t.Errorf("RoundTrip on a dead connection: %v", err)
	}
	if _, err := c.Room(context.Background(), 4); sshx.KindOf(err) != sshx.KindLost {
		t.Errorf("Room on a dead connection: %v", err)
	}
}

type hinted struct{}

func (hinted) Error() string { return "no such luck" }
func (hinted) Hint() string  { return "try again" }

// TestForeignErrors: what an endpoint's own funcs say keeps its words, its hint and its cause, and tells which of them it was.
func TestForeignErrors(t *testing.T) {
	t.Parallel()
	e := serverEndpoint(t, &sshserver.Server{Password: "secret"})
	for kind, change := range map[sshx.Kind]func(*sshx.Endpoint){
		sshx.KindHostKey: func(e *sshx.Endpoint) {
			e.HostKeyCallback = func(string, net.Addr, ssh.PublicKey) error { return hinted{} }
		},
		sshx.KindAuth: func(e *sshx.Endpoint) {
			e.Auth = func(context.Context) ([]ssh.AuthMethod, error) { return nil, hinted{} }
		},
	} {
		e := e
		change(&e)
		_, err := new(sshx.Dialer).DialEndpoint(within(t, 10*time.Second), e)
		if !errors.Is(err, hinted{}) || !strings.HasSuffix(err.Error(), "no such luck") {
			t.Errorf("%v", err)
		}
		wantError(t, err, kind, "no such luck", "try again")
	}
}
