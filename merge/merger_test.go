package merge

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"time"
)

// gotten is a record that left a Merger.
type gotten struct {
	source SourceID
	time   int64
	mark   uint32 // OrigLen, by which tests know records again
}

// collector takes what leaves and checks the manners of the Merger.
type collector struct {
	t    tester
	out  []gotten
	runs int
	left int64
	late map[SourceID]int64
	fail func(n int) (int, error) // how many of a run to take
}

func collect(t tester) *collector {
	return &collector{t: t, left: math.MinInt64, late: map[SourceID]int64{}}
}

func (c *collector) WriteRun(id SourceID, b *Batch, recs []Record) (int, error) {
	if len(recs) == 0 {
		c.t.Fatal("an empty run")
	}
	n, err := len(recs), error(nil)
	if c.fail != nil {
		n, err = c.fail(len(recs))
	}
	c.runs++
	late := recs[0].Time < c.left
	for i, r := range recs {
		if (r.Time < c.left) != late {
			c.t.Fatal("a run of late records and others")
		}
		if i > 0 && r.Time < recs[i-1].Time {
			c.t.Fatal("a run out of order")
		}
		_ = b.Packet(r)
	}
	for _, r := range recs[:n] {
		c.out = append(c.out, gotten{id, r.Time, r.OrigLen})
	}
	if n > 0 {
		c.left = max(c.left, recs[n-1].Time)
		if late {
			c.late[id] += int64(n)
		}
	}
	return n, err
}

// take returns what has left since the last time.
func (c *collector) take() []gotten {
	out := c.out
	c.out = nil
	return out
}

func (c *collector) times() []int64 {
	var out []int64
	for _, g := range c.take() {
		out = append(out, (g.time-start.UnixNano())/1e6)
	}
	return out
}

func ms(n int) time.Time { return start.Add(time.Duration(n) * time.Millisecond) }

// at makes a batch of records at so many ms from the start.
func at(times ...int) *Batch {
	var list []sample
	for i, t := range times {
		list = append(list, sample{ms(t).UnixNano(), []byte("data"), uint32(i)})
	}
	return literal(list...)
}

func wantTimes(t *testing.T, c *collector, want ...int64) {
	t.Helper()
	if got := c.times(); !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
}

func advance(t *testing.T, m *Merger, now int, c *collector) {
	t.Helper()
	if err := m.Advance(ms(now), c); err != nil {
		t.Fatal(err)
	}
}

func TestMergerWaitsForSources(t *testing.T) {
	m := NewMerger(MergerConfig{Window: 500 * time.Millisecond})
	a, b := m.Open(0, ms(0)), m.Open(0, ms(0))
	c := collect(t)
	m.Push(a, at(10, 30), ms(31))
	advance(t, m, 31, c)
	wantTimes(t, c) // b may have older ones
	m.Push(b, at(20), ms(32))
	advance(t, m, 32, c)
	wantTimes(t, c, 10, 20) // b may have something between 20 and 30
	if w, ok := m.Wake(ms(33)); !ok || !w.Equal(ms(530)) {
		t.Errorf("wakes at %v, %v", w.Sub(start), ok)
	}
	advance(t, m, 529, c)
	wantTimes(t, c)
	advance(t, m, 530, c)
	wantTimes(t, c, 30) // b was silent for the window
	if _, ok := m.Wake(ms(531)); ok || m.Waiting() != 0 {
		t.Errorf("waits with %d bytes though all has left", m.Waiting())
	}
}

// A source that is behind is waited for while it gives something in each window, up to a bound.
func TestMergerLag(t *testing.T) {
	m := NewMerger(MergerConfig{Window: 500 * time.Millisecond, Lag: 2 * time.Second})
	a, b := m.Open(0, ms(0)), m.Open(0, ms(0))
	c := collect(t)
	m.Push(a, at(3010, 3500), ms(3510))
	m.Push(b, at(1900), ms(3520))
	advance(t, m, 3600, c)
	wantTimes(t, c, 1900) // more of b comes before the others
	if w, ok := m.Wake(ms(3600)); !ok || !w.Equal(ms(4020)) {
		t.Errorf("wakes at %v, %v", w.Sub(start), ok)
	}
	m.Push(b, at(2900), ms(4010))
	advance(t, m, 4509, c)
	wantTimes(t, c, 2900)
	advance(t, m, 4510, c)
	wantTimes(t, c, 3010, 3500) // b was silent for the window
	m.Push(a, at(5000), ms(5001))
	m.Push(b, at(3000, 3100), ms(5490))
	advance(t, m, 5500, c)
	wantTimes(t, c, 3000, 3100) // late
	advance(t, m, 5600, c)
	wantTimes(t, c)
	advance(t, m, 5601, c) // the window and 2 s after what is seen of b
	wantTimes(t, c, 5000)
}

