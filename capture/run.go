package capture

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// run is one capture on its way. Three things end it, one after the other: stop asks the helpers to end, cut no longer
// waits for them, and the pump returns when every stream has said that it ended.
type run struct {
	cfg      Config
	out      *file
	messages chan message // from the streams to the pump; closed by join, when all instances have ended
	guard    *guard       // against captures that feed themselves; nil where that is wanted
	arena    int          // most bytes of memory that a stream's packets are read into at once

	active context.Context // done = asked to stop; its cause is the End
	stop   context.CancelCauseFunc
	alive  context.Context // done = cut
	cut    context.CancelFunc

	mu        sync.Mutex
	instances []*instance // grows when following
	claims    []claim     // the hosts that are captured on

	events  sync.Mutex // one event at a time
	started time.Time
	ready   time.Time // zero until then
}

// timeNow is time.Now, but for tests, which set the clock.
var timeNow = time.Now

// now is the time by our clock, or by what has passed since the run began, if that is later. So it does not go back when the
// clock is set, nor stand still while this computer sleeps.
func (r *run) now() time.Time {
	now := timeNow()
	if drift := r.drift(); drift < 0 {
		return now.Add(-drift)
	}
	return now
}

// drift is how far our clock has been set ahead since the run began, or how long this computer has slept.
func (r *run) drift() time.Duration {
	now := timeNow()
	return now.Round(0).Sub(r.started.Round(0)) - now.Sub(r.started)
}

// message is what a stream tells the pump.
type message struct {
	stream *stream
	kind   messageKind
	batch  batch
	header merge.Header     // opened: of the stream
	gap    *gap             // opened: what went before, when it is not the first time
	answer chan<- admission // opened: has room for the answer, which must come before the stream goes on
}

// gap is a time of which a stream has no packets, because it was lost and came back.
type gap struct {
	after int64 // time of the last packet before it, ns since the epoch
	text  string
}

type messageKind int

const (
	joining messageKind = iota // a stream will be there
	opened                     // a helper's header has come
	packets                    // a batch
	timed                      // the clock was measured again
	ended                      // no more from this stream, whether it opened or not
)

func newRun(cfg Config, out *file) *run {
	r := &run{cfg: cfg, out: out, messages: make(chan message, 16), arena: cfg.arenaSize()}
	if !cfg.NoSelfFilter {
		r.guard = newGuard()
	}
	r.active, r.stop = context.WithCancelCause(context.Background())
	r.alive, r.cut = context.WithCancel(context.Background())
	for _, in := range cfg.Instances {
		r.instances = append(r.instances, newInstance(r, in))
	}
	return r
}

// all are the instances so far.
func (r *run) all() []*instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.instances)
}

// run connects, captures and reports. It returns when all goroutines have ended.
func (r *run) run(ctx context.Context) (Report, error) {
	r.started = timeNow()
	r.cfg.Progress.Instances.Store(int64(len(r.cfg.Instances)))
	defer r.cut()
	defer r.stop(EndAll)
	defer context.AfterFunc(ctx, func() { r.stop(EndInterrupted) })()
	watching := r.watch()

	var all sync.WaitGroup
	for _, in := range r.all() {
		all.Go(in.capture)
	}
	if r.cfg.Follow && r.cfg.Discover != nil {
		all.Go(func() { r.discover(&all) })
	}
	go func() { all.Wait(); close(r.messages) }()

	// An output that takes nothing must not hold up the ending of a cut capture either.
	defer context.AfterFunc(r.alive, r.out.giveUp)()
	defer context.AfterFunc(r.active, r.out.stopWaiting)()
	p := newPump(r)
	err := p.work()
	r.out.letGo()
	r.stop(EndAll)
	r.cut()
	watching.Wait()
	return r.report(p), r.verdict(err)
}

// watch ends the grace after a stop, and cuts at once when told so from outside.
func (r *run) watch() *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-r.active.Done():
		case <-r.cfg.Cut:
			r.stop(EndCut)
			r.cut()
			return
		}
		grace := time.AfterFunc(r.cfg.Grace, r.cut)
		defer grace.Stop()
		if r.end() == EndInterrupted {
			r.emit(Event{Kind: Stopping})
		}
		select {
		case <-r.cfg.Cut:
			r.cut()
		case <-r.alive.Done():
		}
	})
	return &wg
}

// end says why the capture ended.
func (r *run) end() End {
	select {
	case <-r.cfg.Cut:
		return EndCut
	default:
	}
	var e End
	if !errors.As(context.Cause(r.active), &e) {
		return EndAll
	}
	return e
}

// verdict is the error of the whole run.
func (r *run) verdict(outputErr error) error {
	switch {
	case outputErr != nil:
		return outputErr
	case r.end() == EndRequired:
		return ErrRequired
	case r.captured() == 0:
		return ErrNothing
	}
	return nil
}

// captured counts the instances that were captured on, for however long.
func (r *run) captured() (n int) {
	for _, in := range r.all() {
		if in.opened() {
			n++
		}
	}
	return n
}

// emit tells the caller what happened.
func (r *run) emit(e Event) {
	r.events.Lock()
	defer r.events.Unlock()
	r.cfg.OnEvent(e)
}
