package main

import (
	"slices"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/capture"
)

// gatherer holds back what happens to single instances for a moment, so that what happens to many of them at once is one
// message. Nothing is out of order: what is about the whole capture comes behind what happened before it. The zero value
// holds back nothing.
type gatherer struct {
	show   func([]capture.Event) // of one kind, or one that is about the whole capture
	others bool                  // there are several instances, or may be

	mu      sync.Mutex
	held    []capture.Event
	settled bool // every instance captures, or has failed
	closed  bool // nothing is shown any more
	timer   *time.Timer
}

// How long an event may be held back: in the beginning, and later.
const (
	holdAtStart = 2 * time.Second
	holdLater   = 500 * time.Millisecond
)

// tell takes an event, which is shown soon.
func (g *gatherer) tell(e capture.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	before := func(h capture.Event) bool { return h.Instance == e.Instance && h.Kind != e.Kind }
	if slices.ContainsFunc(g.held, before) { // it would be shown behind this one, perhaps
		g.flush()
	}
	if e.Instance != "" {
		g.hold(e)
		return
	}
	g.settled = g.settled || e.Kind == capture.Ready
	g.flush()
	g.show([]capture.Event{e})
}

// hold keeps an event until its time has come.
func (g *gatherer) hold(e capture.Event) {
	g.held = append(g.held, e)
	switch {
	case !g.others:
		g.flush()
	case len(g.held) == 1 && g.settled:
		g.timer = time.AfterFunc(holdLater, g.flushLater)
	case len(g.held) == 1:
		g.timer = time.AfterFunc(holdAtStart, g.flushLater)
	}
}

// flush shows what is held, kind by kind in the order in which they began.
func (g *gatherer) flush() {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	var kinds []capture.EventKind
	groups := make(map[capture.EventKind][]capture.Event)
	for _, e := range g.held {
		if groups[e.Kind] == nil {
			kinds = append(kinds, e.Kind)
		}
		groups[e.Kind] = append(groups[e.Kind], e)
	}
	g.held = nil
	for _, kind := range kinds {
		g.show(groups[kind])
	}
}

func (g *gatherer) flushLater() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.flush()
	}
}

// close shows what is still held, and nothing after it.
func (g *gatherer) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flush()
	g.closed = true
}
