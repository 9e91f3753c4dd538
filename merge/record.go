package merge

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Sizes of the format: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/ sections 4 and 5. The modified form has a
// longer header before each packet: an interface number, a protocol and a packet type follow (libpcap, sf-pcap.c).
const (
	fileHeader     = 24
	recordHeader   = 16
	modifiedHeader = 24
)

// The times that a pcap record header can hold.
const (
	minTime = 0
	maxTime = 1<<32*int64(time.Second) - 1
)

// maxSkipped bounds the records that are skipped: what claims more is no record.
const maxSkipped = 16 << 20

var errTooLong = fmt.Errorf("a packet claims more than %d captured bytes", maxSkipped)

// framing is what frame has found so far.
type framing struct {
	records []Record
	pos     int // behind them
	last    int64
	ordered bool
	skip    int   // bytes of a record that follows them and is to be skipped
	err     error // what follows them is nonsense
}

// scan takes the whole records that are there: as they are where that can be.
func (r *Reader) scan(f *framing, data []byte) {
	if !r.plain || r.shift != 0 {
		r.rewrite(f, data, math.MaxInt)
		return
	}
	for r.index(f, data) && r.rewrite(f, data, 1) {
	}
}

// index takes records as they are, up to one that it cannot: then it returns true.
func (r *Reader) index(f *framing, data []byte) (odd bool) {
	records, pos, last, ordered := f.records, f.pos, f.last, f.ordered
	unit, limit := int64(ticksPer(r.nano)), r.limit
	perSecond := uint32(int64(time.Second) / unit)
	need := recordHeader
	for len(data)-pos >= recordHeader {
		p := data[pos : pos+recordHeader : pos+recordHeader]
		sub, captured := le.Uint32(p[4:]), le.Uint32(p[8:])
		if captured > limit || sub >= perSecond {
			odd = true
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
			r.odd[OddOriginal]++
		}
		records = append(records, Record{Time: t, Off: uint32(pos + recordHeader), CapLen: captured, OrigLen: orig})
		pos += need
		need = recordHeader
	}
	r.need = need
	f.records, f.pos, f.last, f.ordered = records, pos, last, ordered
	return odd
}

// rewrite takes up to n records, and makes their headers those of a little-endian stream with shifted times. It returns
// false where that ends the framing for now.
func (r *Reader) rewrite(f *framing, data []byte, n int) bool {
	for ; n > 0; n-- {
		r.need = r.head
		p := data[f.pos:]
		if len(p) < r.need {
			return false
		}
		h, sub := r.parse(p)
		if h.CapLen > MaxRecord {
			r.tooLong(f, h.CapLen)
			return false
		}
		r.need += int(h.CapLen)
		if len(p) < r.need {
			return false
		}
		off := f.pos + r.head
		f.pos += r.need
		if r.picky && !r.link.Fits(p[r.head:r.need]) {
			r.odd[OddUnfit]++
			continue
		}
		h.Off = uint32(off)
		h.Time = h.Time*int64(time.Second) + int64(sub)*int64(ticksPer(r.nano))
		if r.shift != 0 || uint64(sub)*ticksPer(r.nano) >= uint64(time.Second) {
			r.checkTime(&h, sub)
		}
		if h.CapLen > h.OrigLen || h.CapLen > r.limit {
			r.checkLengths(&h)
		}
		putRecordHeader(data[off-recordHeader:], h, r.nano)
		f.ordered = f.ordered && h.Time >= f.last
		f.last = h.Time
		f.records = append(f.records, h)
	}
	return true
}

// tooLong deals with a record that is not taken, unless it is none.
func (r *Reader) tooLong(f *framing, captured uint32) {
	if captured > maxSkipped {
		f.err = errTooLong
		return
	}
	f.skip = r.head + int(captured)
}

// parse reads the record header that p begins with; its time are the seconds, and sub their fraction.
func (r *Reader) parse(p []byte) (h Record, sub uint32) {
	p = p[:recordHeader]
	sec, sub := le.Uint32(p), le.Uint32(p[4:])
	h = Record{CapLen: le.Uint32(p[8:]), OrigLen: le.Uint32(p[12:])}
	if r.big {
		sec, sub = binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])
		h.CapLen, h.OrigLen = binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint32(p[12:])
	}
	if r.swapped || r.unsure && h.CapLen > h.OrigLen {
		h.CapLen, h.OrigLen = h.OrigLen, h.CapLen
	}
	h.Time = int64(sec)
	return h, sub
}

// checkTime shifts a time, and mends one whose fraction was more than a second or that leaves what a header can hold.
func (r *Reader) checkTime(h *Record, sub uint32) {
	if uint64(sub)*ticksPer(r.nano) >= uint64(time.Second) {
		r.odd[OddFraction]++
	}
	t := addTime(h.Time, r.shift)
	if h.Time = min(max(t, minTime), maxTime); h.Time != t {
		r.odd[OddTime]++
	}
}

// checkLengths counts lengths that make no sense. A captured length above the original one is kept, but not in the
// headers before the packets.
func (r *Reader) checkLengths(h *Record) {
	if h.OrigLen < h.CapLen {
		r.odd[OddOriginal]++
	}
	if h.CapLen <= r.limit {
		return
	}
	if !r.cut {
		r.odd[OddSnaplen]++
		return
	}
	r.odd[OddCut]++
	h.CapLen = r.limit
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
