package files

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/sshpcap/sshpcap/merge"
)

// input is a source that is being merged.
type input struct {
	source
	chunks chan *chunk // closed by its goroutine at its end
	err    error       // why it could not be opened; set before chunks is closed
	format string

	chunk   *chunk         // that is being taken from
	records []merge.Record // its
	pos     int            // of them, the next one
	option  int            // of chunk.options, the next one
	numbers []int          // of its interfaces in the output
	packets int64
	damage  *Damage

	disordered bool
}

// How much an input reads at once: more where there are few of them.
const (
	fewInputs = 16
	largeRead = 256 << 10
	smallRead = 16 << 10
)

// pass merges inputs into w, all at once.
func (m *merging) pass(ctx context.Context, inputs []source, w io.Writer, format Format) (*sink, error) {
	s := &sink{cfg: &m.cfg, format: format, order: newOrder()}
	return s, m.mergeTo(ctx, inputs, s, w)
}

// merge merges inputs into a sink that makes its files by itself.
func (m *merging) merge(ctx context.Context, inputs []source, s *sink) error {
	return m.mergeTo(ctx, inputs, s, nil)
}

func (m *merging) mergeTo(ctx context.Context, sources []source, s *sink, w io.Writer) error {
	if m.cfg.Dedup > 0 && s.format == Pcapng {
		s.dedup = newDedup(m.cfg.Dedup)
	}
	var reading sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	defer reading.Wait()
	defer stop()
	inputs := make([]*input, len(sources))
	size := largeRead
	if len(sources) > fewInputs {
		size = smallRead
	}
	for i, from := range sources {
		in := &input{source: from, chunks: make(chan *chunk, 1)}
		inputs[i] = in
		reading.Go(func() { in.read(ctx, m.readCounter(from), size) })
	}
	err := m.takeAll(ctx, inputs, s, w)
	err = errors.Join(err, s.finish())
	m.account(inputs, s)
	return err
}

// readCounter is nil for what was counted when it was read the first time.
func (m *merging) readCounter(s source) *atomic.Int64 {
	if s.report < 0 {
		return nil
	}
	return &m.cfg.Progress.Read
}

// read reads an input to its end.
func (in *input) read(ctx context.Context, read *atomic.Int64, size int) {
	defer close(in.chunks)
	o, err := in.open(read, size)
	if err != nil {
		in.err = &InputError{in.name, err}
		return
	}
	defer o.close()
	in.format = o.format
	for {
		c, err := o.next()
		if err != nil {
			return // the end
		}
		select {
		case in.chunks <- c:
		case <-ctx.Done():
			return
		}
	}
}

// pick is a run of packets that are next in the output.
type pick struct {
	input    int32
	from, to int32 // of the records of its chunk
}

// mostPicks is how many are looked for before they are written.
const mostPicks = 1024

// takeAll merges what the inputs read. It finds out who is next many times over before it copies: two tight loops are
// faster than one large one, and the copying knows what comes.
func (m *merging) takeAll(ctx context.Context, inputs []*input, s *sink, w io.Writer) error {
	times := make([]int64, len(inputs))
	for i, in := range inputs {
		var err error
		if times[i], err = in.advance(s); err != nil {
			return err
		}
	}
	if w != nil {
		if err := s.begin(w); err != nil {
			return err
		}
	}
	t, picks := newTree(times), make([]pick, 0, mostPicks)
	for t.winner.time != never {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.note()
		var used *input
		picks, used = collect(t, inputs, s, picks[:0])
		if err := s.writeAll(inputs, picks); err != nil {
			return err
		}
		if used != nil {
			next, err := used.advance(s)
			if err != nil {
				return err
			}
			t.replace(next)
		}
		m.cfg.Progress.Packets.Store(s.total)
	}
	return ctx.Err() // the inputs end with it, too
}

// collect finds the next packets, until a chunk is used up: that of the tree's winner, which is returned.
func collect(t *tree, inputs []*input, s *sink, picks []pick) ([]pick, *input) {
	newest := s.order.newest
	for len(picks) < mostPicks && t.winner.time != never {
		i := t.winner.input
		in := inputs[i]
		records, from := in.records, in.pos
		first := records[from].Time
		if first < newest {
			s.order.late(first)
			in.disordered = true
		}
		to, last := from+1, first
		used := to == len(records)
		if !used {
			t.replace(records[to].Time)
			if t.winner.input == i && records[to].Time >= first {
				limit := t.limit()
				for ; to < len(records) && records[to].Time <= limit && records[to].Time >= last; to++ {
					last = records[to].Time
				}
				if used = to == len(records); !used {
					t.replace(records[to].Time)
				}
			}
		}
		if first < newest {
			s.order.moved += int64(to - from)
		}
		newest = max(newest, last)
		picks = append(picks, pick{int32(i), int32(from), int32(to)})
		in.pos = to
		if used {
			s.order.newest = newest
			return picks, in
		}
	}
	s.order.newest = newest
	return picks, nil
}

// advance takes the next chunk with packets. The events of those before are the sink's at once. It returns the time of
// the next packet, never at the end.
func (in *input) advance(s *sink) (int64, error) {
	for {
		if in.chunk != nil {
			in.chunk.release()
			in.chunk = nil
		}
		c, ok := <-in.chunks
		if !ok {
			return never, in.err
		}
		in.chunk, in.pos, in.option = c, 0, 0
		for i := range c.events {
			if err := s.event(in, &c.events[i]); err != nil {
				return never, err
			}
		}
		if c.damage != nil {
			in.damage = c.damage
		}
		if c.batch != nil {
			in.records = c.batch.Records
			in.packets += int64(len(c.batch.Records))
			return min(c.batch.Records[0].Time, never-1), nil
		}
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
	for _, in := range inputs {
		if in.report < 0 {
			continue
		}
		r := &m.report.Inputs[in.report]
		r.Format, r.Packets, r.Interfaces, r.Damage, r.Sorted = in.format, in.packets, len(in.numbers), in.damage, !in.disordered
	}
}

// isSorted reads an input that is looked at only.
func isSorted(ctx context.Context, s source) (bool, error) {
	o, err := s.open(nil, largeRead)
	if err != nil {
		return false, &InputError{s.name, err}
	}
	defer o.close()
	last := int64(0)
	for {
		c, err := o.next()
		if err == io.EOF {
			return true, nil
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return false, err
		}
		if c.batch != nil {
			for i := range c.batch.Records {
				if t := c.batch.Records[i].Time; t < last {
					c.release()
					return false, nil
				} else {
					last = t
				}
			}
		}
		c.release()
	}
}
