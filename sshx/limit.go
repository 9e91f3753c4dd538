package sshx

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// How many handshakes one sshd gets at once. By default it drops connections at random from the tenth one on that has
// not logged in yet (MaxStartups 10:30:100), and others may be logging in too.
const (
	firstHandshakes = 8
	mostHandshakes  = 64
)

// limiters are the limits of all servers, by Endpoint.path; servers never wait for each other.
type limiters struct {
	mu sync.Mutex
	m  map[string]*limiter
}

func (l *limiters) of(path string) *limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[string]*limiter{}
	}
	if l.m[path] == nil {
		l.m[path] = &limiter{limit: firstHandshakes}
	}
	return l.m[path]
}

// limiter lets in a number of handshakes that grows while all goes well and is halved when the server drops one.
type limiter struct {
	mu      sync.Mutex
	limit   float64
	busy    int
	epoch   int             // counts the cuts: handshakes begun before a cut do not cause another
	worked  bool            // a handshake came through
	dropped bool            // since then grow by one for each full round, not for each handshake
	queue   []chan struct{} // first come, first served; each closed by the one who makes room
}

// acquire waits for a place and gives the epoch to hand to release.
func (l *limiter) acquire(ctx context.Context) (int, error) {
	l.mu.Lock()
	if l.busy < int(l.limit) && len(l.queue) == 0 {
		defer l.mu.Unlock()
		l.busy++
		return l.epoch, nil
	}
	turn := make(chan struct{})
	l.queue = append(l.queue, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.epoch, nil
	case <-ctx.Done():
		l.leave(turn)
		return 0, ctx.Err()
	}
}

// leave gives up a turn, which may have come in this very moment.
func (l *limiter) leave(turn chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, q := range l.queue {
		if q == turn {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return
		}
	}
	l.busy--
	l.wake()
}

// verdict is what a handshake says about the server's load.
type verdict int

const (
	cameThrough verdict = iota // logged in
	wasDropped                 // hung up on before it could begin
	saysNothing                // ended in another way
)

func (l *limiter) release(epoch int, v verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	switch {
	case v == cameThrough && l.dropped:
		l.worked = true
		l.limit = min(l.limit+1/l.limit, mostHandshakes)
	case v == cameThrough:
		l.worked = true
		l.limit = min(l.limit+1, mostHandshakes)
	case v == wasDropped && epoch == l.epoch:
		l.epoch++
		l.dropped = true
		l.limit = max(l.limit/2, 1)
	}
	l.wake()
}

func (l *limiter) wake() {
	for len(l.queue) > 0 && l.busy < int(l.limit) {
		close(l.queue[0])
		l.queue = l.queue[1:]
		l.busy++
	}
}

// hasWorked says whether this server ever let somebody in.
func (l *limiter) hasWorked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.worked
}

// backOff waits before try number n (from 1), longer each time and never twice the same, so that those who were dropped
// together do not come back together.
func backOff(ctx context.Context, n int) error {
	d := min(50*time.Millisecond<<min(n-1, 5), time.Second)
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
