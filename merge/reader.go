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
// What it takes for nonsense, and ends the stream with a *FormatError: a captured length above MaxRecord, a
// sub-second part of a full second or more (a carry of it would hide nanoseconds in a file that says microseconds,
// which puts packets in the wrong place), and a packet that its link type cannot have (see LinkType.Fits). A captured
// length above the original length is seen in the field and kept as it is, but not in the headers before the packets.
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
	link      LinkType
	picky     bool // not every packet fits the link type
	shift     int64
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
	if r.big || r.shift != 0 || r.picky {
		r.rewrite(&f, data)
	} else {
		r.index(&f, data)
	}
	if f.err != nil {
		r.err = &FormatError{Offset: r.off + int64(f.pos), Reason: f.err.Error()}
		data = data[:f.pos] // nothing behind it can be framed
		r.end = r.start + f.pos
	}
	r.arena.records = f.records
	if len(f.records) == first {
		return nil
	}
	r.start += f.pos
	r.off += int64(f.pos)
	b := r.arena.batch(data[:f.pos:f.pos], f.records[first:len(f.records):len(f.records)])
	b.headers, b.ordered = headersOf(r.nano), f.ordered
	return b
}

// framing is what frame has found so far.
type framing struct {
	records []Record
	pos     int // behind them
	last    int64
	ordered bool
	err     error // what follows them is nonsense
}

// index takes the whole records that are there as they are.
func (r *Reader) index(f *framing, data []byte) {
	records, pos, last, ordered := f.records, f.pos, f.last, f.ordered
	unit := int64(ticksPer(r.nano))
	perSecond := uint32(int64(time.Second) / unit)
	need := recordHeader
	for len(data)-pos >= recordHeader {
		p := data[pos : pos+recordHeader : pos+recordHeader]
		sub, captured := le.Uint32(p[4:]), le.Uint32(p[8:])
		if captured > MaxRecord || sub >= perSecond {
			f.err = nonsense(captured)
			break
		}
		need = recordHeader + int(captured)
		if len(data)-pos < need {
			break
		}
		t := int64(le.Uint32(p))*int64(time.Second) + int64(sub)*unit
		ordered = ordered && t >= last
		last = t
		orig := le.Uint32(p[12:])
		if orig < captured {
			le.PutUint32(p[12:], captured)
		}
		records = append(records, Record{Time: t, Off: uint32(pos + recordHeader), CapLen: captured, OrigLen: orig})
		pos += need
		need = recordHeader
	}
	r.need = need
	f.records, f.pos, f.last, f.ordered = records, pos, last, ordered
}

// rewrite takes the whole records that are there, if they fit their link type, and makes their headers those of a
// little-endian stream with shifted times.
func (r *Reader) rewrite(f *framing, data []byte) {
	for {
		r.need = recordHeader
		h, err := r.parse(data[f.pos:])
		if err != nil {
			f.err = err
			return
		}
		r.need += int(h.CapLen)
		if len(data)-f.pos < r.need {
			return
		}
		if r.picky && !r.link.Fits(data[f.pos+recordHeader:f.pos+r.need]) {
			f.err = errUnfit
			return
		}
		h.Off = uint32(f.pos + recordHeader)
		putRecordHeader(data[f.pos:], h, r.nano)
		f.ordered = f.ordered && h.Time >= f.last
		f.last = h.Time
		f.records = append(f.records, h)
		f.pos += r.need
	}
}

// nonsense is what is wrong with a record header that says so much was captured.
func nonsense(captured uint32) error {
	if captured > MaxRecord {
		return errTooLong
	}
	return errSubsecond
}

var (
	errTooLong   = fmt.Errorf("a packet claims more than %d captured bytes", MaxRecord)
	errSubsecond = errors.New("a timestamp's fraction is a full second or more")
	errUnfit     = errors.New("a packet lacks the header that its link type has")
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
	if h.CapLen > MaxRecord || ns >= int64(time.Second) {
		return Record{}, nonsense(h.CapLen)
	}
	h.Time = int64(sec)*int64(time.Second) + ns
	if r.shift != 0 {
		h.Time = min(max(addTime(h.Time, r.shift), minTime), maxTime)
	}
	return h, nil
}

// putRecordHeader writes the header of a pcap record, little-endian. Times that it cannot hold stop at its ends. The
// original length is never below the captured one: where a file's first packets have it so, Wireshark takes it for one of
// another format, and gives up.
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
	le.PutUint32(p[12:], max(r.OrigLen, r.CapLen))
}
