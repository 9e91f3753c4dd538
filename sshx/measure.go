package sshx

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// RoundTrip asks the server for a sign of life and says how long the answer took, whatever it was. A server that never
// answers is waited for until ctx ends.
func (c *Conn) RoundTrip(ctx context.Context) (time.Duration, error) {
	t := c.f.t
	took := make(chan time.Duration, 1) // sent to once, or closed when there was no answer
	ok := t.group.run(func() {
		defer close(took)
		start := time.Now()
		if _, _, err := t.conn.SendRequest("keepalive@openssh.com", true, nil); err == nil {
			took <- time.Since(start)
		}
	})
	if !ok {
		return 0, t.lost()
	}
	select {
	case d, ok := <-took:
		if !ok {
			return 0, t.lost()
		}
		return d, nil
	case <-ctx.Done():
		return 0, contextError(ctx)
	}
}

// Room opens sessions in which nothing runs, most of them at once, closes them again and says how many the server
// allowed beside those that are open already. It returns when they are gone on both sides, or when ctx ends.
func (c *Conn) Room(ctx context.Context, most int) (int, error) {
	t := c.f.t
	type result struct {
		n   int
		err error
	}
	opened := make(chan result, 1) // sent to once
	ok := t.group.run(func() {
		n, err := t.countRoom(ctx, most)
		opened <- result{n, err}
	})
	if !ok {
		return 0, t.lost()
	}
	select {
	case r := <-opened:
		return r.n, r.err
	case <-ctx.Done():
		return 0, contextError(ctx)
	}
}

func (t *transport) countRoom(ctx context.Context, most int) (int, error) {
	var open []ssh.Channel
	var sessions sync.WaitGroup // until the server has closed each
	var err error
	for len(open) < most && ctx.Err() == nil && err == nil {
		var ch ssh.Channel
		var reqs <-chan *ssh.Request
		if ch, reqs, err = t.openSession(); err == nil {
			open = append(open, ch)
			sessions.Go(func() { ssh.DiscardRequests(reqs) })
			sessions.Go(func() { io.Copy(io.Discard, ch) }) // nobody should send anything, and it must not pile up
			sessions.Go(func() { io.Copy(io.Discard, ch.Stderr()) })
		}
	}
	for _, ch := range open {
		_ = ch.Close() // a dead connection shows elsewhere
	}
	sessions.Wait()
	if len(open) > 0 {
		t.sessionEnded()
	}
	if _, refused := errors.AsType[*ssh.OpenChannelError](err); err != nil && !refused {
		return 0, t.openError(err)
	}
	return len(open), nil
}