// By the time that one source is there another may lag, which then is waited for.
func TestMergerWakesForEach(t *testing.T) {
	m := NewMerger(MergerConfig{Window: 500 * time.Millisecond, Lag: 2 * time.Second, Settle: 700 * time.Millisecond})
	a := m.Open(0, ms(0))
	m.Open(-100*time.Millisecond, ms(0)) // is there at 1100
	c := collect(t)
	m.Push(a, at(500), ms(1000)) // is there at 1000 and, behind by then, again after the window
	if w, ok := m.Wake(ms(1000)); !ok || !w.Equal(ms(1100)) {
		t.Errorf("wakes at %v, %v", w.Sub(start), ok)
	}
	advance(t, m, 1100, c)
	wantTimes(t, c)
	if w, ok := m.Wake(ms(1100)); !ok || !w.Equal(ms(1500)) {
		t.Errorf("wakes at %v, %v", w.Sub(start), ok)
	}
	advance(t, m, 1499, c)
	wantTimes(t, c)
	advance(t, m, 1500, c)
	wantTimes(t, c, 500)
}

func TestMergerClosedSourceDoesNotHold(t *testing.T) {
	m := NewMerger(MergerConfig{Window: time.Hour})
	a, b := m.Open(0, ms(0)), m.Open(0, ms(0))
	c := collect(t)
	m.Push(a, at(10, 30), ms(31))
	m.Push(b, at(5, 20), ms(31))
	m.Close(b)
	advance(t, m, 31, c)
	wantTimes(t, c, 5, 10, 20, 30)
	m.Push(a, at(40), ms(41))
	m.Close(a)
	if w, ok := m.Wake(ms(41)); !ok || !w.Equal(ms(41)) {
		t.Errorf("wakes at %v, %v", w.Sub(start), ok)
	}
	advance(t, m, 41, c)
	wantTimes(t, c, 40)
	if len(m.tree.free) != m.tree.leaves() {
		t.Errorf("%d of %d leaves given back", len(m.tree.free), m.tree.leaves())
	}
}

// A source that was closed may be opened again, and is waited for like any other.
func TestMergerReopen(t *testing.T) {
	m := NewMerger(MergerConfig{Window: 100 * time.Millisecond})
	a, b := m.Open(0, ms(0)), m.Open(0, ms(0))
	c := collect(t)
	m.Push(b, at(10, 20), ms(20))
	m.Close(b)
	m.Push(a, at(30), ms(31))
	advance(t, m, 31, c)
	wantTimes(t, c, 10, 20, 30)
	m.Reopen(b, ms(40))
	m.Reopen(b, ms(40)) // it is open
	m.Push(a, at(50), ms(51))
	advance(t, m, 51, c)
	wantTimes(t, c)
	m.Push(b, at(45, 55), ms(56))
	m.Push(a, at(57), ms(58))
	advance(t, m, 58, c)
	wantTimes(t, c, 45, 50, 55)
	m.Close(a)
	m.Close(b)
	advance(t, m, 59, c)
	wantTimes(t, c, 57)
	if s := m.Stats(b); s.Pushed != 4 || s.Written != 4 {
		t.Errorf("%+v", s)
	}
}

// An instance whose clock is ahead waits for the others instead of making theirs late.
func TestMergerOffset(t *testing.T) {
	m := NewMerger(MergerConfig{Window: 100 * time.Millisecond})
	ahead, right := m.Open(3*time.Second, ms(0)), m.Open(0, ms(0))
	c := collect(t)
	m.Push(ahead, at(3010), ms(10))
	m.Push(right, at(10, 20), ms(20))
	advance(t, m, 20, c)
	wantTimes(t, c, 10, 20)
	advance(t, m, 3109, c)
	wantTimes(t, c)
	advance(t, m, 3110, c)
	wantTimes(t, c, 3010)
	m.SetOffset(right, -time.Second)
	m.Push(ahead, at(7000), ms(4000))
	advance(t, m, 8099, c)
	wantTimes(t, c)
	if w, _ := m.Wake(ms(4000)); !w.Equal(ms(8100)) {
		t.Errorf("wakes at %v", w.Sub(start))
	}
	advance(t, m, 8100, c)
	wantTimes(t, c, 7000)
}

