package sshx

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// pool holds the connections that may be shared. Its mutex guards the users of all flights.
type pool struct {
	mu      sync.Mutex
	flights map[string]*flight
}

// flight is a connection from the moment somebody wants it: being dialled, up, or dead. It lives as long as it has users.
type flight struct {
	key    string // "" is not shared
	e      Endpoint
	users  int
	more   *flight            // a further connection for what this one has no room for; nil = none
	elder  *flight            // whose further connection this is
	cancel context.CancelFunc // ends the dialling
	landed chan struct{}      // closed by the dialling goroutine when t and err are set
	t      *transport
	err    error
}

// acquire gives the connection to e, dialling it if there is none. ctx is the caller's alone: when it ends, the
// dialling goes on for the others who wait for it.
func (d *Dialer) acquire(ctx context.Context, e Endpoint) (*flight, error) {
	if err := ctx.Err(); err != nil {
		return nil, contextError(ctx)
	}
	return d.landing(ctx, d.board(ctx, e))
}

// board joins the flight to e, or starts one.
func (d *Dialer) board(ctx context.Context, e Endpoint) *flight {
	p := &d.init().pool
	key := e.key()
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flights[key]; f != nil && f.usable() {
		f.users++
		return f
	}
	f := d.launch(ctx, e, key)
	if key != "" {
		if p.flights == nil {
			p.flights = map[string]*flight{}
		}
		p.flights[key] = f
	}
	return f
}

// launch starts to dial.
func (d *Dialer) launch(ctx context.Context, e Endpoint, key string) *flight {
	dialCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{key: key, e: e, users: 1, cancel: cancel, landed: make(chan struct{})}
	go func() {
		defer close(f.landed)
		f.t, f.err = d.dialPath(dialCtx, e)
	}()
	return f
}

// further gives a further connection to where f leads, dialling it if there is none. Who holds it holds f, too.
func (d *Dialer) further(ctx context.Context, f *flight) (*flight, error) {
	p := &d.state.pool
	p.mu.Lock()
	next := f.more
	if next != nil && next.usable() {
		next.users++
	} else {
		e := f.e
		e.elder = f.t.done
		next = d.launch(ctx, e, "")
		f.more, next.elder = next, f
	}
	p.mu.Unlock()
	return d.landing(ctx, next)
}

// landing waits for a connection that the caller uses.
func (d *Dialer) landing(ctx context.Context, f *flight) (*flight, error) {
	select {
	case <-f.landed:
	case <-ctx.Done():
		d.release(f)
		return nil, contextError(ctx)
	}
	if f.err != nil {
		d.release(f)
		return nil, f.err
	}
	return f, nil
}

// usable reports whether somebody may join: not when the dialling failed or the connection died.
func (f *flight) usable() bool {
	select {
	case <-f.landed:
	default:
		return true
	}
	if f.err != nil {
		return false
	}
	return !f.t.ended()
}

// release ends one use. The last one ends the connection, or the dialling, and waits until nothing of it is left.
func (d *Dialer) release(f *flight) {
	p := &d.state.pool
	p.mu.Lock()
	f.users--
	last := f.users == 0
	if last && p.flights[f.key] == f {
		delete(p.flights, f.key)
	}
	if last && f.elder != nil && f.elder.more == f {
		f.elder.more = nil
	}
	p.mu.Unlock()
	if !last {
		return
	}
	f.cancel()
	<-f.landed
	if f.t != nil {
		f.t.close()
	}
}

// dialPath dials the jump host, if there is one, and then e.
func (d *Dialer) dialPath(ctx context.Context, e Endpoint) (*transport, error) {
	if len(e.Jumps) == 0 {
		return d.dialHop(ctx, &e, nil, "")
	}
	jump := e.Jumps[len(e.Jumps)-1]
	via, err := d.acquire(ctx, jump)
	if err != nil {
		return nil, atHop(err, jump.name())
	}
	t, err := d.dialHop(ctx, &e, via.t, jump.name())
	if err != nil {
		d.release(via)
		return nil, err
	}
	t.freeJump = func() { d.release(via) }
	return t, nil
}

// contextError says why a caller's context ended.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Kind: KindTimeout, Problem: "not connected when the time was up", Tip: "allow more time", Err: ctx.Err()}
	}
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return ctx.Err()
}
