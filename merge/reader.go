package merge

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Reader frames a classic pcap stream in place: both byte orders, micro- and nanoseconds, versions 2.0 to 2.4, and the
// modified form of old Linux tools. It holds at most one arena of memory, up to 264 KiB, beside the batches that it gave
// out. It is not safe for concurrent use.
//
// A record that makes no sense ends the stream, with a *FormatError, only where nothing behind it can be found: if it
// claims more than 16 MiB. Others are kept, mended or skipped, and counted: see Oddities.
type Reader struct {
	r     io.Reader
	arena *arena
	start int   // in arena.buf, of what has not been framed
	end   int   // in arena.buf, of what has been read
	off   int64 // of start in the stream
	need  int   // bytes from start on that make the next record whole, as far as known

	reads, read int // into this arena: how many and how much

	size      int // of arenas, at least; 0 = it follows how much a read gives
	most      int // in which case it is no more than this, but for a record that needs it; 0 = no limit
	first     int // how much of the first arena is used, while it is the one; 0 = all, as of others
	big, nano bool
	plain     bool // records can be taken as they are
	head      int  // bytes before a record's packet
	swapped   bool // of which the original length comes before the captured one
	unsure    bool // whether it does, can be told only where they differ
	link      LinkType
	picky     bool   // not every packet fits the link type
	limit     uint32 // captured bytes of a record beyond which it is odd
	cut       bool   // what is beyond the snapshot length is cut off
	shift     int64
	skip      int // bytes of a record that are still to be skipped
	odd       Oddities
	err       error // what the stream ended with, once all before it has been given out
}

// NewReader returns a Reader of the stream r, which begins with the file's header. Unlike others r may keep the buffer that
// it was given when it returns an error.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r, need: fileHeader}
}

// NewReaderSize returns a Reader that asks for so many bytes at once, or a little more, whatever a read gives; but for the
// first ones, which it asks for by themselves. It suits files; many that are read in turn should differ in their first ones:
// else what was read of all of them comes to its end at the same time, again and again.
func NewReaderSize(r io.Reader, first, size int) *Reader {
	size = max(size, fileHeader)
	return &Reader{r: r, need: fileHeader, first: min(max(first, fileHeader), size), size: size}
}

// Limit bounds the arenas to come, but for a record that needs more: where there are many busy streams, large ones add up.
func (r *Reader) Limit(size int) { r.most = size }

// CutTo has packets that are longer than a snapshot length cut to it, as tcpdump does when it reads them: else what is
// written of them is not what the output's header promises, and tcpdump reads no further there.
func (r *Reader) CutTo(snaplen uint32) { r.limit, r.cut = Snaplen(snaplen), true }

// Offset returns how many bytes of the stream are behind us: up to the first one of a record that has not been given out.
func (r *Reader) Offset() int64 { return r.off }

// Oddities returns how many of the records so far made no sense, and in which way.
func (r *Reader) Oddities() Oddities { return r.odd }

// Shift sets what is added to every timestamp from now on. Times that leave what pcap can hold (1970 to 2106) stop at
// its ends, and are counted.
func (r *Reader) Shift(d time.Duration) {
	r.shift = int64(d)
}

// ReadHeader reads the stream's header. It blocks till the 24 bytes have come, or something that is not pcap. It
// returns io.EOF when nothing came, ErrTruncated when the stream ended within the header, and a *FormatError with the
// first bytes when they are not pcap's: at the first wrong byte, since nothing more may come.
func (r *Reader) ReadHeader() (Header, error) {
	for {
		head := r.pending()
		if err := checkMagic(head); err != nil {
			return Header{}, r.fail(err)
		}
		if len(head) >= fileHeader {
			return r.parseHeader(head)
		}
		if r.err != nil {
			return Header{}, r.finish()
		}
		r.fill()
	}
}

// Next returns the records that have come. It blocks till there is at least one and never waits for more. It returns
// io.EOF at a clean end, an error that matches ErrTruncated when the last record was cut (together with what cut it,
// if that was not the stream's end), and a *FormatError for nonsense, each after all records before it have been
// returned. The batch is the caller's.
func (r *Reader) Next() (*Batch, error) {
	for {
		if r.skip > 0 {
			r.skipOver()
		}
		if b := r.frame(); b != nil {
			return b, nil
		}
		if r.err != nil {
			return nil, r.finish()
		}
		r.fill()
	}
}

