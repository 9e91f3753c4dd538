package merge

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is a Merger in the plainest way: everything that waits in one sorted list, the whole history of every source.
type model struct {
	config  MergerConfig
	sources []*modelSource
	queue   []modelRecord
	left    int64
}

type modelSource struct {
	open    bool
	offset  int64
	seen    []seen // at and time
	pushed  int64
	written int64
	late    int64
	bytes   int64
}

type modelRecord struct {
	gotten
	order  int // of arrival
	capLen int
}

// push queues a batch. Within it the records are sorted, and keep their order where times are equal.
func (m *model) push(id SourceID, list []sample, now int64) {
	s := m.sources[id]
	newest := int64(math.MinInt64)
	for _, r := range list {
		m.queue = append(m.queue, modelRecord{gotten{id, r.time, r.origLen}, int(r.origLen), len(r.data)})
		newest = max(newest, r.time)
	}
	s.pushed += int64(len(list))
	s.seen = append(s.seen, seen{at: now, time: newest})
	slices.SortFunc(m.queue, func(a, b modelRecord) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.source, b.source), cmp.Compare(a.order, b.order))
	})
}

// mayLeave tells whether a record may leave: no open source is expected to give one that goes before it.
func (m *model) mayLeave(r modelRecord, now int64, settle time.Duration) bool {
	for i, s := range m.sources {
		floor := now + s.offset - int64(m.config.Window)
		reached := !s.open || r.time <= floor && !s.lags(floor, now, m.config)
		for _, e := range s.seen {
			if now-e.at >= int64(settle) {
				reached = reached || r.time < e.time || r.time == e.time && int(r.source) <= i
			}
		}
		if !reached {
			return false
		}
	}
	return true
}

// lags tells whether the source is behind the floor, but no further than it may be, and has given something in the window.
func (s *modelSource) lags(floor, now int64, c MergerConfig) bool {
	newest, at := int64(math.MinInt64), int64(math.MinInt64)
	for _, e := range s.seen {
		newest, at = max(newest, e.time), max(at, e.at)
	}
	return newest < floor && floor-int64(c.Lag) <= newest && now-int64(c.Window) < at
}

// leave takes the first n out of the queue and accounts for them.
func (m *model) leave(n int) []gotten {
	var out []gotten
	for _, r := range m.queue[:n] {
		s := m.sources[r.source]
		s.written++
		s.bytes += int64(r.capLen)
		if r.time < m.left {
			s.late++
		}
		m.left = max(m.left, r.time)
		out = append(out, r.gotten)
	}
	m.queue = slices.Clone(m.queue[n:])
	return out
}

// machine drives a Merger and its model.
type machine struct {
	t      *rapid.T
	m      *Merger
	model  *model
	sink   *collector
	now    int64
	next   int
	broken error
}

func newMachine(t *rapid.T, buffers []int64) *machine {
	c := MergerConfig{
		Window: time.Duration(rapid.IntRange(0, 40).Draw(t, "window")),
		Lag:    time.Duration(rapid.SampledFrom([]int{0, 5, 30, 1000}).Draw(t, "lag")),
		Settle: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 7, 16}).Draw(t, "settle")),
		Buffer: rapid.SampledFrom(buffers).Draw(t, "buffer"),
	}
	x := &machine{
		t: t, m: NewMerger(c), sink: collect(t), now: start.UnixNano(),
		model: &model{config: c, left: math.MinInt64}, broken: errors.New("broken"),
	}
	for range rapid.IntRange(0, 6).Draw(t, "sources") {
		x.open(t)
	}
	return x
}

func (x *machine) time() time.Time { return time.Unix(0, x.now) }

func (x *machine) open(t *rapid.T) {
	offset := rapid.Int64Range(-60, 60).Draw(t, "offset")
	x.m.Open(time.Duration(offset), x.time())
	x.model.sources = append(x.model.sources, &modelSource{open: true, offset: offset})
}

func (x *machine) source(t *rapid.T) (SourceID, *modelSource) {
	if len(x.model.sources) == 0 {
		x.open(t) // not a skip: rapid gives up when there are too many
	}
	id := rapid.IntRange(0, len(x.model.sources)-1).Draw(t, "source")
	return SourceID(id), x.model.sources[id]
}

func (x *machine) setOffset(t *rapid.T) {
	id, s := x.source(t)
	s.offset = rapid.Int64Range(-60, 60).Draw(t, "offset")
	x.m.SetOffset(id, time.Duration(s.offset))
}

func (x *machine) wait(t *rapid.T) { x.now += rapid.Int64Range(0, 30).Draw(t, "wait") }

func (x *machine) shut(t *rapid.T) {
	id, s := x.source(t)
	s.open = false
	x.m.Close(id)
}

