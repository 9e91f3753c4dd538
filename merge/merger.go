package merge

import (
	"io"
	"math"
	"time"
)

// DefaultWindow, DefaultLag, DefaultSettle and DefaultBuffer suit a live capture.
const (
	DefaultWindow       = 500 * time.Millisecond
	DefaultLag          = 10 * time.Second
	DefaultSettle       = 5 * time.Millisecond
	DefaultBuffer int64 = 256 << 20
)

// MergerConfig says how long a Merger waits, and for how much.
type MergerConfig struct {
	// Window is how late a packet may arrive, by its source's clock, and still be put in place: how long a silent
	// source delays the others. 0 does not wait for silent sources.
	Window time.Duration
	// Lag is how much later the packets of a source may be that gives some in each Window: a link or a host that cannot
	// keep up is behind, but what comes next from there is in sight. 0 means that it is treated like a silent one.
	Lag time.Duration
	// Settle is how long after the arrival of a record an earlier one may still come from the same source, as
	// happens when several processors of a host capture. 0 expects none.
	Settle time.Duration
	// Buffer is how many bytes may wait; beyond it the oldest leave early. 0 means DefaultBuffer.
	Buffer int64
}

// Merger merges batches of many sources into one stream in time order; records of the same time come in the order of
// their sources, and those of one source in the order of their arrival.
//
// A record leaves when its time is at or below the watermark: the least, over the open sources, of the newer of the
// last time seen from it (Settle ago) and, unless it lags but delivers, of now by its clock less Window. A record below a time that has left before
// is late: it leaves at once, and is counted.
//
// The times of now that it is given never go back: an earlier one counts as the latest. It is not safe for concurrent
// use.
type Merger struct {
	config  MergerConfig
	sources []*source
	horizon horizon
	lanes   []*lane // by leaf
	tree    tournament
	left    int64 // the highest time that has left
	waiting int64
	seq     uint64

	base time.Time // the first time given, and what others are measured from: steps of the wall clock do no harm
	now  int64     // the latest time given, ns since the epoch
}

// NewMerger returns a Merger without sources.
func NewMerger(c MergerConfig) *Merger {
	if c.Buffer == 0 {
		c.Buffer = DefaultBuffer
	}
	c.Lag = time.Duration(clampOffset(c.Lag))
	m := &Merger{config: c, left: math.MinInt64}
	m.horizon.config = &m.config
	m.tree.earlier = func(a, b int32) bool { return m.lanes[a].head.seq < m.lanes[b].head.seq }
	return m
}

// Open adds a source, at any time. Its clock is offset ahead of ours.
func (m *Merger) Open(offset time.Duration, now time.Time) SourceID {
	s := &source{id: SourceID(len(m.sources))}
	m.sources = append(m.sources, s)
	s.slot = m.horizon.open(s, clampOffset(offset), m.tick(now))
	return s.id
}

// SetOffset says how far the source's clock is ahead of ours from now on.
func (m *Merger) SetOffset(id SourceID, offset time.Duration) {
	if s := m.sources[id]; s.slot >= 0 {
		m.horizon.setOffset(s.slot, clampOffset(offset), m.now)
	}
}

// Push gives a batch to the Merger, which releases it when its records have left. Records of a batch that are out of
// order are sorted. Advance must follow for Buffer to hold.
func (m *Merger) Push(id SourceID, b *Batch, now time.Time) {
	if len(b.Records) == 0 {
		b.Release()
		return
	}
	t := m.tick(now)
	s := m.sources[id]
	b.order()
	m.seq++
	b.seq, b.pos = m.seq, 0
	s.stats.Pushed += int64(len(b.Records))
	if s.slot >= 0 {
		m.horizon.see(s.slot, b.Records[len(b.Records)-1].Time, t)
	}
	m.charge(b)
	l := s.lane(b.Records[0].Time)
	if l == nil {
		l = m.newLane(s)
	}
	if l.push(b) {
		m.tree.update(l.leaf, l.key())
	}
}

// Close says that no more comes from the source. What it gave still leaves in order, and nothing waits for it.
func (m *Merger) Close(id SourceID) {
	s := m.sources[id]
	if s.slot < 0 {
		return
	}
	m.horizon.close(s.slot)
	s.slot = -1
	m.retire(s)
}

