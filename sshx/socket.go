package sshx

import (
	"bytes"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// maxGreeting bounds what is kept of what a server says before it introduces itself.
const maxGreeting = 512

// socket is a connection that remembers how far the server has come.
type socket struct {
	net.Conn
	met      func(version string) // called when the server has introduced itself; may be nil
	received atomic.Int64         // bytes
	greeted  atomic.Bool          // the server has introduced itself, or said too much
	unread   unread
	tracer   Tracer
	mu       sync.Mutex
	greeting []byte        // up to its introduction, at most maxGreeting
	ioErr    error         // the first one
	silent   chan struct{} // closed when a read has failed
	once     sync.Once
}

func newSocket(conn net.Conn) *socket { return &socket{Conn: conn, silent: make(chan struct{})} }

func (s *socket) Read(b []byte) (int, error) {
	s.hold()
	n, err := s.Conn.Read(b)
	if n > 0 {
		s.unread.came(n)
		s.received.Add(int64(n))
		s.tracer.see(b[:n])
		if !s.greeted.Load() {
			s.greet(b[:n])
		}
	}
	if err != nil {
		s.fail(err)
		s.once.Do(func() { close(s.silent) })
	}
	return n, err
}

// goesSilent reports whether a read fails within a time, once the socket is closed. If none does, nobody reads any more: the
// goroutine of x/crypto's that reads hangs for ever with what it has read, because the server has sent more behind the
// message that ended the connection than x/crypto has places for, and nobody takes it.
func (s *socket) goesSilent(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-s.silent:
		return true
	case <-timer.C:
		return false
	}
}

// Close also ends a read that waits for room.
func (s *socket) Close() error {
	s.unread.close()
	return s.Conn.Close()
}

func (s *socket) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if err != nil {
		s.fail(err)
	}
	return n, err
}

func (s *socket) greet(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.greeting = append(s.greeting, b[:min(len(b), maxGreeting-len(s.greeting))]...)
	version, whole := s.version()
	if whole && s.met != nil {
		s.met(version)
	}
	s.greeted.Store(whole || len(s.greeting) == maxGreeting)
}

// version is the line with which the server introduces itself, if it has come whole.
func (s *socket) version() (line string, whole bool) {
	if !s.introduced() {
		return "", false
	}
	text := string(s.greeting)
	line, _, whole = strings.Cut(text[strings.Index("\n"+text, "\nSSH-"):], "\n")
	return strings.TrimSuffix(line, "\r"), whole
}

// introduced reports whether a line that begins with SSH- has come (RFC 4253, section 4.2: others may come before it).
func (s *socket) introduced() bool {
	return bytes.HasPrefix(s.greeting, []byte("SSH-")) || bytes.Contains(s.greeting, []byte("\nSSH-"))
}

func (s *socket) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ioErr == nil {
		s.ioErr = err
	}
}

// state gives whether the server has introduced itself, what it said before, and the first error.
func (s *socket) state() (introduced bool, said string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.introduced(), string(s.greeting), s.ioErr
}

// progress says for a timeout what the server has done so far.
func (s *socket) progress() string {
	introduced, said, _ := s.state()
	switch {
	case introduced:
		return "did not finish the SSH handshake"
	case said != "":
		return "accepted the connection, but is no SSH server"
	}
	return "accepted the connection, but said nothing"
}

// channelConn is a jump host's channel as a connection.
type channelConn struct {
	ssh.Channel
	local, remote net.Addr
}

// openDirect asks the jump host to connect to host (RFC 4254, section 7.2).
func openDirect(jump *transport, host string, port int) (net.Conn, error) {
	ch, reqs, err := jump.openChannel("direct-tcpip", ssh.Marshal(struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}{host, uint32(port), "127.0.0.1", 0}))
	if err != nil {
		return nil, err
	}
	jump.group.run(func() { ssh.DiscardRequests(reqs) })
	return &channelConn{Channel: ch, local: jump.first().sock.LocalAddr(), remote: hostAddr(hostPort(host, port))}, nil
}

func (c *channelConn) LocalAddr() net.Addr              { return c.local }
func (c *channelConn) RemoteAddr() net.Addr             { return c.remote }
func (c *channelConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *channelConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *channelConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// hostAddr is the address of a host that only the jump host knows.
type hostAddr string

func (hostAddr) Network() string  { return "tcp" }
func (a hostAddr) String() string { return string(a) }

// firstLine gives the first line of what a server said, fit to print.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimLeft(s, "\r\n"), "\n")
	return oneLine(s)
}
