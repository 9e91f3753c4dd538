package files

import (
	"cmp"
	"context"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// merger merges inputs into a sink, in rounds (see round). Several workers do all of the work, each with rounds of its own
// from their reading to their writing, so that what a processor has in its caches is what it goes on with. One worker
// gathers a round while others merge theirs and one writes. Who cannot write yet begins another round; who cannot do that
// either writes what another one has merged, but not with few inputs: gathering these takes less time than that.
type merger struct {
	inputs   []*input
	allQuick bool // none of them has a goroutine of its own
	sink     *sink
	packets  *atomic.Int64 // written: the progress

	ends   *tree // when of what was read each input's ends; the next one to be read from is that whose ends first
	newest int64 // time in the rounds that were gathered

	mu        sync.Mutex
	changed   sync.Cond     // something of what follows
	changes   atomic.Uint64 // how often it has
	gathering bool          // somebody gathers a round
	ended     bool          // there are no more
	gathered  int           // rounds, which have numbers from 0 on
	merged    []*round      // of these, and nobody writes them yet
	written   int           // of these

	failed atomic.Pointer[error]
}

// worker has memory for rounds.
type worker struct {
	*merger
	spare []*round
}

// fewInputs are so few that more can be read at once of each, and that gathering a round takes less time than writing one.
const fewInputs = 16

// readSizesOf returns how much is read at once of one of several inputs, by those who merge if it is quick, else by its own
// goroutine. More at once takes the system less time, by a microsecond for each read, and less stays in the processor's second
// cache until it is merged. These are measured; with still more inputs it is memory that counts. First reads differ: else what
// was read of all inputs would come to its end at about the same time, again and again, and rounds be as large as all of it and
// as small as nothing.
func readSizesOf(number, inputs int) (s readSizes) {
	s.other = 256 << 10
	if inputs > fewInputs {
		s.other = 16 << 10
	}
	switch {
	case inputs <= 4:
		s.quick = 128 << 10
	case inputs <= fewInputs:
		s.quick = 64 << 10
	case inputs <= 256:
		s.quick = 32 << 10
	default:
		s.quick = 16 << 10
	}
	s.first = max(s.quick*(number+1)/inputs, 1<<10)
	return s
}

// roundSize is how much is read for a round at least. More takes memory, and leaves the second cache; less has workers
// wait for each other. Only a test sets it.
var roundSize = 512 << 10

// How many workers have something to do, at most: one gathers, one writes, others merge; and how many rounds each has.
const (
	mostWorkers = 4
	mostRounds  = 3
)

// newSink makes a sink for one pass.
func (m *merging) newSink(format Format) *sink {
	return &sink{cfg: &m.cfg, format: format, order: newOrder(), budget: m.budget}
}

// pass merges inputs into w, all at once.
func (m *merging) pass(ctx context.Context, inputs []source, w io.Writer, format Format) (*sink, error) {
	s := m.newSink(format)
	s.to = w
	return s, m.mergeTo(ctx, inputs, s)
}

// mergeTo merges inputs into a sink.
func (m *merging) mergeTo(ctx context.Context, sources []source, s *sink) error {
	if m.cfg.Dedup > 0 && s.format == Pcapng {
		s.dedup = newDedup(m.cfg.Dedup)
	}
	var reading sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	defer reading.Wait()
	defer stop()
	g := &merger{allQuick: true, sink: s, packets: &m.cfg.Progress.Packets, newest: math.MinInt64}
	g.changed.L = &g.mu
	for i, from := range sources {
		in := &input{source: from, newest: math.MinInt64}
		g.inputs = append(g.inputs, in)
		if err := in.start(ctx, m.readCounter(from), readSizesOf(i, len(sources))); err != nil {
			return cmp.Or(ctx.Err(), err)
		}
		if in.opened.quick {
			defer in.opened.close()
			continue
		}
		g.allQuick = false
		in.chunks = make(chan *chunk, 1)
		if in.late {
			go in.read(ctx) // which ends, if need be, when what it waits for comes
		} else {
			reading.Go(func() { in.read(ctx) })
		}
	}
	err := s.end(g.run(ctx))
	m.account(g.inputs, s)
	return err
}

// readCounter is nil for what was counted when it was read the first time.
func (m *merging) readCounter(s source) *atomic.Int64 {
	if s.report < 0 {
		return nil
	}
	return &m.cfg.Progress.Read
}

// run merges all that the inputs have.
func (g *merger) run(ctx context.Context) error {
	times := make([]int64, len(g.inputs))
	for i, in := range g.inputs {
		var err error
		if times[i], err = (&worker{merger: g}).read(ctx, in); err != nil {
			return err
		}
	}
	g.ends = newTree(times)
	if s := g.sink; s.rotation == nil && !s.begun() {
		if err := s.begin(s.to); err != nil {
			return err
		}
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), mostWorkers) {
		w := &worker{merger: g}
		for range mostRounds {
			w.spare = append(w.spare, &round{inputs: make([][]part, len(g.inputs))})
		}
		workers.Go(func() { w.work(ctx) })
	}
	workers.Wait()
	if err := g.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// work takes rounds to the sink until there are no more.
func (w *worker) work(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch next := w.next(); {
		case next != nil && next.owner == w:
			w.write(next)
		case !w.ended && !w.gathering && len(w.spare) > 0:
			w.begin(ctx)
		case next != nil && len(w.inputs) > fewInputs:
			w.write(next)
		case w.ended && w.written == w.gathered:
			return
		default:
			w.wait()
		}
	}
}

