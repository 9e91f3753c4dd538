package sshx

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errBudget is the cause of a context whose budget is used up.
var errBudget = errors.New("time is up")

// budget is a time limit that stands still while it is paused.
type budget struct {
	mu      sync.Mutex
	left    time.Duration
	since   time.Time // when the clock was last started
	pauses  int
	timer   *time.Timer
	expired bool
}

type budgetKey struct{}

// withBudget gives a context that ends with the cause errBudget after d, not counting pauses.
func withBudget(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	b := &budget{left: d, since: time.Now()}
	b.timer = time.AfterFunc(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.pauses > 0 {
			return // paused in the moment in which the timer fired
		}
		b.expired = true
		cancel(errBudget)
	})
	stop := func() {
		b.timer.Stop()
		cancel(context.Canceled)
	}
	return context.WithValue(ctx, budgetKey{}, b), stop
}

// pauseBudget stops the clock of ctx's budget until resume is called.
func pauseBudget(ctx context.Context) (resume func()) {
	b, ok := ctx.Value(budgetKey{}).(*budget)
	if !ok {
		return func() {}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pauses++; b.pauses == 1 {
		b.timer.Stop()
		b.left -= time.Since(b.since)
	}
	return b.resume
}

func (b *budget) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pauses--; b.pauses == 0 && !b.expired {
		b.since = time.Now()
		b.timer.Reset(max(b.left, 0))
	}
}
