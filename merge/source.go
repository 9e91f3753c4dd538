package merge

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// SourceID names a source of a Merger, in the order in which they were opened: from 0 on, never used again.
type SourceID int

// SourceStats counts what a source gave. First and Last mean nothing before a record was written.
type SourceStats struct {
	Pushed  int64 // records taken
	Written int64 // records that the sink wrote
	Late    int64 // of those written: below a time that had left before
	Bytes   int64 // captured bytes written
	First   int64 // earliest time written, ns since the epoch
	Last    int64 // latest time written
}

// maxLanes bounds the queues of one source. One does where the stream is in order, two where processors of one host
// take turns; what would need more is disorder that a queue cannot mend.
const maxLanes = 4

// source is one stream into a Merger.
type source struct {
	id    SourceID
	slot  int // in the horizon; -1 when closed
	lanes []*lane
	stats SourceStats

	young  [maxYoung]seen // what is to settle, oldest first
	nyoung int
}

// progress is how far an open source is.
type progress struct {
	settled int64 // newest time seen, once it was a while ago
	newest  int64 // newest time seen
	at      int64 // when it last gave something
	offset  int64 // how far its clock is ahead, within maxOffset
	id      SourceID
	source  *source
}

// maxOffset bounds offsets and what they are added to, so that nothing overflows: 36 years.
const maxOffset = 1 << 60

func clampOffset(d time.Duration) int64 { return int64(min(max(d, -maxOffset), maxOffset)) }

// seen is the newest time seen when.
type seen struct {
	since, at int64 // the first and the last arrival in it
	time      int64
}

// Arrivals within a quarter of the time to settle are taken together, so that this many always do.
const maxYoung = 8

// lane is a queue of batches each of which begins where the one before it ends, or later.
type lane struct {
	source     *source
	leaf       int
	head, tail *Batch
	newest     int64 // of all in it; math.MinInt64 when empty
}

// see notes that t was seen at now.
func (p *progress) see(t, now, settle int64) {
	p.newest, p.at = max(p.newest, t), now
	if settle <= 0 {
		p.settled = max(p.settled, t)
		return
	}
	p.settle(now, settle)
	s := p.source
	if n := s.nyoung; n > 0 {
		last := &s.young[n-1]
		t = max(t, last.time)
		if n == maxYoung || now-last.since < settle/4 {
			last.at, last.time = now, t
			return
		}
	}
	s.young[s.nyoung] = seen{since: now, at: now, time: t}
	s.nyoung++
}

// settle takes what has been seen long enough ago into settled.
func (p *progress) settle(now, settle int64) {
	s, n := p.source, 0
	for n < s.nyoung && now-s.young[n].at >= settle {
		p.settled = max(p.settled, s.young[n].time)
		n++
	}
	if n > 0 {
		copy(s.young[:], s.young[n:s.nyoung])
		s.nyoung -= n
	}
}

// mark is a place in the merged order: all records of a time up to those of a source.
type mark struct {
	time   int64
	source SourceID
}

// whole is the source of a mark behind all records of its time, last that behind all there are.
const whole = SourceID(math.MaxInt)

var last = mark{never - 1, whole}

func (m mark) before(n mark) bool {
	return m.time < n.time || m.time == n.time && m.source < n.source
}

// reached returns the place before which nothing more is expected of the source, as far as it has settled; floor is
// what it has reached if its clock is right and it does not lag. It may give more of the time that it gave last, which go
// behind those of sources before it: so the order does not hang on how a stream is cut to batches.
func (p *progress) reached(floor, lag int64) mark {
	if p.isFloored(floor, lag) {
		return mark{floor + p.offset, whole}
	}
	return mark{p.settled, p.id}
}

// isFloored tells whether what the source has reached is the floor.
func (p *progress) isFloored(floor, lag int64) bool {
	return floor+p.offset >= p.settled && !p.lags(floor, lag)
}

// lags tells whether what comes next from the source will be below the floor, but not by more than lag.
func (p *progress) lags(floor, lag int64) bool {
	t := floor + p.offset
	return p.newest < t && p.newest >= t-lag && p.at > floor
}

// reaches returns the first time from now on at which the source will have reached m if nothing more comes from it.
func (p *progress) reaches(m mark, now int64, c *MergerConfig) int64 {
	if !(mark{p.settled, p.id}).before(m) {
		return now
	}
	window, lag := int64(c.Window), int64(c.Lag)
	when := max(now, addTime(addTime(m.time, window), -p.offset)) // the floor is there
	if p.lags(addTime(when, -window), lag) {
		when = min(addTime(p.at, window), addTime(addTime(addTime(p.newest, lag+1), window), -p.offset))
	}
	s := p.source
	for _, y := range s.young[:s.nyoung] {
		if !(mark{y.time, p.id}).before(m) {
			return min(when, max(now, addTime(y.at, int64(c.Settle))))
		}
	}
	return when
}

// lane returns the lane for a batch that begins at first: of those that end before it the one that ends last, so that
// the others stay open for what comes out of order; nil when a new lane is called for.
func (s *source) lane(first int64) *lane {
	var best, least *lane
	for _, l := range s.lanes {
		if l.newest <= first && (best == nil || l.newest > best.newest) {
			best = l
		}
		if least == nil || l.newest < least.newest {
			least = l
		}
	}
	if best == nil && len(s.lanes) == maxLanes {
		return least // what begins too early there will be late
	}
	return best
}

func (s *source) empty() bool {
	return !slices.ContainsFunc(s.lanes, func(l *lane) bool { return l.head != nil })
}

// push appends a batch, and tells whether the lane was empty.
func (l *lane) push(b *Batch) (first bool) {
	l.newest = max(l.newest, b.Records[len(b.Records)-1].Time)
	if l.head == nil {
		l.head, l.tail = b, b
		return true
	}
	l.tail.next = b
	l.tail = b
	return false
}

// pop takes the first batch out.
func (l *lane) pop() *Batch {
	b := l.head
	l.head, b.next = b.next, nil
	if l.head == nil {
		l.tail, l.newest = nil, math.MinInt64
	}
	return b
}

// key returns the time of the next record, at most never-1.
func (l *lane) key() int64 {
	if l.head == nil {
		return never
	}
	return min(l.head.Records[l.head.pos].Time, never-1)
}

// written counts a run that the sink wrote.
func (s *SourceStats) written(run []Record, late bool) {
	if len(run) == 0 {
		return
	}
	first, last := run[0].Time, run[len(run)-1].Time
	if s.Written == 0 {
		s.First, s.Last = first, last
	}
	s.First, s.Last = min(s.First, first), max(s.Last, last)
	s.Written += int64(len(run))
	if late {
		s.Late += int64(len(run))
	}
	for i := range run {
		s.Bytes += int64(run[i].CapLen)
	}
}

// order sorts the records of a batch by time, if they are not, and keeps equal ones in their order.
func (b *Batch) order() {
	if b.ordered {
		return
	}
	byTime := func(x, y Record) int { return cmp.Compare(x.Time, y.Time) }
	if !slices.IsSortedFunc(b.Records, byTime) {
		b.Records = slices.Clone(b.Records) // their Reader may be moving the array that they stand in
		slices.SortStableFunc(b.Records, byTime)
	}
	b.ordered = true
}

// addTime adds without overflow.
func addTime(t, d int64) int64 {
	sum := t + d
	switch {
	case d > 0 && sum < t:
		return math.MaxInt64
	case d < 0 && sum > t:
		return math.MinInt64
	}
	return sum
}
