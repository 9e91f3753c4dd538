package sshx

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// transport is one SSH connection that is logged in.
type transport struct {
	conn     ssh.Conn
	sock     *socket
	limit    *limiter
	jump     *transport // nil when dialled directly
	jumpName string
	freeJump func()
	group    *group // that of the first jump host: see group

	abandoned atomic.Int64 // sessions that nobody here wants any more, and that the server has not ended
	padding   atomic.Bool  // messages of Pad are being sent
	lastEnd   atomic.Int64 // when a session ended last, ns since the epoch

	closing   chan struct{} // closed by close: nobody has it any more
	closeOnce sync.Once

	done chan struct{} // closed by end
	once sync.Once
	err  error // why it ended; set before done is closed

	room room
}

// group holds the goroutines of a direct connection and of all that run through it. They can be counted on to end only
// when the socket is closed: one that reads from a jump host's channel hangs until the jump host answers.
type group struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// run starts f unless the group is being waited for.
func (g *group) run(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.wg.Go(f)
	}
	return !g.closed
}

func (g *group) wait() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
}

// newTransport takes over a connection after the handshake.
func newTransport(h *handshake, sock *socket, c *clientConn, g *group) *transport {
	t := &transport{conn: c.conn, sock: sock, limit: h.limit, jump: h.jump, jumpName: h.jumpName, group: g, done: make(chan struct{}), closing: make(chan struct{})}
	t.room.settled.L = &t.room.mu
	g.run(func() { t.watch(c, h.e) })
	return t
}

// watch refuses what the server asks for, asks for signs of life, and waits for the connection to die. It is one
// goroutine, for there may be a thousand connections, and does not write itself: on a dead link that may block.
func (t *transport) watch(c *clientConn, e *Endpoint) {
	chans, reqs, elder := c.chans, c.reqs, e.elder
	answered := make(chan struct{}, 1) // got one by each answer that is out
	pulse := t.newPulse(e)
	defer pulse.stop()
	for answering := false; chans != nil || reqs != nil; {
		offered, asked := chans, reqs
		if answering {
			offered, asked = nil, nil // one at a time, however many the server sends
		}
		answer := func() {}
		select {
		case ch, ok := <-offered:
			if !ok {
				chans = nil
				continue
			}
			answer = func() { _ = ch.Reject(ssh.Prohibited, "nothing is forwarded") } // the connection's death shows elsewhere
		case req, ok := <-asked:
			if !ok {
				reqs = nil
				continue
			}
			if !req.WantReply {
				continue
			}
			answer = func() { _ = req.Reply(false, nil) }
		case <-answered:
			answering = false
			continue
		case <-pulse.beat:
			pulse.check()
			continue
		case <-elder: // whoever connects again does so for all
			t.end(errors.New("another connection to the host was lost"))
			elder = nil
			continue
		}
		answering = t.group.run(func() { answer(); answered <- struct{}{} })
	}
	t.end(t.cause())
}

// errRules is why a connection ended of which x/crypto does not say so: see goesSilent.
var errRules = errors.New("the server broke the rules of SSH")

// cause waits for why the connection ended. That it did is known already.
func (t *transport) cause() error {
	waited := make(chan error, 1)
	go func() { waited <- t.conn.Wait() }() // joined here, unless it hangs for ever
	patience := time.NewTimer(patienceFor(t.jump))
	defer patience.Stop()
	select {
	case err := <-waited:
		return t.reason(err)
	case <-t.sock.silent:
		return t.reason(<-waited)
	case <-patience.C:
		t.limit.hung()
		return errRules
	}
}

func (t *transport) reason(err error) error {
	if t.jump != nil {
		// The jump host's death shows as the end of our channel. Its own watcher is told in the same moment.
		select {
		case <-t.jump.done:
			return fmt.Errorf("jump host %s: %w", t.jumpName, t.jump.err)
		case <-time.After(500 * time.Millisecond):
		}
	}
	if why, ok := disconnectReason(err); ok {
		return errors.New("the server said: " + why)
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return errors.New("the server closed it")
	}
	return errors.New(plain(err))
}

// end marks the connection as dead, for the first reason given, and cuts it.
func (t *transport) end(why error) {
	t.once.Do(func() {
		t.err = why
		close(t.done)
		if t.jump == nil {
			t.sock.Close()
			return
		}
		// Closing a channel is a message to the jump host, which may not be reading.
		t.group.run(func() { t.sock.Close() })
	})
}

// openChannel opens a channel of x/crypto. It ends with the connection: x/crypto waits for ever for the answer to a channel that
// it was asked for just when it gave up the connection.
func (t *transport) openChannel(kind string, data []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	type answer struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		ch, reqs, err := t.conn.OpenChannel(kind, data)
		answered <- answer{ch, reqs, err}
	}()
	select {
	case a := <-answered:
		return a.ch, a.reqs, a.err
	case <-t.done:
		return nil, nil, net.ErrClosed
	}
}

func (t *transport) ended() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// close ends the connection, then its use of the jump host. Not to be called from the group.
func (t *transport) close() {
	t.closeOnce.Do(func() { close(t.closing) })
	t.end(ErrClosed)
	if t.jump == nil {
		t.group.wait()
		return
	}
	t.freeJump()
}

// keepAlive gives the interval, 0 for never, and how many questions may go unanswered.
func (e *Endpoint) keepAlive() (time.Duration, int) {
	interval, most := e.KeepAlive, e.KeepAliveMax
	if interval == 0 {
		interval = DefaultKeepAliveInterval
	}
	if most == 0 {
		most = DefaultKeepAliveMax
	}
	return max(interval, 0), most
}

// pulse asks a silent server for a sign of life. Whatever comes from it is one.
type pulse struct {
	t        *transport
	interval time.Duration
	most     int
	beat     <-chan time.Time // nil for never
	stop     func()
	asking   chan struct{} // holds a token while a question is out
	seen     int64
	missed   int
}

func (t *transport) newPulse(e *Endpoint) *pulse {
	interval, most := e.keepAlive()
	p := &pulse{t: t, interval: interval, most: most, stop: func() {}, asking: make(chan struct{}, 1), seen: t.sock.received.Load()}
	if interval > 0 {
		ticker := time.NewTicker(interval)
		p.beat, p.stop = ticker.C, ticker.Stop
	}
	return p
}

// check is called once in an interval.
func (p *pulse) check() {
	switch now := p.t.sock.received.Load(); {
	case now != p.seen, p.t.sock.unread.held.Load(): // we do not listen, so that it may have answered
		p.seen, p.missed = now, 0
	case p.missed == p.most:
		p.t.end(&silentError{after: p.interval * time.Duration(p.most+1)})
	default:
		p.missed++
		p.ask()
	}
}

// ask sends a question if none is out: x/crypto waits for the answer to each.
func (p *pulse) ask() {
	select {
	case p.asking <- struct{}{}:
	default:
		return
	}
	p.t.group.run(func() {
		defer func() { <-p.asking }()
		_, _, _ = p.t.conn.SendRequest("keepalive@openssh.com", true, nil) // no answer shows in the socket's counter
	})
}

// silentError is ErrKeepAlive with the time.
type silentError struct{ after time.Duration }

func (e *silentError) Error() string {
	return fmt.Sprintf("the host has not answered for %s", e.after.Round(time.Millisecond))
}

func (e *silentError) Is(target error) bool { return target == ErrKeepAlive }
