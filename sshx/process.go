package sshx

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Conn is one caller's hold on a connection. Its methods may be called at the same time.
type Conn struct {
	d *Dialer
	f *flight

	mu     sync.Mutex
	more   []*flight // further connections, for processes that the first one had no room for
	closed bool
}

// Done is closed when the connection is dead.
func (c *Conn) Done() <-chan struct{} { return c.f.t.done }

// Err says why the connection is dead; nil while it lives. It matches ErrKeepAlive when the host stopped answering.
func (c *Conn) Err() error {
	select {
	case <-c.f.t.done:
		return c.f.t.err
	default:
		return nil
	}
}

// LocalAddr is our end of the TCP connection, to the first jump host if there is one.
func (c *Conn) LocalAddr() net.Addr { return c.f.t.first().sock.LocalAddr() }

// RemoteAddr is the other end of the TCP connection: the host, or the first jump host.
func (c *Conn) RemoteAddr() net.Addr { return c.f.t.first().sock.RemoteAddr() }

// Jumped reports whether the connection goes through a jump host.
func (c *Conn) Jumped() bool { return c.f.t.jump != nil }

// ServerVersion is how the server introduced itself, such as SSH-2.0-OpenSSH_9.2p1.
func (c *Conn) ServerVersion() string { return string(c.f.t.conn.ServerVersion()) }

func (t *transport) first() *transport {
	for t.jump != nil {
		t = t.jump
	}
	return t
}

// Close gives up the hold. The connection, and with it every process on it, ends with its last holder.
func (c *Conn) Close() error {
	c.mu.Lock()
	closed, more := c.closed, c.more
	c.closed, c.more = true, nil
	c.mu.Unlock()
	if closed {
		return nil
	}
	for _, f := range more {
		c.d.release(f)
	}
	c.d.release(c.f)
	return nil
}

// Process is a command on the host. Stdout and Stderr must both be read to their end: what is not read makes the
// command wait. Each is for one goroutine at a time. They end when the command has closed them, when the connection dies, and after Close.
type Process struct {
	Stdin  io.WriteCloser // Close is end of file for the command
	Stdout io.Reader
	Stderr io.Reader

	t      *transport
	before int64 // bytes that had come on the connection when it was started
	ch     ssh.Channel
	stdout *pump
	cut    chan struct{} // closed by Close

	done  chan struct{} // closed when err is set
	err   error
	ended chan struct{} // closed when the server has closed the session too, or the connection is dead

	typing  chan struct{} // holds one token; who has it may write to the channel
	cutOnce sync.Once
	eofOnce sync.Once
}

// mostConnections bounds how many connections there are for the processes of one host.
const mostConnections = 32

// Start runs command, which the user's login shell gets as one string. ctx bounds the start only. When the server
// allows no further session on a connection (MaxSessions), the process gets a further connection, which ends with this one.
func (c *Conn) Start(ctx context.Context, command string) (*Process, error) {
	f := c.f
	for n := 1; ; n++ {
		if n == mostConnections || !f.t.room.none() {
			p, err := f.t.startWithin(ctx, command)
			if _, full := errors.AsType[*fullError](err); !full || n == mostConnections {
				return p, err
			}
		}
		var err error
		if f, err = c.further(ctx, f); err != nil {
			return nil, err
		}
	}
}

// further gives the connection after f. This Conn holds it once, however many processes use it.
func (c *Conn) further(ctx context.Context, f *flight) (*flight, error) {
	next, err := c.d.further(ctx, f)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	held := c.closed || slices.Contains(c.more, next)
	if !held {
		c.more = append(c.more, next)
	}
	c.mu.Unlock()
	if held {
		c.d.release(next)
	}
	return next, nil
}

func (t *transport) startWithin(ctx context.Context, command string) (*Process, error) {
	if t.abandoned.Load() >= mostAbandoned {
		t.end(errUnended)
		return nil, t.lost()
	}
	type result struct {
		p   *Process
		err error
	}
	started := make(chan result) // received by the caller, or given up when ctx ends
	ok := t.group.run(func() {
		p, err := t.start(command)
		select {
		case started <- result{p, err}:
		case <-ctx.Done():
			t.abandoned.Add(-1)
			if p != nil {
				p.Close()
			}
		}
	})
	if !ok {
		return nil, t.lost()
	}
	select {
	case r := <-started:
		return r.p, r.err
	case <-ctx.Done():
		t.abandoned.Add(1) // until the goroutine notices
		return nil, contextError(ctx)
	}
}

