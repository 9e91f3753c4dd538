package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signals turns the first signal to end into the end of ctx, and the second into a closed cut.
type signals struct {
	ctx    context.Context
	cut    chan struct{} // closed by watch
	cancel context.CancelFunc

	background bool // INT was ignored from the start, as a script's shell does for what it starts with &

	in   chan os.Signal
	over chan struct{} // closed by close
	done chan struct{} // closed by watch when it returns
}

// watchSignals begins to watch; nothing may be started on an instance before that. A signal that was ignored when we were
// started stays so: nohup ignores HUP, and a shell without job control ignores INT for what it starts in the background.
// (That TERM was ignored cannot be known: Go's runtime has set its own handler by now.)
func watchSignals() *signals {
	s := &signals{cut: make(chan struct{}), in: make(chan os.Signal, 4), over: make(chan struct{}), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.background = signal.Ignored(os.Interrupt)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(s.in, sig)
		}
	}
	signal.Ignore(syscall.SIGPIPE) // a reader that goes away is an error of the write, not the end of us
	go s.watch()
	return s
}

func (s *signals) watch() {
	defer close(s.done)
	if !s.next() {
		return
	}
	s.cancel()
	if s.next() {
		close(s.cut)
	}
}

// next waits for a signal, and reports whether there was one.
func (s *signals) next() bool {
	select {
	case <-s.in:
		return true
	case <-s.over:
		return false
	}
}

// close ends the watching. A signal that comes later is for nobody, and does not end the process on its last steps.
func (s *signals) close() {
	close(s.over)
	<-s.done
	s.cancel()
}

// isCut reports whether there was a second signal.
func (s *signals) isCut() bool {
	select {
	case <-s.cut:
		return true
	default:
		return false
	}
}

// press tells the user what to do for something to happen: "press ^C to stop", where that has an effect.
func (s *signals) press(to string) string {
	if s != nil && s.background {
		return fmt.Sprintf("to %s: kill %d", to, os.Getpid())
	}
	return "press ^C to " + to
}

// stuckPatience is how long what is to end may take to do so, where that is not up to itself. Only a test sets it.
var stuckPatience = 2 * time.Second

// errStuck means that something did not end when it was to.
var errStuck = errors.New("it does not end")

// untilStuck waits for work to end, but once stop is closed only a moment: whoever reads an output may have stopped doing so.
func untilStuck[T any](stop <-chan struct{}, work func() (T, error)) (T, error) {
	type result struct {
		of  T
		err error
	}
	results := make(chan result, 1)
	go func() {
		of, err := work()
		results <- result{of, err}
	}()
	var patience <-chan time.Time
	for {
		select {
		case r := <-results:
			return r.of, r.err
		case <-stop:
			stop, patience = nil, time.After(stuckPatience)
		case <-patience:
			return result{}.of, errStuck
		}
	}
}
