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
	opened *opened     // nil: it could not be
	err    error       // why
	chunks chan *chunk // closed by its goroutine at its end; nil: it has none, and is read when it is needed
	format string

	chunk   *chunk         // that is being taken from
	records []merge.Record // its
	pos     int            // of them, the next one
	plain   bool           // they need no more than to be written
	option  int            // of chunk.options, the next one
	numbers []int          // of its interfaces in the output
	packets int64
	damage  *Damage

	disordered bool
}

// How much an input reads at once: more where there are few of them. What is merged without a goroutine between stays in
// the processor's second cache with these.
const (
	fewInputs = 16
	largeRead = 256 << 10
	smallRead = 16 << 10
	quickRead = 32 << 10
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
		in := &input{source: from}
		inputs[i] = in
		if !in.start(m.readCounter(from), size) {
			continue
		}
		defer in.opened.close()
		if !in.opened.quick {
			in.chunks = make(chan *chunk, 1)
			reading.Go(func() { in.read(ctx) })
		}
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

// start opens an input. It tells whether that could be done.
func (in *input) start(read *atomic.Int64, size int) bool {
	o, err := in.open(read, size)
	if err != nil {
		in.err = &InputError{in.name, err}
		return false
	}
	in.opened, in.format = o, o.format
	return true
}

// read reads an input to its end, while others are merged.
func (in *input) read(ctx context.Context) {
	defer close(in.chunks)
	for {
		c, err := in.opened.next()
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

// next returns the next chunk; nil at the end.
func (in *input) next() *chunk {
	switch {
	case in.opened == nil:
		return nil
	case in.chunks != nil:
		return <-in.chunks
	}
	c, err := in.opened.next()
	if err != nil {
		return nil // the end
	}
	return c
}

// takeAll merges what the inputs read.
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
	for t := newTree(times); t.winner.time != never; {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.note()
		if err := take(t, inputs, s); err != nil {
			return err
		}
		m.cfg.Progress.Packets.Store(s.total)
	}
	return ctx.Err() // the inputs end with it, too
}

// runsAtOnce is how many runs are taken before somebody looks whether to go on.
const runsAtOnce = 1024

// take writes the next runs of packets.
func take(t *tree, inputs []*input, s *sink) error {
	for n := 0; n < runsAtOnce && t.winner.time != never; n++ {
		in := inputs[t.winner.input]
		from := in.pos
		in.pos = t.run(in.records, from)
		s.order.run(in, in.records[from:in.pos])
		if err := s.write(in, from, in.pos); err != nil {
			return err
		}
		if in.pos < len(in.records) {
			continue
		}
		next, err := in.advance(s)
		if err != nil {
			return err
		}
		t.replace(next)
	}
	return nil
}

// advance takes the next chunk with packets. The events of those before are the sink's at once. It returns the time of
// the next packet, never at the end.
func (in *input) advance(s *sink) (int64, error) {
	for {
		if in.chunk != nil {
			in.chunk.release()
			in.chunk = nil
		}
		c := in.next()
		if c == nil {
			return never, in.err
		}
		in.chunk, in.pos, in.option = c, 0, 0
		for i := range c.events {
			err := s.event(in, &c.events[i])
			if err == errTooMuch && in.report >= 0 {
				in.damage = &Damage{File: in.name, Offset: c.events[i].off, Reason: err.Error()}
				return never, nil // the reading ends with the merge
			}
			if err != nil {
				return never, err
			}
		}
		if c.damage != nil {
			in.damage = c.damage
		}
		if c.batch != nil {
			in.records, in.plain = c.batch.Records, s.isPlain(c)
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