// mostAbandoned is how many sessions that nobody wants any more a server may leave open. Each takes memory here for as long
// as the connection lives.
const mostAbandoned = 64

var errUnended = errors.New("the server does not end its sessions")

func (t *transport) lost() error {
	<-t.done
	return &Error{Kind: KindLost, Problem: "connection lost: " + t.err.Error(), Tip: (&lostError{t.err}).Hint(), Err: &lostError{t.err}}
}

// start waits for the server at every step; the death of the connection ends it.
func (t *transport) start(command string) (*Process, error) {
	t.room.ask()
	ch, reqs, err := t.openSession()
	if err != nil {
		_, refused := errors.AsType[*ssh.OpenChannelError](err)
		if t.room.refuse() && refused {
			err = &fullError{err}
		}
		return nil, t.openError(err)
	}
	t.room.opened()
	p := &Process{t: t, before: t.sock.received.Load(), ch: ch, cut: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}), typing: make(chan struct{}, 1)}
	p.stdout = newPump(p, ch, stdoutChunk)
	p.Stdin, p.Stdout, p.Stderr = stdin{p}, p.stdout, newPump(p, ch.Stderr(), stderrChunk)
	if !t.group.run(func() { p.watch(reqs); t.room.ended() }) {
		return nil, t.lost()
	}
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
	if err != nil {
		p.Close()
		return nil, t.openError(err)
	}
	if !ok {
		p.Close()
		return nil, &Error{Kind: KindCommandRefused, Problem: "the server will not run a command",
			Tip: "look for a forced command, a restricted account or a disabled shell on the server"}
	}
	return p, nil
}

// fullError is the cause of a refusal of one session too many, where others are open.
type fullError struct{ error }

func (e *fullError) Unwrap() error { return e.error }

// How long a session that has ended may take up room, and how long to wait before it is looked at again, at first: the
// server logs each look.
const (
	roomSettles = time.Second
	roomPause   = 10 * time.Millisecond
)

// openSession opens a session. A server that bounds those of one connection has room for the next one a moment after it
// has told that one ended, so a refusal counts only when none has ended lately.
func (t *transport) openSession() (ssh.Channel, <-chan *ssh.Request, error) {
	start := time.Now()
	for pause := roomPause; ; pause *= 2 {
		ch, reqs, err := t.openChannel("session", nil)
		_, refused := errors.AsType[*ssh.OpenChannelError](err)
		if !refused || time.Since(time.Unix(0, t.lastEnd.Load())) > roomSettles || time.Since(start) > roomSettles {
			return ch, reqs, err
		}
		select {
		case <-t.done:
			return nil, nil, err
		case <-time.After(pause):
		}
	}
}

func (t *transport) sessionEnded() { t.lastEnd.Store(time.Now().UnixNano()) }

func (t *transport) openError(err error) error {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	if !ok {
		select {
		case <-t.done:
			return t.lost()
		case <-time.After(time.Second):
			return &Error{Kind: KindCommandRefused, Problem: "the server gave up the session: " + plain(err), Err: err}
		}
	}
	return &Error{Kind: KindTooManySessions, Problem: "the server allows no further session on this connection (" + oneLine(refused.Message) + ")",
		Tip: "MaxSessions in its sshd_config bounds the sessions of one connection (10 by default)", Err: err}
}

// watch takes the server's requests until the channel is closed.
func (p *Process) watch(reqs <-chan *ssh.Request) {
	defer close(p.ended)
	defer p.t.sessionEnded()
	ended := false
	for req := range reqs {
		if err, ok := exitOf(req); ok && !ended {
			ended, p.err = true, err
			p.t.sessionEnded()
			close(p.done)
		}
		if req.WantReply {
			_ = req.Reply(false, nil) // the connection's death shows elsewhere
		}
	}
	if !ended {
		p.err = p.lost()
		close(p.done)
	}
}

// lost says why no exit status came. The channels of a dying connection are closed a moment before its reason is known:
// see transport.cause.
func (p *Process) lost() error {
	timer := time.NewTimer(patienceFor(p.t.jump) + time.Second/2)
	defer timer.Stop()
	select {
	case <-p.t.done:
		return &lostError{p.t.err}
	case <-p.cut:
		return &lostError{ErrClosed}
	case <-timer.C:
		return &lostError{}
	}
}

