package merge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// Places remembers, for a growing file, how far the time of its packets had come at some offsets: enough to say from
// where on a late packet concerns it. It holds at most 4,096 of them, further apart as the file grows. The zero value
// is ready.
type Places struct {
	all  []place
	step int64
}

// place is an offset, and the newest time of the packets before it.
type place struct{ offset, newest int64 }

const (
	maxPlaces = 4096
	firstStep = 64 << 10
)

// Note takes note that what begins at offset comes behind packets of which the newest is of that time, ns since the
// epoch. Offsets and times only grow; what is close to the last offset is left out.
func (p *Places) Note(offset, newest int64) {
	p.step = max(p.step, firstStep)
	if n := len(p.all); n > 0 && offset-p.all[n-1].offset < p.step {
		return
	}
	if len(p.all) == maxPlaces {
		kept := p.all[:0]
		for i := 0; i < maxPlaces; i += 2 {
			kept = append(kept, p.all[i])
		}
		p.all, p.step = kept, 2*p.step
	}
	p.all = append(p.all, place{offset, newest})
}

// Before returns the last offset noted behind which all packets up to the time t may belong: none before it is newer.
// Without one it is the first.
func (p *Places) Before(t int64) int64 {
	if len(p.all) == 0 {
		return 0
	}
	i, _ := slices.BinarySearchFunc(p.all, t, func(at place, t int64) int {
		if at.newest <= t {
			return -1
		}
		return 1
	})
	return p.all[max(i-1, 0)].offset
}

// Tail is the end of a file that a Pcap or a Pcapng wrote, with packets that do not stand in time order.
type Tail struct {
	File   io.ReaderAt
	From   int64         // where a record or block begins; no packet before it is newer than a late one behind it
	To     int64         // the file's end
	Pcapng bool          // else pcap
	Nano   []bool        // whether timestamps are in nanoseconds, by interface number; of a pcap file: one
	Offset map[int]int64 // s, which those of an interface begin from; else from 1970
	Dir    string        // for a temporary file, when there is more than Memory; "" = os.TempDir()
	Memory int           // bytes of late packets held; 0 means 32 MiB
}

// WriteOrdered writes the tail in time order: the stable sort of its packets, each as it is, byte for byte. Interfaces go
// first, and other blocks stay before the packets in time order that they stood before. It reads the tail twice and
// holds Memory and some MiB. It returns how many packets have changed places. It ends early when ctx ends.
func (t Tail) WriteOrdered(ctx context.Context, w io.Writer) (moved int64, err error) {
	late := &lateRecords{tail: t}
	defer late.close()
	if err := t.collect(ctx, late, w); err != nil {
		return 0, err
	}
	if err := late.rewind(); err != nil {
		return 0, err
	}
	return late.count, t.place(ctx, late, w)
}

// collect takes the late packets out of the tail, and writes its interfaces.
func (t Tail) collect(ctx context.Context, late *lateRecords, w io.Writer) error {
	newest := int64(math.MinInt64)
	return t.scan(ctx, func(u unit) error {
		switch {
		case u.kind == blockInterface:
			_, err := w.Write(u.bytes)
			return err
		case u.timed && u.time < newest:
			return late.add(u)
		case u.timed:
			newest = u.time
		}
		return nil
	})
}

// place writes the packets that were not late, each behind the late ones that belong before it.
func (t Tail) place(ctx context.Context, late *lateRecords, w io.Writer) error {
	newest := int64(math.MinInt64)
	err := t.scan(ctx, func(u unit) error {
		switch {
		case u.kind == blockInterface, u.timed && u.time < newest:
			return nil // is there already, or among the late ones
		case u.timed:
			newest = u.time
			if err := late.before(u.time, w); err != nil {
				return err
			}
		}
		_, err := w.Write(u.bytes)
		return err
	})
	if err != nil {
		return err
	}
	return late.before(math.MaxInt64, w)
}

// unit is a block or a record. Its bytes are valid until the next one is read.
type unit struct {
	bytes []byte
	kind  uint32 // of block; that of packets for a record
	timed bool   // a packet, or an entry of a journal that has a time: has its place by that
	time  int64
}

// units reads the units of a part of the file.
type units struct {
	tail *Tail
	r    *bufio.Reader
	off  int64
	last int // length of the unit that was given out
}

