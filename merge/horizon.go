package merge

import "math"

// horizon finds which open source has come least far, which is what the watermark hangs on, in a time that grows with the
// logarithm of their number.
//
// Where a source is, as far as it has settled (progress.reached), is either the time up to which it has settled, or the
// floor. In a tournament each source stands where it was when last looked at, or before that: most steps take it on, and
// that is noted only when it comes out as the last one. Steps back are noted at once. There is one that nothing but time
// makes: a source that is at the floor lags once the floor passes what is newest of it; there is a tournament for when that
// will be.
type horizon struct {
	config  *MergerConfig
	sources []progress // by slot, which is their leaf in all three
	settled tournament // of those that are where they have settled: by that time
	floored tournament // of those that are at the floor: by their offset
	turning tournament // of these: by the floor from which on they lag
	holder  int        // slot + 1 of one that held a record back, or will be the first to; 0 = it is not known
}

// open adds a source and returns its slot.
func (h *horizon) open(s *source, offset, now int64) (slot int) {
	slot = h.settled.add(s.id)
	h.floored.add(s.id) // the same leaf: they come and go together
	h.turning.add(s.id)
	for len(h.sources) <= slot {
		h.sources = append(h.sources, progress{})
	}
	h.sources[slot] = progress{settled: math.MinInt64, newest: math.MinInt64, at: math.MinInt64, offset: offset, id: s.id, source: s}
	h.place(slot, h.floor(now))
	return slot
}

func (h *horizon) close(slot int) {
	for _, t := range []*tournament{&h.settled, &h.floored, &h.turning} {
		t.update(slot, never)
		t.remove(slot)
	}
	h.sources[slot] = progress{}
	if h.holder == slot+1 {
		h.holder = 0
	}
}

func (h *horizon) setOffset(slot int, offset, now int64) {
	h.sources[slot].offset = offset
	h.place(slot, h.floor(now))
}

// see notes that t was seen of a source.
func (h *horizon) see(slot int, t, now int64) {
	h.sources[slot].see(t, now, int64(h.config.Settle))
	if h.floored.key(slot) != never {
		h.place(slot, h.floor(now)) // it may be on its way, but behind
	}
}

// floor is what a source has reached by now if its clock is right and it does not lag.
func (h *horizon) floor(now int64) int64 {
	return max(addTime(now, -int64(h.config.Window)), -maxOffset)
}

// place puts a source where it is.
func (h *horizon) place(slot int, floor int64) {
	p := &h.sources[slot]
	settled, floored, turning := int64(never), int64(never), int64(never)
	if p.isFloored(floor, int64(h.config.Lag)) {
		floored = p.offset
		if p.newest >= floor+p.offset {
			turning = addTime(p.newest, 1-p.offset)
		}
	} else {
		settled = min(p.settled, never-1)
	}
	h.settled.set(slot, settled)
	h.floored.set(slot, floored)
	h.turning.set(slot, turning)
}

// last returns the source that has come least far, and a place that it has reached; false if none is open.
func (h *horizon) last(floor int64) (slot int, at mark, ok bool) {
	for top := h.turning.top(); top.key <= floor; top = h.turning.top() {
		h.place(int(top.leaf), floor)
	}
	a, b := h.settled.top(), h.floored.top()
	settled, floored := mark{a.key, SourceID(a.source)}, mark{never, whole}
	if b.key != never {
		floored.time = floor + b.key
	}
	switch {
	case a.key == never && b.key == never:
		return 0, mark{}, false
	case settled.before(floored):
		return int(a.leaf), settled, true
	}
	return int(b.leaf), floored, true
}

// reached returns a place, at or behind that of the next record, up to which records may leave; false when none can. It is
// the watermark as far as is known: once what it returns has left, ask again.
func (h *horizon) reached(next mark, now int64) (mark, bool) {
	if next.time == never {
		return mark{}, false
	}
	floor := h.floor(now)
	if h.holder > 0 && h.holds(h.holder-1, next, now, floor) {
		return mark{}, false // mostly it is the same source, and one look tells
	}
	for {
		slot, at, ok := h.last(floor)
		if !ok {
			return last, true
		}
		h.holder = slot + 1
		switch {
		case !at.before(next):
			return at, true
		case h.holds(slot, next, now, floor):
			return mark{}, false
		}
		h.place(slot, floor)
	}
}

// holds tells whether a source holds the next record back.
func (h *horizon) holds(slot int, next mark, now, floor int64) bool {
	p, lag := &h.sources[slot], int64(h.config.Lag)
	if !p.reached(floor, lag).before(next) {
		return false
	}
	p.settle(now, int64(h.config.Settle))
	return p.reached(floor, lag).before(next)
}

// wake returns a time, from now on, before which the next record cannot leave if nothing more comes.
func (h *horizon) wake(next mark, now int64) int64 {
	if _, ok := h.reached(next, now); ok {
		return now
	}
	return h.sources[h.holder-1].reaches(next, now, h.config)
}
