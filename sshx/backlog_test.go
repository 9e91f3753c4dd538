package sshx_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/sshx"
)

// Sessions that nobody reads are not read ahead of without end: servers wait. No server is taken for dead meanwhile, and
// all comes when it is read.
func TestUnreadIsBounded(t *testing.T) {
	t.Parallel()
	const servers, size = 40, 3 << 20
	server := &sshserver.Server{Handler: func(s *sshserver.Session) int {
		for sent := 0; sent < size; {
			n, err := s.Stdout.Write(make([]byte, 32<<10))
			if err != nil {
				return 1
			}
			sent += n
		}
		return 0
	}}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	d := new(sshx.Dialer)
	var processes []*sshx.Process
	for i := range servers {
		host, port, _ := net.SplitHostPort(server.Addr())
		number, _ := strconv.Atoi(port)
		e := sshx.Endpoint{Host: host, Port: number, Auth: nobody, User: fmt.Sprint("u", i), HostKeyCallback: ssh.FixedHostKey(server.PublicKey()),
			KeepAlive: 400 * time.Millisecond, KeepAliveMax: 3}
		c, err := d.DialEndpoint(within(t, 30*time.Second), e)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		processes = append(processes, begin(t, c, "flood"))
	}
	most := int64(0)
	for began := time.Now(); time.Since(began) < 2500*time.Millisecond; time.Sleep(10 * time.Millisecond) { // longer than a silent server is waited for
		most = max(most, sshx.Unread(d))
	}
	const bound = sshx.MostUnread + servers*(64+64)<<10
	if most > bound || most < sshx.MostUnread {
		t.Errorf("%d bytes of %d were taken, %d is the bound", most, servers*size, bound)
	}
	var reading sync.WaitGroup
	for i, p := range processes {
		reading.Go(func() {
			n, _ := io.Copy(io.Discard, p.Stdout)
			if err := p.Wait(); n != size || err != nil {
				t.Errorf("session %d: %d bytes of %d, %v", i, n, size, err)
			}
		})
		reading.Go(func() { io.Copy(io.Discard, p.Stderr) })
	}
	reading.Wait()
}

func nobody(context.Context) ([]ssh.AuthMethod, error) { return nil, nil }