// wait waits until something has changed. It is called with mu, and is without meanwhile. A worker that sleeps takes tens of
// microseconds to wake, as long as what it waits for: it looks for a while before. Not where others make what is read, who
// may be slow, or need the processor themselves.
func (w *worker) wait() {
	seen := w.changes.Load()
	w.mu.Unlock()
	for began := time.Now(); w.allQuick && w.changes.Load() == seen && time.Since(began) < awake; {
		runtime.Gosched()
	}
	w.mu.Lock()
	if w.changes.Load() == seen {
		w.changed.Wait()
	}
}

// tell says that something has changed. It is called with mu.
func (w *worker) tell() {
	w.changes.Add(1)
	w.changed.Broadcast()
}

// awake is how long a worker looks.
const awake = 300 * time.Microsecond

// begin gathers and merges a round. It is called with mu, and is without meanwhile.
func (w *worker) begin(ctx context.Context) {
	r := w.spare[len(w.spare)-1]
	w.spare = w.spare[:len(w.spare)-1]
	r.owner = w
	w.gathering = true
	w.mu.Unlock()
	last := w.gather(ctx, r)
	w.mu.Lock()
	w.gathering, w.ended = false, last
	r.number = w.gathered
	w.gathered++
	w.tell()
	w.mu.Unlock()
	if r.ordered && w.sink.isFree() {
		r.frame(w.sink)
	}
	w.mu.Lock()
	w.merged = append(w.merged, r) // nobody is told: its owner looks now, and others do when the round before it is written
}

// next returns the round that is to be written next, if it can be. It is called with mu.
func (g *merger) next() *round {
	for _, r := range g.merged {
		if r.number == g.written {
			return r
		}
	}
	return nil
}

// write writes the next round. It is called with mu, and is without meanwhile.
func (w *worker) write(r *round) {
	w.merged = slices.DeleteFunc(w.merged, func(m *round) bool { return m == r })
	w.mu.Unlock()
	if w.failed.Load() == nil {
		w.fail(w.sink.take(r))
		w.packets.Store(w.sink.total)
	}
	r.release()
	w.mu.Lock()
	r.owner.spare = append(r.owner.spare, r)
	w.written++
	w.tell()
}