func (t *Tail) units(r io.Reader, size int) *units {
	return &units{tail: t, r: bufio.NewReaderSize(r, size), off: t.From}
}

// longestUnit is more than any block that we write has. Those of AppendBlock and AppendInterface are the longest: what
// package files takes from others has up to 16 MiB.
const longestUnit = 17 << 20

// next returns the next unit, or io.EOF.
func (s *units) next() (unit, error) {
	if _, err := s.r.Discard(s.last); err != nil {
		return unit{}, err
	}
	s.off += int64(s.last)
	s.last = 0
	head, err := s.r.Peek(recordHeader)
	if len(head) < recordHeader {
		if len(head) > 0 || err != io.EOF {
			return unit{}, s.broken(err)
		}
		return unit{}, io.EOF
	}
	u, n := s.parse(head)
	if n < recordHeader || n > longestUnit {
		return unit{}, s.broken(errors.New("impossible length"))
	}
	if u.bytes, err = s.peek(n); err != nil {
		return unit{}, s.broken(err)
	}
	s.last = n
	return u, s.stamp(&u)
}

// peek returns the next n bytes, in a larger buffer if need be.
func (s *units) peek(n int) ([]byte, error) {
	if n > s.r.Size() {
		s.r = bufio.NewReaderSize(s.r, n)
	}
	return s.r.Peek(n)
}

// parse reads a unit's kind and length.
func (s *units) parse(head []byte) (unit, int) {
	if s.tail.Pcapng {
		return unit{kind: le.Uint32(head)}, int(le.Uint32(head[4:]))
	}
	return unit{kind: blockPacket}, recordHeader + int(min(le.Uint32(head[8:]), longestUnit))
}

// stamp reads the time of a packet, or of another block that has one.
func (s *units) stamp(u *unit) error {
	if u.kind == blockJournal && s.tail.Pcapng {
		u.time, u.timed = JournalTime(u.bytes[blockHead : len(u.bytes)-4])
	}
	if u.kind != blockPacket {
		return nil
	}
	u.timed = true
	switch {
	case !s.tail.Pcapng:
		u.time = int64(le.Uint32(u.bytes))*1e9 + int64(uint64(le.Uint32(u.bytes[4:]))*ticksPer(s.tail.Nano[0]))
		return nil
	}
	if len(u.bytes) < packetHead {
		return s.broken(errors.New("impossible length"))
	}
	iface := le.Uint32(u.bytes[8:])
	if int64(iface) >= int64(len(s.tail.Nano)) {
		return s.broken(fmt.Errorf("no interface %d", iface))
	}
	u.time = int64((uint64(le.Uint32(u.bytes[12:]))<<32 | uint64(le.Uint32(u.bytes[16:]))) * ticksPer(s.tail.Nano[iface]))
	u.time += s.tail.Offset[int(iface)] * 1e9
	return nil
}

func (s *units) broken(err error) error {
	return fmt.Errorf("merge: not what was written at byte %d: %w", s.off, err)
}

// scan calls each for all units of the tail.
func (t Tail) scan(ctx context.Context, each func(unit) error) error {
	s := t.units(io.NewSectionReader(t.File, t.From, t.To-t.From), 1<<20)
	for i := 0; ; i++ {
		u, err := s.next()
		if err == io.EOF {
			return nil
		}
		if err == nil && i&0xfff == 0 {
			err = ctx.Err()
		}
		if err == nil {
			err = each(u)
		}
		if err != nil {
			return err
		}
	}
}

// lateRecords sorts packets: in memory, and when there are too many in runs in a temporary file without a name.
type lateRecords struct {
	tail   Tail
	count  int64
	bytes  []byte
	index  []lateRecord
	file   *os.File
	end    int64 // of the file
	buffer *bufio.Writer
	runs   []*lateRun // sorted, earlier packets of the same time in earlier runs
}

// lateRecord is a packet in memory.
type lateRecord struct {
	time   int64
	off, n int
}

// lateRun gives sorted packets one after the other.
type lateRun struct {
	from, to int64  // in the file
	units    *units // nil: of what is in memory
	head     unit
	done     bool
}