func (r *Reader) pending() []byte {
	if r.arena == nil {
		return nil
	}
	return r.arena.buf[r.start:r.end]
}

// fail ends the stream with what is wrong at its current place.
func (r *Reader) fail(err error) error {
	r.err = err
	r.drop()
	return err
}

// finish returns what the stream ended with, when all that is left is a part of a record.
func (r *Reader) finish() error {
	if r.start < r.end || r.skip > 0 {
		if r.err == io.EOF {
			r.err = ErrTruncated
		} else {
			r.err = fmt.Errorf("%w; %w", r.err, ErrTruncated)
		}
	}
	r.drop()
	return r.err
}

// drop leaves the arena to whoever still has it.
func (r *Reader) drop() { r.arena, r.start, r.end = nil, 0, 0 }

// fill reads once.
func (r *Reader) fill() {
	r.makeRoom()
	free := r.arena.buf[r.end:r.room()]
	for range 100 { // as bufio: a reader may return nothing, but not for ever
		n, err := r.r.Read(free)
		if n < 0 || n > len(free) {
			n, err = 0, errors.New("merge: reader returned an impossible count")
		}
		r.end += n
		r.reads++
		r.read += n
		if err != nil {
			r.err = err
		}
		if n > 0 || err != nil {
			return
		}
	}
	r.err = io.ErrNoProgress
}

// makeRoom sees to it that the record which begins at start can become whole, and that a read is worth its while.
func (r *Reader) makeRoom() {
	if r.arena == nil {
		r.arena = newArena(max(r.need, r.size))
		return
	}
	size := r.room()
	fits := r.start+r.need <= size
	if fits && r.end < size && (r.start == 0 || size-r.end >= max(size/16, r.mean())) {
		return
	}
	r.moveOn()
}

// room is how much of the arena is used.
func (r *Reader) room() int {
	if r.first > 0 {
		return r.first
	}
	return len(r.arena.buf)
}

// mean is how much a read into this arena has given, on average.
func (r *Reader) mean() int { return r.read / max(r.reads, 1) }

// moveOn takes what is not framed to the beginning of another arena. That one's size follows how much a read gives,
// so that a busy stream has few and a slow one small arenas. The same arena serves again if nobody else has it.
func (r *Reader) moveOn() {
	old, want := r.arena, r.need
	if r.reads > 0 && r.size == 0 {
		follow := 4 * r.mean()
		if r.most > 0 {
			follow = min(follow, r.most)
		}
		want = max(want, follow)
	}
	rest := old.buf[r.start:r.end]
	want = max(want, r.size)
	if old.class == arenaClass(want) && old.refs.Load() == 1 {
		old.records = old.records[:0]
		r.end = copy(old.buf, rest)
	} else {
		r.arena = newArena(want)
		r.end = copy(r.arena.buf, rest)
		old.release()
	}
	r.start, r.reads, r.read, r.first = 0, 0, 0, 0
}

// frame makes a batch of the whole records that are there; nil when there are none. In passing it rewrites their
// headers to little-endian, shifted time, so that a writer can copy many at once.
func (r *Reader) frame() *Batch {
	data := r.pending()
	if data == nil {
		return nil
	}
	f := framing{records: r.arena.records, ordered: true, last: minTime}
	first := len(f.records)
	if !r.plain || r.shift != 0 {
		r.rewrite(&f, data, math.MaxInt)
	} else {
		for r.index(&f, data) && r.rewrite(&f, data, 1) { // which takes those that index cannot
		}
	}
	if f.err != nil {
		r.err = &FormatError{Offset: r.off + int64(f.pos), Reason: f.err.Error()}
		r.end = r.start + f.pos // nothing behind it can be framed
	}
	r.arena.records = f.records
	r.start += f.pos
	r.off += int64(f.pos)
	if f.skip > 0 {
		r.skip = f.skip
		r.skipOver()
	}
	if len(f.records) == first {
		return nil
	}
	b := r.arena.batch(data[:f.pos:f.pos], f.records[first:len(f.records):len(f.records)])
	b.headers, b.ordered = headersOf(r.nano), f.ordered
	return b
}

// skipOver drops what is there of a record that is skipped.
func (r *Reader) skipOver() {
	n := min(r.skip, r.end-r.start)
	r.start += n
	r.off += int64(n)
	if r.skip -= n; r.skip == 0 {
		r.odd[OddTooLong]++
	}
}
