package sshx

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// mostDrops is how often a server may hang up at once before it is given up, when it has never let anybody in: then it is
// hardly load. One that has is tried until the time is up.
const mostDrops = 6

// dialHop connects and logs in to e itself, through jump if that is not nil.
func (d *Dialer) dialHop(ctx context.Context, e *Endpoint, jump *transport, jumpName string) (*transport, error) {
	if err := d.checkIdentities(e); err != nil {
		return nil, err
	}
	limit := d.init().limits.of(e.path())
	if limit.isHanging() {
		return nil, &Error{Kind: KindOther, Problem: "the server has broken the rules of SSH again and again, and is left alone",
			Tip: "look at what answers on that port; a new start tries it again"}
	}
	h := handshake{d: d, e: e, jump: jump, jumpName: jumpName, timeout: d.timeout(e), limit: limit}
	ctx, cancel := withBudget(ctx, h.timeout)
	defer cancel()
	var dropped error
	for try := 1; ; try++ {
		t, err := h.inTurn(ctx)
		if err == nil {
			return t, nil
		}
		if KindOf(err) == KindDropped {
			dropped = err
		} else if dropped != nil && context.Cause(ctx) == errBudget {
			return nil, dropped // says more than that the time was up
		}
		if KindOf(err).isNoAnswer() && try < e.ConnectionAttempts && pause(ctx, time.Second) == nil {
			continue
		}
		if KindOf(err) != KindDropped || try == mostDrops && !limit.hasWorked() || backOff(ctx, try) != nil {
			return nil, err
		}
	}
}

func (d *Dialer) timeout(e *Endpoint) time.Duration {
	switch {
	case e.ConnectTimeout > 0:
		return e.ConnectTimeout
	case d.ConnectTimeout > 0:
		return d.ConnectTimeout
	}
	return DefaultConnectTimeout
}

// handshake is what is needed to connect to one endpoint, again and again.
type handshake struct {
	d        *Dialer
	e        *Endpoint
	jump     *transport
	jumpName string
	timeout  time.Duration
	limit    *limiter
}

// inTurn tries once, when the server has a place for it. The time until then does not count.
func (h *handshake) inTurn(ctx context.Context) (*transport, error) {
	resume := pauseBudget(ctx)
	epoch, err := h.limit.acquire(ctx)
	resume()
	if err != nil && ctx.Err() == nil {
		return nil, err // of one who has waited for the server
	}
	if err != nil {
		return nil, h.contextError(ctx, "")
	}
	t, err := h.try(ctx)
	switch {
	case err == nil:
		h.settle(t, epoch)
	case KindOf(err) == KindDropped:
		h.limit.release(epoch, wasDropped)
	default:
		if context.Cause(ctx) == errBudget {
			h.limit.silence(err)
		}
		h.limit.release(epoch, saysNothing)
	}
	return t, err
}

// settle gives the place free when the server knows that we have logged in. OpenSSH says so to us a moment before it
// tells the process that counts; who comes in between is one too many. What it answers after that proves it.
func (h *handshake) settle(t *transport, epoch int) {
	release := sync.OnceFunc(func() { h.limit.release(epoch, cameThrough) })
	if !h.limit.crowded() {
		release()
		return
	}
	patience := time.AfterFunc(time.Second, release) // some never answer
	asked := t.group.run(func() {
		_, _, _ = t.conn.SendRequest("keepalive@openssh.com", true, nil)
		patience.Stop()
		release()
	})
	if !asked {
		patience.Stop()
		release()
	}
}

// clientConn is what ssh.NewClientConn gives.
type clientConn struct {
	conn  ssh.Conn
	chans <-chan ssh.NewChannel
	reqs  <-chan *ssh.Request
	err   error
}

