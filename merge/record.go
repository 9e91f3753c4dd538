package merge

import (
	"fmt"
	"math/bits"
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
func (r *Reader) rewrite(f *framing, data []byte, n int) (more bool) {
	records, pos, last, ordered := f.records, f.pos, f.last, f.ordered
	head, unit, limit := r.head, int64(ticksPer(r.nano)), r.limit
	perSecond := uint32(int64(time.Second) / unit)
	need, mixed := head, r.swapped || r.unsure
	for ; n > 0 && len(data)-pos >= head; n-- {
		p := data[pos:]
		sec, sub, captured, orig := fields(p, r.big)
		if mixed && (r.swapped || captured > orig) {
			captured, orig = orig, captured
		}
		if captured > MaxRecord {
			r.tooLong(f, captured)
			break
		}
		need = head + int(captured)
		if len(p) < need {
			break
		}
		p = p[head-recordHeader : need]
		pos, need = pos+need, head
		if r.picky && !r.link.Fits(p[recordHeader:]) {
			r.odd[OddUnfit]++
			continue
		}
		h := Record{int64(sec)*int64(time.Second) + int64(sub)*unit, uint32(pos) - captured, captured, orig}
		odd := sub >= perSecond || captured > orig || captured > limit
		if odd {
			r.mend(&h, sub >= perSecond)
		}
		if odd || r.shift != 0 {
			h.Time = r.shifted(h.Time)
			putRecordHeader(p, h, r.nano)
		} else {
			putFields(p, sec, sub, captured, orig)
		}
		ordered = ordered && h.Time >= last
		last = h.Time
		records = append(records, h)
	}
	r.need = need
	f.records, f.pos, f.last, f.ordered = records, pos, last, ordered
	return n == 0
}

// fields reads the record header that p begins with.
func fields(p []byte, big bool) (sec, sub, captured, orig uint32) {
	p = p[:recordHeader]
	sec, sub, captured, orig = le.Uint32(p), le.Uint32(p[4:]), le.Uint32(p[8:]), le.Uint32(p[12:])
	if big {
		return bits.ReverseBytes32(sec), bits.ReverseBytes32(sub), bits.ReverseBytes32(captured), bits.ReverseBytes32(orig)
	}
	return sec, sub, captured, orig
}

// tooLong deals with a record that is not taken, unless it is none.
func (r *Reader) tooLong(f *framing, captured uint32) {
	if captured > maxSkipped {
		f.err = errTooLong
		return
	}
	f.skip = r.head + int(captured)
}

// shifted returns a time with the shift, within what a header can hold.
func (r *Reader) shifted(t int64) int64 {
	t = addTime(t, r.shift)
	if t < minTime || t > maxTime {
		r.odd[OddTime]++
		t = min(max(t, minTime), maxTime)
	}
	return t
}

// mend counts what of a record makes no sense: a fraction that has been carried over, and lengths. A captured length above
// the original one is kept, but not in the headers before the packets.
func (r *Reader) mend(h *Record, carried bool) {
	if carried {
		r.odd[OddFraction]++
	}
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
	putFields(p, uint32(sec), uint32(sub), r.CapLen, max(r.OrigLen, r.CapLen))
}

func putFields(p []byte, sec, sub, captured, orig uint32) {
	p = p[:recordHeader]
	le.PutUint32(p, sec)
	le.PutUint32(p[4:], sub)
	le.PutUint32(p[8:], captured)
	le.PutUint32(p[12:], orig)
}
