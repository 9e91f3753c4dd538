package capture

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/remote"
)

// discover takes in the instances that appear, and tells those that are known how they are to be reached now, until the
// capture is stopped.
//
// What Discover gives beside an error counts.
func (r *run) discover(all *sync.WaitGroup) {
	tick := time.NewTicker(r.cfg.DiscoverEvery)
	defer tick.Stop()
	told := false
	for {
		select {
		case <-r.active.Done():
			return
		case <-tick.C:
		}
		found, err := r.cfg.Discover(r.active)
		r.reconcile(found, all)
		if err == nil {
			told = false
			r.dismiss(found)
		} else if !told && r.active.Err() == nil {
			told = true
			r.emit(Event{Kind: Note, Text: "cannot see whether there are new instances: " + err.Error()})
		}
	}
}

func (r *run) reconcile(found []Instance, all *sync.WaitGroup) {
	byID, byName, present := make(map[string]*instance), make(map[string]*instance), make(map[string]bool)
	for _, in := range r.all() {
		byID[in.settings().id()], byName[in.Name] = in, in
	}
	for _, cfg := range found {
		present[cfg.id()] = true
	}
	for _, cfg := range found {
		in := byID[cfg.id()]
		if other := byName[cfg.Name]; in == nil && other != nil && !present[other.settings().id()] {
			in = other // what had the name is no more, and this one has come in its place
		}
		if in != nil {
			in.update(cfg)
			continue
		}
		in = newInstance(r, cfg)
		in.late = true
		r.mu.Lock()
		r.instances = append(r.instances, in)
		r.mu.Unlock()
		r.cfg.Progress.Instances.Add(1)
		for _, s := range in.streams {
			r.messages <- message{stream: s, kind: joining}
		}
		all.Go(in.capture)
	}
}

// dismiss takes note of instances that are no more, which are not tried until they are found again.
func (r *run) dismiss(found []Instance) {
	present := make(map[string]bool)
	for _, cfg := range found {
		present[cfg.id()] = true
	}
	for _, in := range r.all() {
		if cfg := in.settings(); cfg.ID != "" && !present[cfg.ID] {
			in.gone.Store(true)
		}
	}
}

func (cfg Instance) id() string {
	if cfg.ID == "" {
		return cfg.Name
	}
	return cfg.ID
}

// hopeless reports whether trying again would give the same error.
func hopeless(err error) bool {
	var failure *remote.Failure
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.Kind {
	case remote.BadFilter, remote.BadSnaplen, remote.NoInterface:
		return true
	}
	return false
}

// backoff is a pause that grows from try to try.
type backoff struct{ next time.Duration }

const (
	firstPause = 500 * time.Millisecond
	mostPause  = 15 * time.Second
)

// pause waits, and reports whether ctx is still going on.
func (b *backoff) pause(ctx context.Context) bool {
	b.next = min(max(2*b.next, firstPause), mostPause)
	// Not all instances behind one proxy at the same time.
	timer := time.NewTimer(b.next*3/4 + rand.N(b.next/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *backoff) reset() { b.next = 0 }
