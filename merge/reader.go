package merge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Sizes of the format: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/ sections 4 and 5.
const (
	fileHeader   = 24
	recordHeader = 16
)

// The times that a pcap record header can hold.
const (
	minTime = 0
	maxTime = 1<<32*int64(time.Second) - 1
)

// Reader frames a classic pcap stream in place: both byte orders, micro- and nanoseconds. It holds at most one arena
// of memory, up to 264 KiB, beside the batches that it gave out. It is not safe for concurrent use.
//
// What it takes for nonsense, and ends the stream with a *FormatError: a captured length above MaxRecord, and a
// sub-second part of a full second or more (a carry of it would hide nanoseconds in a file that says microseconds,
// which puts packets in the wrong place). A captured length above the original length is seen in the field and kept
// as it is.
type Reader struct {
	r     io.Reader
	arena *arena
	start int   // in arena.buf, of what has not been framed
	end   int   // in arena.buf, of what has been read
	off   int64 // of start in the stream
	need  int   // bytes from start on that make the next record whole, as far as known

	reads, read int // into this arena: how many and how much

	big, nano bool
	shift     int64
	err       error // what the stream ended with, once all before it has been given out
}

// NewReader returns a Reader of the stream r, which begins with the file's header.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r, need: fileHeader}
}

// Shift sets what is added to every timestamp from now on. Times that leave what pcap can hold (1970 to 2106) stop at
// its ends.
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
	if r.start < r.end {
		if r.err == io.EOF {
			r.err = ErrTruncated
		} else {
			r.err = fmt.Errorf("%w; %w", r.err, ErrTruncated)
		}
	}
	r.drop()
	return r.err
}

// drop gives the arena back.
func (r *Reader) drop() {
	if r.arena != nil {
		r.arena.release()
	}
	r.arena, r.start, r.end = nil, 0, 0
}

// fill reads once.
func (r *Reader) fill() {
	r.makeRoom()
	free := r.arena.buf[r.end:]
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
		r.arena = newArena(r.need)
		return
	}
	size := len(r.arena.buf)
	fits := r.start+r.need <= size
	if fits && r.end < size && (r.start == 0 || size-r.end >= size/16) {
		return
	}
	r.moveOn()
}

// moveOn takes what is not framed to the beginning of another arena. That one's size follows how much a read gives,
// so that a busy stream has few and a slow one small arenas. The same arena serves again if nobody else has it.
func (r *Reader) moveOn() {
	old, want := r.arena, r.need
	if r.reads > 0 {
		want = max(want, 4*(r.read/r.reads))
	}
	rest := old.buf[r.start:r.end]
	if old.class == arenaClass(want) && old.refs.Load() == 1 {
		old.records = old.records[:0]
		r.end = copy(old.buf, rest)
	} else {
		r.arena = newArena(want)
		r.end = copy(r.arena.buf, rest)
		old.release()
	}
	r.start, r.reads, r.read = 0, 0, 0
}

// frame makes a batch of the whole records that are there; nil when there are none. In passing it rewrites their
// headers to little-endian, shifted time, so that a writer can copy many at once.
func (r *Reader) frame() *Batch {
	data := r.pending()
	if data == nil {
		return nil
	}
	records := r.arena.records
	first, pos, last, ordered := len(records), 0, int64(minTime), true
	for {
		h, err := r.parse(data[pos:])
		if err != nil {
			r.err = &FormatError{Offset: r.off + int64(pos), Reason: err.Error()}
			data = data[:pos] // nothing behind it can be framed
			r.end = r.start + pos
			break
		}
		r.need = recordHeader + int(h.CapLen)
		if len(data)-pos < r.need {
			break
		}
		h.Off = uint32(pos + recordHeader)
		if r.big || r.shift != 0 {
			putRecordHeader(data[pos:], h, r.nano)
		}
		ordered = ordered && h.Time >= last
		last = h.Time
		records = append(records, h)
		pos += r.need
	}
	r.arena.records = records
	if len(records) == first {
		return nil
	}
	r.start += pos
	r.off += int64(pos)
	b := r.arena.batch(data[:pos:pos], records[first:len(records):len(records)])
	b.headers, b.ordered = headersOf(r.nano), ordered
	return b
}

var (
	errTooLong   = fmt.Errorf("a packet claims more than %d captured bytes", MaxRecord)
	errSubsecond = errors.New("a timestamp's fraction is a full second or more")
)

// parse reads the record header that p begins with, if it is all there.
func (r *Reader) parse(p []byte) (Record, error) {
	if len(p) < recordHeader {
		return Record{}, nil
	}
	p = p[:recordHeader]
	sec, sub := le.Uint32(p), le.Uint32(p[4:])
	h := Record{CapLen: le.Uint32(p[8:]), OrigLen: le.Uint32(p[12:])}
	if r.big {
		sec, sub = binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])
		h.CapLen, h.OrigLen = binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint32(p[12:])
	}
	ns := int64(sub)
	if !r.nano {
		ns *= int64(time.Microsecond)
	}
	switch {
	case h.CapLen > MaxRecord:
		return Record{}, errTooLong
	case ns >= int64(time.Second):
		return Record{}, errSubsecond
	}
	h.Time = int64(sec)*int64(time.Second) + ns
	if r.shift != 0 {
		h.Time = min(max(addTime(h.Time, r.shift), minTime), maxTime)
	}
	return h, nil
}

// putRecordHeader writes the header of a pcap record, little-endian. Times that it cannot hold stop at its ends.
func putRecordHeader(p []byte, r Record, nano bool) {
	t := uint64(min(max(r.Time, minTime), maxTime))
	sec, sub := t/uint64(time.Second), t%uint64(time.Second)
	if !nano {
		sub /= uint64(time.Microsecond)
	}
	p = p[:recordHeader]
	le.PutUint32(p, uint32(sec))
	le.PutUint32(p[4:], uint32(sub))
	le.PutUint32(p[8:], r.CapLen)
	le.PutUint32(p[12:], r.OrigLen)
}