// try connects and logs in once.
func (h *handshake) try(ctx context.Context) (*transport, error) {
	g := &group{}
	if h.jump != nil {
		g = h.jump.group
	}
	conn, err := h.connect(ctx)
	if err != nil {
		return nil, err
	}
	sock := newSocket(conn)
	sock.met = h.limit.meet
	h.d.init().backlog.countIn(sock)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	a := &attempt{handshake: h, ctx: ctx, sock: sock}
	shaken := make(chan clientConn, 1) // sent to once by the goroutine below
	if !g.run(func() { shaken <- a.shake() }) {
		conn.Close()
		return nil, h.jumpDied()
	}
	select {
	case c := <-shaken:
		if c.err == nil && stop() {
			return newTransport(h, sock, &c, g), nil
		}
		h.abandon(sock, g)
		return nil, a.explain(c.err)
	case <-ctx.Done():
		h.abandon(sock, g)
		return nil, h.contextError(ctx, sock.progress())
	}
}

// abandon cuts a connection that did not come about and, when it is a direct one, waits until nothing is left of it.
func (h *handshake) abandon(sock *socket, g *group) {
	if h.jump == nil {
		sock.Close()
		g.wait()
	} else {
		g.run(func() { sock.Close() })
	}
	if introduced, _, _ := sock.state(); introduced && !sock.goesSilent(patienceFor(h.jump)) {
		h.limit.hung()
	}
}

// patienceFor is how long the end of a socket may take: the one that goes through a jump host ends when that says so.
func patienceFor(jump *transport) time.Duration {
	if jump == nil {
		return time.Second
	}
	return 5 * time.Second
}

func (h *handshake) connect(ctx context.Context) (net.Conn, error) {
	if h.jump != nil {
		return h.connectThrough(ctx)
	}
	dial := h.e.DialTCP
	if dial == nil {
		dial = h.e.dialDirect
	}
	conn, err := dial(ctx, "tcp", h.e.addr())
	for try := 1; noFileFree(err) && backOff(ctx, try) == nil; try++ {
		conn, err = dial(ctx, "tcp", h.e.addr())
	}
	if err == nil {
		return conn, nil
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && context.Cause(ctx) == errBudget {
		return nil, h.explainSlowName(dns)
	}
	if ctx.Err() != nil {
		return nil, h.contextError(ctx, "")
	}
	if _, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok && h.e.DialTCP != nil {
		return nil, err
	}
	return nil, h.explainConnect(err)
}

// noFileFree reports whether a descriptor was lacking. Where many log in at once, some have one for a moment only.
func noFileFree(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// connectThrough asks the jump host to connect. When ctx ends first, the jump host's answer is waited for in the group.
func (h *handshake) connectThrough(ctx context.Context) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	opened := make(chan result) // received here, or given up when ctx ends
	ok := h.jump.group.run(func() {
		conn, err := openDirect(h.jump, h.e.Host, h.e.port())
		select {
		case opened <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close()
			}
		}
	})
	if !ok {
		return nil, h.jumpDied()
	}
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, h.explainJump(r.err)
		}
		return r.conn, nil
	case <-ctx.Done():
		return nil, h.contextError(ctx, "")
	}
}

// shake runs the SSH handshake. It ends when the socket is closed.
func (a *attempt) shake() clientConn {
	config := &ssh.ClientConfig{User: a.e.User}
	config.KeyExchanges, config.Ciphers, config.MACs = a.e.Algorithms.KeyExchanges, a.e.Algorithms.Ciphers, a.e.Algorithms.MACs
	config.RekeyThreshold = a.e.RekeyBytes
	if config.Ciphers == nil {
		config.Ciphers = ciphers()
	}
	if err := a.hostKeys(config); err != nil {
		a.hostKeyErr = err
		return clientConn{err: err}
	}
	config.HostKeyCallback = a.bounded(config.HostKeyCallback)
	defer a.login.close()
	a.login = login{d: a.d, e: a.e, ctx: a.ctx, sock: a.sock}
	config.AuthCallback = a.login.next
	var c clientConn
	c.conn, c.chans, c.reqs, c.err = ssh.NewClientConn(a.sock, a.e.addr(), config)
	if c.err == nil && a.login.several && a.login.offered != nil {
		a.d.state.accepted.note(a.e, a.login.offered)
	}
	return c
}

// attempt is one handshake on one socket. Its fields are written by the goroutine that runs shake.
type attempt struct {
	*handshake
	ctx        context.Context
	sock       *socket
	login      login
	hostKeyErr error // what the check of the host key said
}