func TestMergerSettle(t *testing.T) {
	m := NewMerger(MergerConfig{Window: time.Second, Settle: 4 * time.Millisecond})
	a := m.Open(0, ms(0))
	c := collect(t)
	m.Push(a, at(10), ms(10))
	m.Push(a, at(9), ms(11)) // another processor was slower
	advance(t, m, 13, c)
	wantTimes(t, c)
	if w, _ := m.Wake(ms(13)); !w.Equal(ms(14)) {
		t.Errorf("wakes at %v", w.Sub(start))
	}
	m.Push(a, at(12), ms(13))
	advance(t, m, 14, c)
	wantTimes(t, c, 9, 10)
	advance(t, m, 17, c)
	wantTimes(t, c, 12)
	if s := m.Stats(a); s.Late != 0 || s.Pushed != 3 || s.Written != 3 {
		t.Errorf("%+v", s)
	}
}

// However many arrive, what settled is known to a quarter of the time, and in bounded memory.
func TestMergerSettlesInTime(t *testing.T) {
	const settle = 8 * time.Millisecond
	m := NewMerger(MergerConfig{Window: time.Hour, Settle: settle})
	a := m.Open(0, ms(0))
	p := &m.horizon.sources[m.sources[a].slot]
	for now := int64(0); now < int64(100*time.Millisecond); now += 10_000 {
		t0 := start.UnixNano() + now
		p.see(t0, t0, int64(settle))
		p.settle(t0, int64(settle))
		if now > int64(2*settle) && (p.settled > t0-int64(settle) || p.settled < t0-int64(settle+settle/4)) {
			t.Fatalf("at %v settled %v ago", time.Duration(now), time.Duration(t0-p.settled))
		}
		if n := p.source.nyoung; n >= maxYoung {
			t.Fatalf("%d to settle", n)
		}
	}
}