// push makes a batch of times near now, mostly in order. Batches of a source do not overlap much, so that its lanes do.
func (x *machine) push(t *rapid.T) {
	id, s := x.source(t)
	if !s.open {
		t.Skip("closed")
	}
	base := x.now + s.offset + rapid.Int64Range(-50, 0).Draw(t, "delay")
	var list []sample
	for range rapid.IntRange(0, 8).Draw(t, "records") {
		base += rapid.Int64Range(-2, 6).Draw(t, "step")
		list = append(list, sample{base, make([]byte, rapid.IntRange(0, 9).Draw(t, "length")), uint32(x.next)})
		x.next++
	}
	x.give(id, list)
}

func (x *machine) give(id SourceID, list []sample) {
	x.m.Push(id, literal(list...), x.time())
	if len(list) > 0 {
		x.model.push(id, list, x.now)
	}
}

// exact tells whether every source is in lanes in which it is in order.
func (x *machine) exact() bool {
	for _, s := range x.m.sources {
		for _, l := range s.lanes {
			last := int64(math.MinInt64)
			for b := l.head; b != nil; b = b.next {
				if b.Records[b.pos].Time < last {
					return false
				}
				last = b.Records[len(b.Records)-1].Time
			}
		}
	}
	return true
}

func (x *machine) advance(t *rapid.T) {
	if !x.exact() {
		t.Skip("more disorder than lanes")
	}
	buffered := x.m.Waiting() > x.model.config.Buffer
	if err := x.m.Advance(x.time(), x.sink); err != nil {
		t.Fatal(err)
	}
	x.check(t, buffered)
	if x.m.Waiting() > x.model.config.Buffer && len(x.model.queue) > 0 {
		t.Fatalf("%d bytes wait", x.m.Waiting())
	}
}

// check compares what left with the model: the first of its queue, all that must leave and none that may not.
func (x *machine) check(t *rapid.T, buffered bool) {
	got := x.sink.take()
	settle, n := x.model.config.Settle, len(got)
	if n > len(x.model.queue) {
		t.Fatalf("%d left of %d", n, len(x.model.queue))
	}
	if rest := x.model.queue[n:]; len(rest) > 0 && x.model.mayLeave(rest[0], x.now, settle+settle/4) {
		t.Fatalf("%v waits though it may leave", rest[0])
	}
	if n > 0 && !buffered && !x.model.mayLeave(x.model.queue[n-1], x.now, settle) {
		t.Fatalf("%v left though it may not", got[n-1])
	}
	if want := x.model.leave(len(got)); !slices.Equal(got, want) {
		t.Fatalf("left: %v\nwant  %v", got, want)
	}
	x.account(t)
}

func (x *machine) account(t *rapid.T) {
	for i, s := range x.model.sources {
		got := x.m.Stats(SourceID(i))
		want := SourceStats{s.pushed, s.written, s.late, s.bytes, got.First, got.Last}
		if got != want || x.sink.late[SourceID(i)] != s.late {
			t.Fatalf("source %d: %+v, want %+v", i, got, want)
		}
	}
}

// wake checks that nothing can leave before the time that Wake gives, and something then or at a later one that it gives then.
func (x *machine) wake(t *rapid.T) {
	x.advance(t)
	runs := x.sink.runs
	for x.sink.runs == runs {
		when, ok := x.m.Wake(x.time())
		if ok != (len(x.model.queue) > 0) {
			t.Fatalf("Wake says %v, %d wait", ok, len(x.model.queue))
		}
		if !ok || when.UnixNano() > x.now+1000 {
			return
		}
		if when.UnixNano() <= x.now {
			t.Fatalf("wakes at once, %v before now", x.time().Sub(when))
		}
		x.now = when.UnixNano() - 1
		x.advance(t)
		if x.sink.runs != runs {
			t.Fatal("something left before the time to wake")
		}
		x.now++
		x.advance(t)
	}
}

// breakSink lets the sink fail in the middle and checks that nothing is lost or counted twice.
func (x *machine) breakSink(t *rapid.T) {
	if !x.exact() {
		t.Skip("more disorder than lanes")
	}
	budget := rapid.IntRange(0, 20).Draw(t, "budget")
	x.sink.fail = func(n int) (int, error) {
		if n > budget {
			return budget, x.broken
		}
		budget -= n
		return n, nil
	}
	err := x.m.Advance(x.time(), x.sink)
	x.sink.fail = nil
	got := x.sink.take()
	if want := x.model.leave(len(got)); !slices.Equal(got, want) {
		t.Fatalf("left: %v\nwant  %v", got, want)
	}
	if err != nil && err != x.broken {
		t.Fatal(err)
	}
	x.account(t)
}

