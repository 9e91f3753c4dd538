// Package sshserver is an SSH server inside the process whose command is a Go func. It gives no shell, no terminal and no files.
package sshserver

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// Server is an SSH server. Its fields are set before Start and left alone after it; the zero value lets everyone in
// and ends each command with status 0.
type Server struct {
	Handler func(*Session) int // runs a command and returns its exit status, or NoStatus; nil: status 0 at once

	Address      string       // to listen on; "" is a free port of 127.0.0.1
	HostKey      ssh.Signer   // nil: Start makes an ed25519 key
	MoreHostKeys []ssh.Signer // offered beside HostKey, for other algorithms and certificates
	Version      string       // the line that names the server; "" is that of x/crypto/ssh

	// Ways in; any one of them will do. With none set nobody is asked anything.
	User           string          // the only login accepted; "" is any
	Password       string          // "" is no login by password
	AuthorizedKeys []ssh.PublicKey // empty is no login by key
	Questions      []Question      // keyboard-interactive, asked in one go; empty is no login by it
	MaxAuthTries   int             // failed tries before the connection is closed; 0 is 6
	Banner         string          // shown before the login; "" is none

	// AuthLog is told each try to log in: nil is a success, ssh.ErrNoAuth the client's first question what there is.
	// It is called from the connections' goroutines.
	AuthLog func(user, method string, err error)

	MaxSessions  int  // at once on one connection, further ones are refused as sshd does; 0 is no limit
	RefuseExec   bool // answers each request for a command with no
	NoForwarding bool // refuses to be a jump host

	// Dial connects what a client forwards (direct-tcpip); nil is TCP to the address the client names.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	IgnoreKeepAlive bool // never answers a global request
	IgnoreSignals   bool // drops signals, as some servers do

	// BeforeVersion runs on a new connection before anything is sent; an error closes it. It may take its time:
	// CloseConnections and Close close the connection under it.
	BeforeVersion func(net.Conn) error

	listener net.Listener
	config   *ssh.ServerConfig
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup // every goroutine started here

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}

	accepted, sessions, forwards atomic.Int64
}

// Question is one line asked in a keyboard-interactive login.
type Question struct {
	Text   string
	Echo   bool
	Answer string // the one that is accepted
}

// Start listens and serves until Close.
func (s *Server) Start() error {
	if err := s.configure(); err != nil {
		return err
	}
	address := s.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.listener = listener
	s.conns = make(map[net.Conn]struct{})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.Go(s.accept)
	return nil
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// PublicKey is the host key.
func (s *Server) PublicKey() ssh.PublicKey { return s.HostKey.PublicKey() }

// Accepted is how many TCP connections have been accepted so far.
func (s *Server) Accepted() int { return int(s.accepted.Load()) }

// Connections is how many connections are open now.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Sessions is how many commands run now. A command is no longer counted once its client can know that it ended.
func (s *Server) Sessions() int { return int(s.sessions.Load()) }

// Forwards is how many connections have been forwarded so far.
func (s *Server) Forwards() int { return int(s.forwards.Load()) }

// CloseConnections cuts all connections without a word, as a router that restarts does. New ones are accepted.
func (s *Server) CloseConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		cut(conn)
	}
}

// Close ends everything and returns when nothing of the server runs any more. It waits for the handlers, whose
// contexts have ended.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed || s.listener == nil {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	err := s.listener.Close()
	s.cancel()
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
	return err
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client has gone again, or no descriptor is free
		}
		if !s.add(conn) {
			conn.Close()
			return
		}
		s.work.Go(func() {
			defer s.remove(conn)
			s.serve(conn)
		})
	}
}

func (s *Server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.accepted.Add(1)
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	conn.Close()
}

// serve returns when the connection is dead and all that ran on it has ended.
func (s *Server) serve(conn net.Conn) {
	if s.BeforeVersion != nil && s.BeforeVersion(conn) != nil {
		return
	}
	link, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	c := &connection{server: s, link: link}
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(s.ctx)
	work.Go(func() { c.answer(requests) })
	for open := range channels {
		work.Go(func() { c.open(ctx, open) })
	}
	cancel()
	work.Wait()
	link.Wait() // only says how it ended, which nobody asks
}

// cut closes conn so that the other side gets a reset and nothing that still waits to be sent.
func cut(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

func newHostKey() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}