func TestMergerLate(t *testing.T) {
	m := NewMerger(MergerConfig{Window: 100 * time.Millisecond})
	a, b := m.Open(0, ms(0)), m.Open(0, ms(0))
	c := collect(t)
	m.Push(a, at(10, 20), ms(200))
	advance(t, m, 200, c)
	wantTimes(t, c, 10, 20)
	m.Push(b, at(5, 19, 20, 21), ms(201))
	advance(t, m, 201, c)
	wantTimes(t, c, 5, 19, 20, 21)
	want := SourceStats{
		Pushed: 4, Written: 4, Late: 2, Bytes: 16, First: ms(5).UnixNano(), Last: ms(21).UnixNano(),
	}
	if s := m.Stats(b); s != want {
		t.Errorf("%+v", s)
	}
	if s := m.Stats(a); s.Late != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMergerOrderOfEqualTimes(t *testing.T) {
	m := NewMerger(MergerConfig{})
	a, b, d := m.Open(0, ms(0)), m.Open(0, ms(0)), m.Open(0, ms(0))
	mark := func(batch *Batch, from uint32) *Batch {
		for i := range batch.Records {
			batch.Records[i].OrigLen = from + uint32(i)
		}
		return batch
	}
	c := collect(t)
	m.Push(d, mark(at(5, 5, 7), 0), ms(7))
	m.Push(b, mark(at(5, 7, 7), 0), ms(7))
	m.Push(a, mark(at(4, 5, 7), 0), ms(7))
	m.Push(b, mark(at(5, 7), 10), ms(7)) // goes into a lane of its own
	if err := m.Drain(c); err != nil {
		t.Fatal(err)
	}
	i := func(id SourceID, t int, mark uint32) gotten { return gotten{id, ms(t).UnixNano(), mark} }
	want := []gotten{
		i(a, 4, 0), i(a, 5, 1), i(b, 5, 0), i(b, 5, 10), i(d, 5, 0), i(d, 5, 1),
		i(a, 7, 2), i(b, 7, 1), i(b, 7, 2), i(b, 7, 11), i(d, 7, 2),
	}
	if !slices.Equal(c.out, want) {
		t.Errorf("got  %v\nwant %v", c.out, want)
	}
}

func TestMergerSortsBatches(t *testing.T) {
	m := NewMerger(MergerConfig{})
	a := m.Open(0, ms(0))
	c := collect(t)
	m.Push(a, at(5, 3, 5, 3, 1), ms(7))
	advance(t, m, 7, c)
	var marks []uint32
	for _, g := range c.out {
		marks = append(marks, g.mark)
	}
	if want := []uint32{4, 1, 3, 0, 2}; !slices.Equal(marks, want) {
		t.Errorf("left: %v, want %v", marks, want)
	}
}

func TestMergerLanes(t *testing.T) {
	m := NewMerger(MergerConfig{Window: time.Hour})
	a := m.Open(0, ms(0))
	m.Open(0, ms(0)) // holds all back
	c := collect(t)
	for _, from := range []int{50, 40, 30, 20} { // each begins before all others: four lanes
		m.Push(a, at(from, from+1), ms(60))
	}
	m.Push(a, at(41, 52), ms(60)) // fits behind 40
	m.Push(a, at(10, 11), ms(60)) // fits nowhere: goes behind 20, 21, and will be late
	m.Push(a, at(60), ms(60))
	if n := len(m.sources[a].lanes); n != maxLanes {
		t.Errorf("%d lanes", n)
	}
	if err := m.Drain(c); err != nil {
		t.Fatal(err)
	}
	wantTimes(t, c, 20, 21, 10, 11, 30, 31, 40, 41, 41, 50, 51, 52, 60)
	if s := m.Stats(a); s.Late != 2 {
		t.Errorf("%+v", s)
	}
}

func TestMergerBuffer(t *testing.T) {
	one := func(n int) *Batch {
		return literal(sample{ms(n).UnixNano(), make([]byte, 10_000), 0})
	}
	m := NewMerger(MergerConfig{Window: time.Hour, Buffer: 35_000})
	a, b := m.Open(0, ms(0)), m.Open(0, ms(0))
	c := collect(t)
	m.Push(a, one(1), ms(10))
	m.Push(a, one(3), ms(10))
	m.Push(b, one(2), ms(10))
	advance(t, m, 10, c)
	wantTimes(t, c, 1, 2)
	m.Push(b, one(4), ms(10))
	advance(t, m, 10, c)
	wantTimes(t, c, 3)
	m.Push(a, one(5), ms(10))
	m.Push(a, one(6), ms(10))
	advance(t, m, 10, c)
	wantTimes(t, c, 4) // beyond the buffer the oldest leave
	m.Push(b, one(2), ms(11))
	advance(t, m, 11, c)
	wantTimes(t, c, 2)
	if s := m.Stats(b); s.Late != 1 {
		t.Errorf("%+v", s)
	}
	if w := m.Waiting(); w < 20_000 || w > 35_000 {
		t.Errorf("%d bytes wait", w)
	}
}

// What waits is counted by the memory it holds: an arena stays as long as one of its batches.
func TestMergerCountsArenas(t *testing.T) {
	m := NewMerger(MergerConfig{Window: time.Hour})
	a := m.Open(0, ms(0))
	r := NewReader(&cutReader{p: forms[1].stream(samples(3)), sizes: []byte{fileHeader - 1, 40, 255}})
	mustHeader(t, r)
	c := collect(t)
	for range 2 {
		b, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		m.Push(a, b, start)
	}
	size := int64(arenaSizes[0])
	if w := m.Waiting(); w < size || w > size+1000 {
		t.Errorf("%d bytes wait", w)
	}
	if err := m.Drain(c); err != nil {
		t.Fatal(err)
	}
	if w := m.Waiting(); w != 0 {
		t.Errorf("%d bytes wait", w)
	}
	if n := r.arena.refs.Load(); n != 1 {
		t.Errorf("%d references left", n)
	}
}

func TestMergerSinkError(t *testing.T) {
	full := errors.New("full")
	m := NewMerger(MergerConfig{})
	a := m.Open(0, ms(0))
	m.Push(a, at(1, 2, 3, 4), ms(5))
	m.Close(a)
	c := collect(t)
	for n, want := range []int64{0, 1, 3} {
		c.fail = func(int) (int, error) { return n, full }
		if err := m.Advance(ms(5), c); err != full {
			t.Fatal(err)
		}
		if s := m.Stats(a); s.Written != want || s.Bytes != 4*want {
			t.Errorf("%+v, want %d", s, want)
		}
	}
	c.fail = func(int) (int, error) { return 0, nil }
	if err := m.Drain(c); err != io.ErrShortWrite {
		t.Errorf("too few without an error: %v", err)
	}
	c.fail = func(n int) (int, error) { return n, full }
	if err := m.Drain(c); err != full {
		t.Errorf("all and an error: %v", err)
	}
	if err := m.Drain(c); err != nil {
		t.Errorf("nothing left: %v", err)
	}
	wantTimes(t, c, 1, 2, 3, 4)
	if m.Waiting() != 0 || len(m.tree.free) != m.tree.leaves() {
		t.Error("something is left")
	}
}

func TestMergerClockNeverGoesBack(t *testing.T) {
	m := NewMerger(MergerConfig{Window: 100 * time.Millisecond})
	a := m.Open(0, ms(0))
	m.Open(0, ms(0))
	c := collect(t)
	advance(t, m, 1000, c)
	m.Push(a, at(900), ms(10))
	advance(t, m, 10, c)
	wantTimes(t, c, 900)
}

func TestMergerExtremes(t *testing.T) {
	m := NewMerger(MergerConfig{Window: math.MaxInt64, Settle: math.MaxInt64})
	a, b := m.Open(math.MinInt64, ms(0)), m.Open(math.MaxInt64, ms(0))
	c := collect(t)
	m.Push(a, literal(sample{time: math.MinInt64}, sample{time: math.MaxInt64}), ms(1))
	m.Push(b, literal(), ms(1))
	m.Push(b, literal(sample{time: 0}), ms(1))
	advance(t, m, 2, c)
	if w, ok := m.Wake(ms(2)); !ok || w.Before(ms(2)) {
		t.Errorf("wakes at %v, %v", w, ok)
	}
	if err := m.Drain(c); err != nil {
		t.Fatal(err)
	}
	if n := len(c.out); n != 3 || c.out[1].source != b {
		t.Errorf("left: %v", c.out)
	}
}

// Sources come and go while others wait; leaves are used again and nothing is lost.
func TestMergerManySources(t *testing.T) {
	m := NewMerger(MergerConfig{Window: time.Second})
	m.Open(0, ms(0))
	c := collect(t)
	const n = 1500
	for i := range n {
		id := m.Open(0, ms(i))
		m.Push(id, at(i, i+2000), ms(i))
		if i%3 == 0 {
			m.Close(id)
		}
		advance(t, m, i, c)
	}
	if err := m.Drain(c); err != nil {
		t.Fatal(err)
	}
	if len(c.out) != 2*n || len(c.late) > 0 {
		t.Errorf("%d records left, late: %v", len(c.out), c.late)
	}
	if l := m.tree.leaves(); l > 2048 {
		t.Errorf("%d leaves", l)
	}
}

func TestUpTo(t *testing.T) {
	for n := range 40 {
		recs := make([]Record, n)
		for i := range recs {
			recs[i].Time = int64(i / 3)
		}
		for i := 0; i <= n; i++ {
			for limit := int64(-1); limit < 15; limit++ {
				want := i
				for want < n && recs[want].Time <= limit {
					want++
				}
				if got := upTo(recs, i, limit); got != want {
					t.Fatalf("%d records from %d up to %d: %d, want %d", n, i, limit, got, want)
				}
			}
		}
	}
}

func TestAddTime(t *testing.T) {
	for _, c := range [][3]int64{
		{1, 2, 3}, {math.MaxInt64, 1, math.MaxInt64}, {math.MinInt64, -1, math.MinInt64},
		{-5, math.MinInt64, math.MinInt64}, {5, math.MinInt64, math.MinInt64 + 5}, {math.MinInt64, 0, math.MinInt64},
	} {
		if got := addTime(c[0], c[1]); got != c[2] {
			t.Errorf("%d + %d = %d", c[0], c[1], got)
		}
	}
}

func ExampleMerger() {
	m := NewMerger(MergerConfig{Window: DefaultWindow})
	web, db := m.Open(0, start), m.Open(0, start)
	m.Push(web, at(1, 4), ms(5))
	m.Push(db, at(2, 3), ms(5))
	m.Close(web)
	m.Close(db)
	_ = m.Drain(printer{})
	// Output:
	// source 0: 1 packet
	// source 1: 2 packets
	// source 0: 1 packet
}

type printer struct{}

func (printer) WriteRun(id SourceID, _ *Batch, recs []Record) (int, error) {
	s := "s"
	if len(recs) == 1 {
		s = ""
	}
	fmt.Printf("source %d: %d packet%s\n", id, len(recs), s)
	return len(recs), nil
}