// writeAll waits until all rounds that were gathered are written.
func (w *worker) writeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.written < w.gathered {
		if next := w.next(); next != nil {
			w.write(next)
		} else {
			w.wait()
		}
	}
}

func (g *merger) fail(err error) {
	if err != nil {
		g.failed.CompareAndSwap(nil, &err)
	}
}

// gather makes the next round, and reports whether it is the last one.
func (w *worker) gather(ctx context.Context, r *round) (last bool) {
	w.fail(ctx.Err())
	if w.failed.Load() == nil {
		w.fail(w.readAhead(ctx))
	}
	if w.failed.Load() != nil {
		return true
	}
	bound := w.ends.winner
	for _, in := range w.inputs {
		in.estimate(bound.at())
	}
	for i, in := range w.inputs {
		in.cut(r, i, bound, w.newest)
	}
	w.newest = bound.at()
	return w.newest == never
}

// readAhead reads what the next round is made of: always from the input of whose packets there are those up to the
// earliest time only (Knuth, The Art of Computer Programming, volume 3, section 5.4.6: forecasting), so that no more is
// held than a round and a chunk of each input.
func (w *worker) readAhead(ctx context.Context) error {
	for read := 0; w.ends.winner.at() != never; {
		in := w.inputs[w.ends.winner.input]
		if len(in.queue) > 0 && (read >= roundSize || !in.ready()) {
			return nil
		}
		end, err := w.read(ctx, in)
		if err != nil {
			return err
		}
		if end != never {
			read += in.queue[len(in.queue)-1].size()
		}
		w.ends.replace(end)
	}
	return nil
}

// read reads a chunk with packets. The events of those before it are the sink's at once. It returns up to which time
// all of the input's packets are there; never at its end.
func (w *worker) read(ctx context.Context, in *input) (int64, error) {
	for {
		c := in.next(ctx)
		if c == nil {
			return never, ctx.Err() // with which inputs end, too
		}
		for i := range c.events {
			w.writeAll() // it goes into the file behind all packets before it
			err := w.sink.event(in, &c.events[i])
			if err == errTooMuch && in.report >= 0 {
				in.damage = &Damage{File: in.name, Offset: c.events[i].off, Reason: err.Error()}
				return never, nil // the reading ends with the merge
			}
			if err != nil {
				return never, err
			}
		}
		in.notes.addAll(c.notes)
		if c.damage != nil {
			in.damage = c.damage
		}
		if c.odd != nil {
			in.odd = *c.odd
		}
		if c.batch == nil {
			c.release()
			continue
		}
		in.take(c)
		return min(in.newest, never-1), nil
	}
}

// account takes note of what came of inputs.
func (m *merging) account(inputs []*input, s *sink) {
	m.report.Packets = s.total
	m.report.Moved += s.order.moved
	m.cfg.Progress.Packets.Store(s.total)
	if s.dedup != nil {
		m.report.Duplicates = s.dedup.found
	}
	m.report.SeveralLinkTypes, m.report.SeveralSnaplens = s.otherLinks, s.otherSnaplens
	for _, in := range inputs {
		m.report.SeveralSnaplens = m.report.SeveralSnaplens || s.format == Pcapng && in.odd[merge.OddSnaplen] > 0 && !in.wide
		if in.report < 0 {
			continue
		}
		r := &m.report.Inputs[in.report]
		r.Format, r.Packets, r.Interfaces, r.Damage, r.Sorted = in.format, in.packets, len(in.numbers), in.damage, !in.disordered
		r.Skipped = in.odd.SkippedPackets()
		r.Notes = append(in.oddNotes(m.cfg.Format), in.notes...)
	}
}

// oddNotes says what of an input makes no sense.
func (in *input) oddNotes(format Format) (all []Note) {
	odd := in.odd
	if format != Pcap {
		odd[merge.OddPcapTime] = 0
	}
	for _, o := range odd.List() {
		all = append(all, Note{What: o.Thing, Text: o.Text, Count: o.Count})
	}
	return all
}