func (x *machine) drain(t *rapid.T) {
	if err := x.m.Drain(x.sink); err != nil {
		t.Fatal(err)
	}
	got := x.sink.take()
	if x.exact() {
		if want := x.model.leave(len(x.model.queue)); !slices.Equal(got, want) {
			t.Fatalf("drained: %v\nwant     %v", got, want)
		}
		x.account(t)
	}
	if x.m.Waiting() != 0 {
		t.Fatalf("%d bytes wait after all has left", x.m.Waiting())
	}
}

// The Merger does what its model does, whatever comes and goes when.
func TestMergerModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := newMachine(rt, []int64{1 << 30, 1 << 30, 4000, 600})
		rt.Repeat(map[string]func(*rapid.T){
			"open": x.open, "offset": x.setOffset, "wait": x.wait, "close": x.shut, "push": x.push, "push2": x.push,
			"advance": x.advance, "wake": x.wake, "break": x.breakSink,
		})
		wasExact := x.exact()
		if wasExact {
			x.drain(rt)
		}
	})
}

// In any disorder each record leaves exactly once, the accounts add up, and the output is sorted but for what was late.
func TestMergerDisorder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := newMachine(rt, []int64{1 << 30, 5000, 300})
		var in, out []uint32
		for range rapid.IntRange(0, 60).Draw(rt, "pushes") {
			if len(x.model.sources) == 0 {
				x.open(rt)
			}
			id, _ := x.source(rt)
			var list []sample
			for _, n := range rapid.SliceOfN(rapid.Int64Range(0, 100), 0, 6).Draw(rt, "times") {
				list = append(list, sample{start.UnixNano() + n, nil, uint32(x.next)})
				in = append(in, uint32(x.next))
				x.next++
			}
			x.give(id, list)
			x.wait(rt)
			if rapid.Bool().Draw(rt, "advance") {
				if err := x.m.Advance(x.time(), x.sink); err != nil {
					rt.Fatal(err)
				}
			}
		}
		if err := x.m.Drain(x.sink); err != nil {
			rt.Fatal(err)
		}
		last, late := int64(math.MinInt64), int64(0)
		for _, g := range x.sink.take() {
			out = append(out, g.mark)
			if g.time < last {
				late++
			}
			last = max(last, g.time)
		}
		slices.Sort(out)
		if !slices.Equal(in, out) {
			rt.Fatalf("in: %v\nout: %v", in, out)
		}
		var sum SourceStats
		for i := range x.model.sources {
			s := x.m.Stats(SourceID(i))
			sum.Pushed, sum.Written, sum.Late = sum.Pushed+s.Pushed, sum.Written+s.Written, sum.Late+s.Late
		}
		if n := int64(len(in)); sum.Pushed != n || sum.Written != n || sum.Late != late || x.m.Waiting() != 0 {
			rt.Fatalf("%+v, want %d and %d late; %d bytes wait", sum, n, late, x.m.Waiting())
		}
	})
}

// Streams that are in order and come within the window make no late records, whatever their clocks.
func TestMergerNothingLateWithinWindow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		window := rapid.Int64Range(0, 50).Draw(rt, "window")
		m := NewMerger(MergerConfig{Window: time.Duration(window)})
		now := start.UnixNano()
		sink := collect(rt)
		var offsets, last []int64
		for range rapid.IntRange(1, 6).Draw(rt, "sources") {
			offset := rapid.Int64Range(-90, 90).Draw(rt, "offset")
			m.Open(time.Duration(offset), time.Unix(0, now))
			offsets, last = append(offsets, offset), append(last, 0)
		}
		for range rapid.IntRange(0, 80).Draw(rt, "steps") {
			now += rapid.Int64Range(0, 9).Draw(rt, "wait")
			i := rapid.IntRange(0, len(offsets)-1).Draw(rt, "source")
			t0 := max(last[i], now+offsets[i]-rapid.Int64Range(0, window).Draw(rt, "delay"))
			last[i] = t0 + rapid.Int64Range(0, 5).Draw(rt, "length")
			m.Push(SourceID(i), literal(sample{time: t0}, sample{time: last[i]}), time.Unix(0, now))
			if rapid.Bool().Draw(rt, "advance") {
				if err := m.Advance(time.Unix(0, now), sink); err != nil {
					rt.Fatal(err)
				}
			}
		}
		if err := m.Drain(sink); err != nil {
			rt.Fatal(err)
		}
		if len(sink.late) > 0 {
			rt.Fatalf("late: %v", sink.late)
		}
	})
}

// FuzzMerger lets the fuzzer look for what the random choices of TestMergerModel miss.
func FuzzMerger(f *testing.F) {
	seeds := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 2000, 4000), 8, 8).Example(1)
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(rapid.MakeFuzz(func(rt *rapid.T) {
		x := newMachine(rt, []int64{1 << 30, 4000, 600})
		rt.Repeat(map[string]func(*rapid.T){
			"open": x.open, "wait": x.wait, "close": x.shut, "push": x.push, "advance": x.advance, "break": x.breakSink,
		})
	}))
}
