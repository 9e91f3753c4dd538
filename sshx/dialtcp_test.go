package sshx_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/sshx"
)

// through dials to, whatever it is asked for, and counts.
func through(t *testing.T, to string, dialled *atomic.Int32) sshx.Endpoint {
	return sshx.Endpoint{Host: "nowhere.invalid", Port: 2222, User: "ann", KnownHosts: []string{write(t, t.TempDir()+"/known", "")}, StrictHostKey: sshx.StrictAcceptNew,
		DialTCP: func(ctx context.Context, network, address string) (net.Conn, error) {
			if network != "tcp" || address != "nowhere.invalid:2222" {
				t.Errorf("dials %s %s", network, address)
			}
			dialled.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}}
}

func TestDialTCP(t *testing.T) {
	t.Parallel()
	s := &sshserver.Server{}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for name, want := range map[string]int32{"": 2, "one": 1} {
		var dialled atomic.Int32
		e := through(t, s.Addr(), &dialled)
		e.ShareName = name
		d := &sshx.Dialer{}
		for range 2 {
			conn, err := d.DialEndpoint(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		if n := dialled.Load(); n != want {
			t.Errorf("ShareName %q: %d connections, want %d", name, n, want)
		}
	}
}

// TestDialTCPJump: the way to a jump host goes through its DialTCP, that to the host behind it does not.
func TestDialTCPJump(t *testing.T) {
	t.Parallel()
	target := &sshserver.Server{}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	jump := &sshserver.Server{Dial: func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", target.Addr())
	}}
	if err := jump.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { jump.Close() })
	var dialled atomic.Int32
	e := sshx.Endpoint{Host: "behind.invalid", User: "ann", HostKeyCallback: ssh.InsecureIgnoreHostKey(), Jumps: []sshx.Endpoint{through(t, jump.Addr(), &dialled)},
		DialTCP: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("not this way") }}
	conn, err := (&sshx.Dialer{}).DialEndpoint(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if dialled.Load() != 1 || jump.Forwards() != 1 {
		t.Errorf("%d dialled, %d forwarded", dialled.Load(), jump.Forwards())
	}
}

type tipped struct{ error }

func (tipped) Hint() string { return "do this" }

func TestDialTCPErrors(t *testing.T) {
	t.Parallel()
	fail := func(err error) error {
		e := sshx.Endpoint{Host: "x.invalid", User: "ann", DialTCP: func(context.Context, string, string) (net.Conn, error) { return nil, err }}
		_, err = (&sshx.Dialer{}).DialEndpoint(t.Context(), e)
		return err
	}
	plain := tipped{errors.New("the proxy is out")}
	if err := fail(plain); err != plain {
		t.Errorf("%v", err)
	}
	if err := fail(syscall.ECONNREFUSED); sshx.KindOf(err) != sshx.KindRefused {
		t.Errorf("%v", err)
	}
	if err := fail(errors.New("out of order")); sshx.KindOf(err) != sshx.KindUnreachable {
		t.Errorf("%v", err)
	}
	slow := sshx.Endpoint{Host: "x.invalid", User: "ann", ConnectTimeout: 50 * time.Millisecond, DialTCP: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	if _, err := (&sshx.Dialer{}).DialEndpoint(t.Context(), slow); sshx.KindOf(err) != sshx.KindTimeout {
		t.Errorf("%v", err)
	}
}
