// Package rawserver is an SSH server that sends the packets that it is told to, also those that no server should send, at
// any time. It is what tests of hostile servers are made of; it knows one algorithm of each kind, and checks nothing.
package rawserver

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Server listens on a free port of 127.0.0.1.
type Server struct {
	Key ssh.Signer // its host key, ed25519

	listener net.Listener
	handle   func(*Conn)
	work     sync.WaitGroup // every goroutine started here

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// Start serves until Close. handle is called for each connection in a goroutine of its own; when it returns the
// connection is closed. It must return when its connection fails, which Close makes it do.
func Start(handle func(*Conn)) (*Server, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Key: key, listener: listener, handle: handle, conns: make(map[net.Conn]struct{})}
	s.work.Go(s.accept)
	return s, nil
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends all connections, and returns when nothing of the server runs any more.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.listener.Close()
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.add(conn) {
			conn.Close()
			return
		}
		s.work.Go(func() {
			defer s.remove(conn)
			s.handle(&Conn{Conn: conn, Key: s.Key})
		})
	}
}

func (s *Server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[conn] = struct{}{}
	}
	return !s.closed
}

func (s *Server) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	conn.Close()
}