// Advance gives the sink everything at or below the watermark, and the oldest beyond Buffer. It stops at the first
// error of the sink and returns it; what the sink did not write waits on.
func (m *Merger) Advance(now time.Time, s Sink) error {
	t := m.tick(now)
	for {
		var err error
		if w, ok := m.horizon.reached(m.next(), t); ok {
			err = m.emit(w, s)
		} else if m.waiting > m.config.Buffer && m.next().time != never {
			err = m.take(last, s)
		} else {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Drain gives the sink all that is left. It stops at the first error of the sink and returns it.
func (m *Merger) Drain(s Sink) error {
	return m.emit(last, s)
}

// Wake returns a time, at or after now, before which Advance gives the sink nothing if nothing is pushed, closed or set;
// false when nothing waits. Advance may find then that something else holds back what waits, and Wake give a later one.
func (m *Merger) Wake(now time.Time) (time.Time, bool) {
	t, next := m.tick(now), m.next()
	if next.time == never {
		return time.Time{}, false
	}
	when := m.horizon.wake(next, t)
	return m.base.Add(time.Duration(when - m.base.UnixNano())), true
}

// Waiting returns how many bytes of memory are held: whole arenas, not only the packets in them.
func (m *Merger) Waiting() int64 { return m.waiting }

// Stats returns what a source gave so far.
func (m *Merger) Stats(id SourceID) SourceStats { return m.sources[id].stats }

// tick takes note of the time.
func (m *Merger) tick(now time.Time) int64 {
	if m.base.IsZero() {
		m.base, m.now = now, now.UnixNano()
	}
	m.now = max(m.now, m.base.UnixNano()+int64(now.Sub(m.base)))
	return m.now
}

// next returns the place of the next record; its time is never when there is none.
func (m *Merger) next() mark {
	top := m.tree.top()
	return mark{top.key, SourceID(top.source)}
}

// emit gives the sink everything up to limit.
func (m *Merger) emit(limit mark, s Sink) error {
	for {
		if next := m.next(); next.time == never || limit.before(next) {
			return nil
		}
		if err := m.take(limit, s); err != nil {
			return err
		}
	}
}

// take gives the sink one run: the next record and those of its batch that follow it in the order, up to the mark.
func (m *Merger) take(to mark, sink Sink) error {
	l := m.lanes[m.tree.top().leaf]
	b := l.head
	limit := to.time
	if l.source.id > to.source {
		limit--
	}
	late := b.Records[b.pos].Time < m.left
	if late {
		limit = min(limit, m.left-1)
	}
	end, placed := m.runEnd(l, limit)
	run := b.Records[b.pos:end]
	n, err := sink.WriteRun(l.source.id, b, run)
	if err == nil && n < len(run) {
		err = io.ErrShortWrite
	}
	n = min(max(n, 0), len(run))
	m.leave(l, run[:n], late)
	if !placed || n < len(run) {
		m.tree.update(l.leaf, l.key())
	}
	if l.head == nil && l.source.slot < 0 {
		m.retire(l.source)
	}
	return err
}

// runEnd returns where the run that begins with the lane's next record ends: before what another lane has to give
// first. It tells whether the lane has its new place in the tree: a run of one record, of which there are many, goes up
// the tree once, and one of any other length three times.
func (m *Merger) runEnd(l *lane, limit int64) (end int, placed bool) {
	records := l.head.Records
	end = l.head.pos + 1
	if end == len(records) || records[end].Time > limit {
		return end, false
	}
	if !m.tree.update(l.leaf, min(records[end].Time, never-1)) {
		return end, true
	}
	second := m.tree.second()
	if second.key != never && second.key <= limit {
		limit = second.key
		if m.tree.before(second, entrant{source: int32(l.source.id), leaf: int32(l.leaf)}) {
			limit--
		}
	}
	return upTo(records, end, limit), false
}

// leave takes the records of a run, which were written, from the lane.
func (m *Merger) leave(l *lane, run []Record, late bool) {
	if len(run) == 0 {
		return
	}
	l.source.stats.written(run, late)
	m.left = max(m.left, run[len(run)-1].Time)
	l.head.pos += len(run)
	if l.head.pos == len(l.head.Records) {
		m.discharge(l.pop())
	}
}

// upTo returns the index of the first record from i on that is later than t: in steps that double, then by halves, so
// that short runs cost little and long ones less.
func upTo(records []Record, i int, t int64) int {
	step := 1
	for i+step <= len(records) && records[i+step-1].Time <= t {
		i += step
		step *= 2
	}
	end := min(i+step-1, len(records))
	for i < end {
		if mid := i + (end-i)/2; records[mid].Time <= t {
			i = mid + 1
		} else {
			end = mid
		}
	}
	return i
}

// charge counts the memory that a batch holds: its arena with the first batch of it.
func (m *Merger) charge(b *Batch) {
	const recordSize, batchSize = 24, 128
	b.bytes = batchSize + recordSize*int64(len(b.Records))
	if b.arena == nil {
		b.bytes += int64(len(b.Data))
	} else if b.arena.held++; b.arena.held == 1 {
		m.waiting += int64(len(b.arena.buf))
	}
	m.waiting += b.bytes
}

// discharge releases a batch all of which has left.
func (m *Merger) discharge(b *Batch) {
	m.waiting -= b.bytes
	if a := b.arena; a != nil {
		if a.held--; a.held == 0 {
			m.waiting -= int64(len(a.buf))
		}
	}
	b.Release()
}

func (m *Merger) newLane(s *source) *lane {
	l := &lane{source: s, leaf: m.tree.add(s.id), newest: math.MinInt64}
	s.lanes = append(s.lanes, l)
	for len(m.lanes) <= l.leaf {
		m.lanes = append(m.lanes, nil)
	}
	m.lanes[l.leaf] = l
	return l
}

// Reopen says that more comes from a source that was closed. Its clock is as far ahead of ours as SetOffset says next.
func (m *Merger) Reopen(id SourceID, now time.Time) {
	s := m.sources[id]
	if s.slot >= 0 {
		return
	}
	s.nyoung = 0
	s.slot = m.horizon.open(s, 0, m.tick(now))
}

// retire gives back what a source needs to queue, if nothing more comes of it.
func (m *Merger) retire(s *source) {
	if s.slot >= 0 || !s.empty() {
		return
	}
	for _, l := range s.lanes {
		m.tree.remove(l.leaf)
		m.lanes[l.leaf] = nil
	}
	s.lanes = nil
}
