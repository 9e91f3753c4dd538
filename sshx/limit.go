package sshx

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// How many handshakes one server gets at once. Others may be logging in, too.
const (
	unknownHandshakes  = 4 // before it has said what it is
	opensshHandshakes  = 8 // it drops connections at random from the tenth one on that has not logged in yet (MaxStartups 10:30:100)
	dropbearHandshakes = 4 // it drops the sixth of one address
	firstHandshakes    = 8 // of any other: more while all goes well
	mostHandshakes     = 64
)

// handshakesFor says how many a server gets at first and at most, by the line with which it introduces itself.
func handshakesFor(version string) (first, most int) {
	_, software, _ := strings.Cut(strings.TrimPrefix(version, "SSH-"), "-")
	switch {
	case strings.HasPrefix(software, "OpenSSH"):
		return opensshHandshakes, opensshHandshakes
	case strings.HasPrefix(software, "dropbear"):
		return dropbearHandshakes, dropbearHandshakes
	}
	return firstHandshakes, mostHandshakes
}

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
		l.m[path] = &limiter{limit: unknownHandshakes}
	}
	return l.m[path]
}

// limiter lets in a number of handshakes that grows while all goes well and is halved when the server drops one.
type limiter struct {
	mu      sync.Mutex
	limit   float64
	most    int // 0: nobody knows the server yet
	busy    int
	epoch   int          // counts the cuts: handshakes begun before a cut do not cause another
	worked  bool         // a handshake came through
	dropped bool         // since then grow by one for each full round, not for each handshake
	hanging int          // connections of which something is left for ever
	queue   []chan error // first come, first served; each gets one value, nil from the one who makes room
}

// acquire waits for a place and gives the epoch to hand to release.
func (l *limiter) acquire(ctx context.Context) (int, error) {
	l.mu.Lock()
	if l.busy < int(l.limit) && len(l.queue) == 0 {
		defer l.mu.Unlock()
		l.busy++
		return l.epoch, nil
	}
	turn := make(chan error, 1)
	l.queue = append(l.queue, turn)
	l.mu.Unlock()
	select {
	case err := <-turn:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.epoch, err
	case <-ctx.Done():
		l.leave(turn)
		return 0, ctx.Err()
	}
}

// mostHanging bounds what servers can have left here: each leaves goroutines and up to 17 packets of SSH.
const mostHanging = 8

// hung takes note of a connection of which something is left.
func (l *limiter) hung() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hanging++
}

func (l *limiter) isHanging() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hanging >= mostHanging
}

// leave gives up a turn, which may have come in this very moment.
func (l *limiter) leave(turn chan error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, q := range l.queue {
		if q == turn {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return
		}
	}
	if <-turn == nil {
		l.busy--
		l.wake()
	}
}

// meet takes note of what the server is, which it says before it logs anybody in.
func (l *limiter) meet(version string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most != 0 {
		return
	}
	var first int
	if first, l.most = handshakesFor(version); !l.dropped {
		l.limit = float64(first)
	}
	l.wake()
}

// silence gives those who wait the error of one who has waited long enough for a server that says nothing. For each of
// many to wait as long would take for ever.
func (l *limiter) silence(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most != 0 {
		return // it is there
	}
	for _, turn := range l.queue {
		turn <- err
	}
	l.queue = nil
}

// crowded reports whether others log in, or wait to.
func (l *limiter) crowded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy > 1 || len(l.queue) > 0
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
	most := float64(l.most)
	if l.most == 0 {
		most = unknownHandshakes
	}
	switch {
	case v == cameThrough && l.dropped:
		l.worked = true
		l.limit = min(l.limit+1/l.limit, most)
	case v == cameThrough:
		l.worked = true
		l.limit = min(l.limit+1, most)
	case v == wasDropped && epoch == l.epoch:
		l.epoch++
		l.dropped = true
		l.limit = max(l.limit/2, 1)
	}
	l.wake()
}

func (l *limiter) wake() {
	for len(l.queue) > 0 && l.busy < int(l.limit) {
		l.queue[0] <- nil
		l.queue = l.queue[1:]
		l.busy++
	}
}

// hasWorked reports whether this server ever let somebody in.
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