func (l *lateRecords) add(u unit) error {
	limit := l.tail.Memory
	if limit == 0 {
		limit = 32 << 20
	}
	const indexed = 24
	if len(l.bytes)+len(u.bytes)+indexed*len(l.index) > limit && len(l.index) > 0 {
		if err := l.spill(); err != nil {
			return err
		}
	}
	if l.bytes == nil { // at once: growing takes twice as much for a moment
		l.bytes = make([]byte, 0, min(int64(limit), l.tail.To-l.tail.From))
	}
	l.index = append(l.index, lateRecord{u.time, len(l.bytes), len(u.bytes)})
	l.bytes = append(l.bytes, u.bytes...)
	l.count++
	return nil
}

func (l *lateRecords) sort() {
	slices.SortStableFunc(l.index, func(a, b lateRecord) int {
		switch {
		case a.time < b.time:
			return -1
		case a.time > b.time:
			return 1
		}
		return 0
	})
}

// mostRuns bounds the buffers that runs need when they are read again.
const mostRuns = 64

// spill makes a run of what is in memory.
func (l *lateRecords) spill() error {
	if len(l.runs) == mostRuns {
		if err := l.unite(); err != nil {
			return err
		}
	}
	l.sort()
	return l.append(func(w io.Writer) error {
		for _, r := range l.index {
			if _, err := w.Write(l.bytes[r.off : r.off+r.n]); err != nil {
				return err
			}
		}
		l.bytes, l.index = l.bytes[:0], l.index[:0]
		return nil
	})
}

// unite makes one run of all.
func (l *lateRecords) unite() error {
	old := l.runs
	l.runs = nil
	if err := l.open(old); err != nil {
		return err
	}
	return l.append(func(w io.Writer) error { return drain(old, math.MaxInt64, w) })
}

// append adds a run to the file, which has no name, so that nothing is left of it whatever happens.
func (l *lateRecords) append(fill func(io.Writer) error) error {
	if l.file == nil {
		file, err := os.CreateTemp(l.tail.Dir, ".late-*")
		if err != nil {
			return err
		}
		l.file = file
		if err := os.Remove(file.Name()); err != nil {
			return err
		}
	}
	w := &countWriter{w: io.NewOffsetWriter(l.file, l.end)}
	if l.buffer == nil {
		l.buffer = bufio.NewWriterSize(nil, 1<<20)
	}
	l.buffer.Reset(w)
	if err := fill(l.buffer); err != nil {
		return err
	}
	if err := l.buffer.Flush(); err != nil {
		return err
	}
	l.runs = append(l.runs, &lateRun{from: l.end, to: l.end + w.n})
	l.end += w.n
	return nil
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// rewind makes all that was added ready to be given out.
func (l *lateRecords) rewind() error {
	if len(l.runs) > 0 && len(l.index) > 0 {
		if err := l.spill(); err != nil {
			return err
		}
	}
	l.sort()
	return l.open(l.runs)
}

func (l *lateRecords) open(runs []*lateRun) error {
	for _, r := range runs {
		r.units = l.tail.units(io.NewSectionReader(l.file, r.from, r.to-r.from), 64<<10)
		if err := r.advance(); err != nil {
			return err
		}
	}
	return nil
}

func (r *lateRun) advance() (err error) {
	r.head, err = r.units.next()
	if err == io.EOF {
		r.done, err = true, nil
	}
	return err
}

// before writes the packets that are earlier than t.
func (l *lateRecords) before(t int64, w io.Writer) error {
	n := 0
	for ; n < len(l.index) && l.index[n].time < t; n++ {
		r := l.index[n]
		if _, err := w.Write(l.bytes[r.off : r.off+r.n]); err != nil {
			return err
		}
	}
	l.index = l.index[n:]
	return drain(l.runs, t, w)
}

// drain writes what the runs hold before t, in order.
func drain(runs []*lateRun, t int64, w io.Writer) error {
	for {
		var first *lateRun
		for _, r := range runs {
			if !r.done && r.head.time < t && (first == nil || r.head.time < first.head.time) {
				first = r
			}
		}
		if first == nil {
			return nil
		}
		if _, err := w.Write(first.head.bytes); err != nil {
			return err
		}
		if err := first.advance(); err != nil {
			return err
		}
	}
}

func (l *lateRecords) close() {
	if l.file != nil {
		l.file.Close() // it has no name: nothing of it can be lost
	}
}
