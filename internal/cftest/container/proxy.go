// Package container is the SSH side of a Cloud Foundry platform for tests: its SSH proxy, and containers behind it whose
// commands are real processes. It has no API and makes no one-time codes.
package container

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Proxy is a platform's SSH proxy. Its fields are set before Start and left alone after it; the zero value lets nobody
// in.
type Proxy struct {
	// TakeCode reports whether a one-time code is good, which uses it up. It is asked before anything is known of the user,
	// from the connections' goroutines. nil: none is good.
	TakeCode func(code string) (ok bool)
	// Allow reports whether somebody with a good code may enter the instance; those who may not see the same as with a bad
	// code. nil: everybody may.
	Allow func(guid string, index int) bool

	Address       string        // to listen on; "" is a free port of 127.0.0.1
	Listener      net.Listener  // in place of Address, one in a network namespace perhaps; Close closes it
	HostKey       ssh.Signer    // nil: Start makes an ed25519 key
	IdleTimeout   time.Duration // a connection on which nothing moves for so long is cut; 0 is 300 s
	MaxHandshakes int           // at once; further connections are reset. 0 is no limit

	listener net.Listener
	config   *ssh.ServerConfig
	work     sync.WaitGroup // every goroutine started here

	mu         sync.Mutex
	closed     bool
	containers map[string]*Container
	links      map[*link]struct{}

	accepted, logins, handshakes, resets atomic.Int64
}

// link is a connection, and the container that it leads to after its login.
type link struct {
	net.Conn
	container *Container // guarded by Proxy.mu
	idle      *time.Timer
	limit     time.Duration
	frozen    atomic.Bool
}

func (l *link) Read(p []byte) (int, error) {
	for {
		n, err := l.Conn.Read(p)
		if err != nil || !l.frozen.Load() {
			l.idle.Reset(l.limit)
			return n, err
		}
	}
}

func (l *link) Write(p []byte) (int, error) {
	if l.frozen.Load() {
		return len(p), nil
	}
	l.idle.Reset(l.limit)
	return l.Conn.Write(p)
}

// cut closes a connection so that the other side gets a reset and nothing that still waits to be sent.
func (l *link) cut() {
	if tcp, ok := l.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	l.Conn.Close()
}

// Start listens and serves until Close.
func (p *Proxy) Start() error {
	if p.HostKey == nil {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		if p.HostKey, err = ssh.NewSignerFromKey(private); err != nil {
			return err
		}
	}
	p.config = &ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{"curve25519-sha256@libssh.org"},
			Ciphers:      []string{"aes128-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr"},
		},
		PasswordCallback: p.login,
	}
	p.config.AddHostKey(p.HostKey)
	p.listener = p.Listener
	if p.listener == nil {
		address := p.Address
		if address == "" {
			address = "127.0.0.1:0"
		}
		var err error
		if p.listener, err = net.Listen("tcp", address); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.links = make(map[*link]struct{})
	p.mu.Unlock()
	p.work.Go(p.accept)
	return nil
}

// Addr is where the proxy listens, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Accepted is how many TCP connections have been accepted so far, those that were reset included.
func (p *Proxy) Accepted() int { return int(p.accepted.Load()) }

// Logins is how many logins have succeeded so far.
func (p *Proxy) Logins() int { return int(p.logins.Load()) }

// Resets is how many connections have been refused so far for too many handshakes.
func (p *Proxy) Resets() int { return int(p.resets.Load()) }

// Connections is how many connections are open now.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Add makes a container one that can be logged in to. It takes the place of one with the same name, which goes on
// without new logins.
func (p *Proxy) Add(c *Container) {
	c.init(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.containers == nil {
		p.containers = make(map[string]*Container)
	}
	p.containers[c.name()] = c
}

// Remove makes a container unknown. Its connections stay.
func (p *Proxy) Remove(c *Container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.containers[c.name()] == c {
		delete(p.containers, c.name())
	}
}

// CloseConnections cuts all connections without a word. What runs in the containers goes on.
func (p *Proxy) CloseConnections() { p.cut(nil) }

// Freeze lets nothing pass any more on the connections that there are, and tells nobody: what a network does that loses
// all packets.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.frozen.Store(true)
	}
}

// cut cuts the connections to a container, or all.
func (p *Proxy) cut(c *Container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if c == nil || l.container == c {
			l.cut()
		}
	}
}

// Close cuts the connections and returns when nothing of the proxy runs any more. It does not end what runs in the
// containers, and waits for it: close those first.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if p.closed || p.listener == nil {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.cut(nil)
	p.work.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client has gone again, or no descriptor is free
		}
		p.accepted.Add(1)
		l := &link{Conn: conn, limit: p.IdleTimeout}
		if l.limit == 0 {
			l.limit = 300 * time.Second
		}
		l.idle = time.AfterFunc(l.limit, l.cut)
		p.work.Go(func() {
			defer l.idle.Stop()
			if !p.add(l) {
				l.cut()
				return
			}
			defer p.remove(l)
			p.serve(l)
		})
	}
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
	l.Conn.Close()
}

// errRefused is all that a client is told, whatever the reason.
var errRefused = errors.New("container: login refused")

// login checks a one-time code, and then whether there is such an instance.
func (p *Proxy) login(meta ssh.ConnMetadata, code []byte) (*ssh.Permissions, error) {
	guid, index, ok := instance(meta.User())
	if !ok || p.TakeCode == nil || !p.TakeCode(string(code)) {
		return nil, errRefused
	}
	if p.Allow != nil && !p.Allow(guid, index) || p.container(meta.User()) == nil {
		return nil, errRefused
	}
	return nil, nil
}

// instance takes a user's name apart, cf:GUID/INDEX.
func instance(user string) (guid string, index int, ok bool) {
	name, ok := strings.CutPrefix(user, "cf:")
	guid, number, found := strings.Cut(name, "/")
	index, err := strconv.Atoi(number)
	return guid, index, ok && found && guid != "" && err == nil && index >= 0
}

func (p *Proxy) container(user string) *Container {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.containers[strings.TrimPrefix(user, "cf:")]
}

// serve returns when the connection is dead and what ran on it has ended.
func (p *Proxy) serve(l *link) {
	n := p.handshakes.Add(1)
	if p.MaxHandshakes > 0 && n > int64(p.MaxHandshakes) {
		p.handshakes.Add(-1)
		p.resets.Add(1)
		l.cut()
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(l, p.config)
	p.handshakes.Add(-1)
	if err != nil {
		return
	}
	p.logins.Add(1)
	defer conn.Close()
	c := p.container(conn.User())
	// The proxy connects to the container only now, and has no way to say that it could not.
	if c == nil || c.Unreachable.Load() {
		return
	}
	p.mu.Lock()
	l.container = c
	p.mu.Unlock()
	var work sync.WaitGroup
	work.Go(func() { refuse(requests) })
	for open := range channels {
		if open.ChannelType() != "session" {
			open.Reject(ssh.UnknownChannelType, "unknown channel type")
			continue
		}
		work.Go(func() { c.session(open) })
	}
	work.Wait()
}

// refuse answers global requests, keep-alives among them, with no: any answer shows that we live.
func refuse(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply {
			r.Reply(false, nil)
		}
	}
}