// exitOf reads exit-status and exit-signal (RFC 4254, section 6.10).
func exitOf(req *ssh.Request) (err error, ok bool) {
	switch req.Type {
	case "exit-status":
		var m struct{ Status uint32 }
		if ssh.Unmarshal(req.Payload, &m) != nil {
			return nil, false
		}
		if m.Status == 0 {
			return nil, true
		}
		return &ExitError{Status: int(min(m.Status, math.MaxInt32))}, true
	case "exit-signal":
		var m struct {
			Signal     string
			CoreDumped bool
			Error      string
			Lang       string
		}
		if ssh.Unmarshal(req.Payload, &m) != nil {
			return nil, false
		}
		return &ExitError{Status: 128 + signalNumbers[m.Signal], Signal: oneLine(m.Signal), Text: oneLine(m.Error)}, true
	}
	return nil, false
}

var signalNumbers = map[string]int{"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10,
	"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15}

// ReadStdout reads from Stdout straight into b, without the copy that Stdout makes, and takes the place of its Read. Unlike
// an io.Reader it keeps b when it returns an error: b may still be written to, for as long as the connection lives.
func (p *Process) ReadStdout(b []byte) (int, error) { return p.stdout.readInto(b) }

// Received is how many bytes have come on its connection since it was started, for this process and others. While they are not
// read, the server sends no more after some 2 MiB, on Stderr neither.
func (p *Process) Received() int64 { return p.t.sock.received.Load() - p.before }

// Signal sends a signal and does not wait for an answer: many servers give none, and an answer proves nothing.
func (p *Process) Signal(sig ssh.Signal) error {
	_, err := p.unlessCut(func() (int, error) {
		_, err := p.ch.SendRequest("signal", false, ssh.Marshal(struct{ Signal string }{string(sig)}))
		return 0, err
	})
	return err
}

// unlessCut does what a server that does not read can hold up, and waits for it until the process is closed.
func (p *Process) unlessCut(f func() (int, error)) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1) // sent to once
	if !p.t.group.run(func() {
		n, err := f()
		done <- result{n, err}
	}) {
		return 0, p.t.lost()
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-p.cut:
		return 0, io.ErrClosedPipe
	}
}

// Wait waits for the exit status; the output may still be coming then. It gives nil for status 0, *ExitError for
// another or a signal, and an error that matches ErrLost when none came. It may be called often.
func (p *Process) Wait() error {
	select {
	case <-p.done:
		return p.err
	case <-p.cut:
	}
	select {
	case <-p.done:
		return p.err
	default:
		return &lostError{ErrClosed}
	}
}

// Close cuts the session; Stdout and Stderr end at once and what was not read is lost. The command is not told: it
// goes on until it writes, or sees its end of file. The connection stays.
func (p *Process) Close() error {
	p.cutOnce.Do(func() {
		close(p.cut)
		p.t.group.run(func() {
			p.t.abandoned.Add(1)
			defer p.t.abandoned.Add(-1)
			_ = p.ch.Close() // may block on a dead link
			<-p.ended
		})
	})
	return nil
}

func (p *Process) isCut() bool {
	select {
	case <-p.cut:
		return true
	default:
		return false
	}
}

// stdin is the command's input. A server need not take it: then Write waits until the process is closed.
type stdin struct{ p *Process }

func (s stdin) Write(b []byte) (int, error) {
	select {
	case s.p.typing <- struct{}{}:
	case <-s.p.cut:
	}
	if s.p.isCut() {
		return 0, io.ErrClosedPipe
	}
	own := slices.Clone(b)
	return s.p.unlessCut(func() (int, error) {
		defer func() { <-s.p.typing }()
		return s.p.ch.Write(own)
	})
}

// Close does not wait. The end comes behind all that was written; a server that does not take that is not told.
func (s stdin) Close() error {
	s.p.eofOnce.Do(func() {
		s.p.t.group.run(func() {
			select {
			case s.p.typing <- struct{}{}:
				_ = s.p.ch.CloseWrite() // the connection's death shows elsewhere
			case <-s.p.cut:
			}
		})
	})
	return nil
}
