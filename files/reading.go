package files

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync/atomic"

	"github.com/sshpcap/sshpcap/merge"
)

// input is a source that is being merged.
type input struct {
	source
	opened *opened
	chunks chan *chunk // closed by its goroutine at its end; nil: it has none, and is read when it is needed
	format string

	queue   []*chunk // of which packets are in no round yet
	newest  int64    // time that was read
	numbers []int32  // of its interfaces in the output
	packets int64
	damage  *Damage
	notes   notes
	odd     merge.Oddities
	holds   holding
	links   []merge.LinkType // of its interfaces, each once, where the output is pcap

	disordered bool
	wide       bool // see iface
}

// start opens an input. That of a pipe waits for whoever writes to it, or until ctx ends.
func (in *input) start(ctx context.Context, read *atomic.Int64, size readSizes) (err error) {
	if in.late {
		in.opened, err = in.openLate(ctx, read, size)
	} else {
		in.opened, err = in.open(read, size)
	}
	if err != nil {
		return &InputError{in.name, err}
	}
	in.format = in.opened.format
	return nil
}

// openLate opens a source that is late. It does not wait for it beyond the end of ctx.
func (s source) openLate(ctx context.Context, read *atomic.Int64, size readSizes) (*opened, error) {
	type result struct {
		opened *opened
		err    error
	}
	results := make(chan result)
	go func() {
		o, err := s.open(read, size)
		select {
		case results <- result{o, err}:
		case <-ctx.Done():
			if err == nil {
				o.close()
			}
		}
	}()
	select {
	case r := <-results:
		return r.opened, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// read reads an input to its end, while others are merged.
func (in *input) read(ctx context.Context) {
	defer close(in.chunks)
	defer in.opened.close()
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

// ready reports whether next need not wait.
func (in *input) ready() bool { return in.chunks == nil || len(in.chunks) > 0 }

// next returns the next chunk; nil at the end, and at that of ctx.
func (in *input) next(ctx context.Context) *chunk {
	if in.chunks != nil {
		select {
		case c := <-in.chunks:
			return c
		case <-ctx.Done():
			return nil
		}
	}
	c, err := in.opened.next()
	if err != nil {
		return nil // the end
	}
	return c
}

// take puts a chunk's packets behind those that are there.
func (in *input) take(c *chunk) {
	c.refs.Store(1)
	records := c.batch.Records
	c.ordered = records[0].Time >= in.newest
	if c.batch.InOrder() {
		in.newest = max(in.newest, records[len(records)-1].Time)
	} else {
		for i := range records {
			t := records[i].Time
			c.ordered = c.ordered && t >= in.newest
			in.newest = max(in.newest, t)
		}
	}
	c.newest = in.newest
	in.packets += int64(len(c.batch.Records) - c.blocks)
	in.queue = append(in.queue, c)
}

// estimate prepares cut. It is done for all inputs before the first one is cut: most of what it looks at another processor
// has written, and so this one fetches it of several inputs at the same time.
func (in *input) estimate(limit int64) {
	if len(in.queue) == 0 {
		return
	}
	c := in.queue[0]
	records := c.batch.Records[c.taken:]
	first, last := records[0].Time, records[len(records)-1].Time
	c.within = len(records)
	if limit < last {
		c.within = int(float64(limit-first) / float64(last-first) * float64(len(records)))
		c.within = max(min(c.within, len(records)-1), 0)
		if records[c.within].Time <= limit {
			c.within++
		}
	}
}

// cut moves packets up to a bound to a round. Of packets with the bound's time those of the bound's input and of inputs
// that were named before it are within.
func (in *input) cut(r *round, number int, bound head, before int64) {
	limit := bound.at()
	if number > int(bound.input) && limit != never {
		limit--
	}
	n := 0
	for ; n < len(in.queue); n++ {
		c := in.queue[n]
		from, to := c.taken, len(c.batch.Records)
		if c.newest > limit {
			to = from + c.upTo(c.batch.Records[from:], limit)
		}
		if to == from {
			break
		}
		c.taken = to
		p := part{in: in, chunk: c, records: c.batch.Records[from:to], from: from, options: c.optionsFrom(from)}
		r.add(number, p, c.ordered && c.batch.Records[from].Time >= before)
		if to < len(c.batch.Records) {
			c.refs.Add(1)
			break
		}
	}
	in.queue = slices.Delete(in.queue, 0, n)
}

// near is how far from an estimate is looked first.
const near = 8

// upTo is how many of the records are to be before those later than limit.
func (c *chunk) upTo(records []merge.Record, limit int64) (n int) {
	if !c.ordered {
		for n < len(records) && records[n].Time <= limit {
			n++
		}
		return n
	}
	size := len(records)
	if high := c.within + near; high < size && records[high].Time > limit {
		size = high
	}
	if low := c.within - near; low > 0 && records[low-1].Time <= limit {
		n, size = low, size-low
	}
	for size > 0 {
		half := (size + 1) / 2
		if records[n+half-1].Time <= limit {
			n += half
		}
		size -= half
	}
	return n
}

// optionsFrom returns those of the packets from a record on.
func (c *chunk) optionsFrom(record int) []packetOptions {
	n, _ := slices.BinarySearchFunc(c.options, record, func(o packetOptions, record int) int { return o.record - record })
	return c.options[n:]
}

// isSorted reads an input that is looked at only.
func isSorted(ctx context.Context, s source) (bool, error) {
	o, err := s.open(nil, readSizesOf(0, 1))
	if err != nil {
		return false, &InputError{s.name, err}
	}
	defer o.close()
	last := int64(math.MinInt64)
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
