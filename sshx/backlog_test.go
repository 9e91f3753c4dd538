package sshx_test

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

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
	e, d := serverEndpoint(t, server), new(sshx.Dialer)
	var processes []*sshx.Process
	for i := range servers {
		e.User, e.ShareName, e.KeepAlive, e.KeepAliveMax = fmt.Sprint("u", i), "flood", 400*time.Millisecond, 3
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
	const handshakes = servers * 8 << 10
	if came := sshx.Came(d); came > bound+handshakes || came < 1<<20 {
		t.Errorf("%d bytes came, %d is the bound", came, bound+handshakes)
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

// A stream that is read into buffers which each read fills to the end goes on, however many messages it comes in: what SSH
// puts around them is counted as if it was not read, until all that came has been.
func TestReadExactly(t *testing.T) {
	t.Parallel()
	const size = 128
	const messages = sshx.MostUnread / 36 * 5 / 4 // 36 bytes are around one at least
	server := &sshserver.Server{Handler: func(s *sshserver.Session) int {
		for range messages {
			if _, err := s.Stdout.Write(make([]byte, size)); err != nil {
				return 1
			}
		}
		return 0
	}}
	c := dialServer(t, serverEndpoint(t, server))
	p := begin(t, c, "flood")
	go io.Copy(io.Discard, p.Stderr)
	stuck := time.AfterFunc(testTime, func() { p.Close() })
	defer stuck.Stop()
	b, n, err := make([]byte, size), 0, error(nil)
	for err == nil {
		var more int
		more, err = p.ReadStdout(b)
		if n += more; n%(1000*size) == 0 {
			stuck.Reset(testTime) // however long it takes in all
		}
	}
	if n != size*messages {
		t.Errorf("%d bytes of %d, %v; %v", n, size*messages, err, c.Err())
	}
}

// A connection that is given up ends although a process on it has not been read to its end, and was not closed.
func TestCloseUnread(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	server := &sshserver.Server{Handler: func(s *sshserver.Session) int {
		for range 100 {
			if _, err := s.Stdout.Write(make([]byte, 32<<10)); err != nil {
				return 1
			}
		}
		<-end
		return 0
	}}
	e := serverEndpoint(t, server)
	t.Cleanup(func() { close(end) })
	for name, read := range map[string]func(p *sshx.Process) (int, error){
		"nothing":    func(*sshx.Process) (int, error) { return 0, nil },
		"Stdout":     func(p *sshx.Process) (int, error) { return p.Stdout.Read(make([]byte, 100)) },
		"ReadStdout": func(p *sshx.Process) (int, error) { return p.ReadStdout(make([]byte, 100)) },
	} {
		c := dialServer(t, e)
		p, err := c.Start(within(t, 10*time.Second), "flood")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read(p); err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		go func() { c.Close(); close(closed) }()
		select {
		case <-closed:
		case <-within(t, testTime).Done():
			t.Errorf("%s read: the connection does not end", name)
			p.Close()
		}
	}
}
