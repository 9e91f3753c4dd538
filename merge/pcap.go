package merge

import "io"

// Pcap writes a pcap file of draft-ietf-opsawg-pcap, little-endian. It holds 260 KiB and writes when that is full or
// on Flush; a write to w always ends with a whole record. After an error of w every call returns that error. It is not
// safe for concurrent use.
type Pcap struct {
	out     output
	nano    bool
	headers headers
	headed  bool // unit has been asked for the file's header
}

// NewPcap returns a Pcap that writes to w. Nothing is written before the first flush. A snapshot length that
// means whole packets (0, which the format does not allow, and from 65535 on) becomes MaxRecord. It must cover all records
// that are to be written: Wireshark takes a file for another format when one is longer.
func NewPcap(w io.Writer, h Header) *Pcap {
	h.Snaplen = Snaplen(h.Snaplen)
	p := &Pcap{out: newOutput(w, nil), nano: h.Nano, headers: headersOf(h.Nano)}
	p.out.unit = p.unit
	p.out.buf = appendHeader(p.out.buf, h)
	p.out.size = fileHeader
	return p
}

func (p *Pcap) unit(b []byte) (n, captured int) {
	if p.out.flushed == 0 && !p.headed {
		p.headed = true
		return fileHeader, -1
	}
	captured = int(le.Uint32(b[8:]))
	return recordHeader + captured, captured
}

// WriteRun writes records of b. Their times are cut to the file's resolution, and stop at the ends of what pcap can
// hold (1970 to 2106). The caller sees to it that they are of the file's link type. It returns how many records were
// taken or, with an error, how many of these reached w whole; see Lost for those of earlier runs.
func (p *Pcap) WriteRun(b *Batch, recs []Record) (int, error) {
	if b.headers == p.headers && len(recs) > 0 {
		// As most are: in one piece, for which there is room.
		start, end, n := stretch(recs)
		if room := p.out.room(int(end - start)); room != nil && n == len(recs) {
			copy(room, b.Data[start:end])
			p.out.took(len(room), n)
			return p.out.endRun(n)
		}
	}
	p.write(b, recs)
	return p.out.endRun(len(recs))
}

func (p *Pcap) write(b *Batch, recs []Record) {
	if b.headers != p.headers {
		p.rewrite(b, recs)
		return
	}
	for i := 0; i < len(recs); {
		start, end, n := stretch(recs[i:])
		if p.out.put(b.Data[start:end], n) != nil {
			break
		}
		i += n
	}
}

// stretch returns the longest beginning of recs that lies in one piece with its headers: from where to where, and how
// many records.
func stretch(recs []Record) (start, end uint32, n int) {
	start = recs[0].Off - recordHeader
	end = start
	for n < len(recs) && recs[n].Off == end+recordHeader {
		end = recs[n].Off + recs[n].CapLen
		n++
	}
	return start, end, n
}

// rewrite writes records with new headers.
func (p *Pcap) rewrite(b *Batch, recs []Record) {
	for i := range recs {
		room, err := p.out.next(recordHeader + int(recs[i].CapLen))
		if err != nil {
			break
		}
		p.putRecord(room, b, recs[i])
		p.out.pending++
	}
}

// putRecord puts a record with a header of its own into room, which it fills.
func (p *Pcap) putRecord(room []byte, b *Batch, r Record) {
	putRecordHeader(room, r, p.nano)
	copy(room[recordHeader:], b.Packet(r))
}

// Flush writes what was taken.
func (p *Pcap) Flush() error { return p.out.flush() }

// Size returns the bytes taken so far, those not yet written included.
func (p *Pcap) Size() int64 { return p.out.size }

// Flushed returns the length of what is in w up to the end of its last whole record. After an error a file cut to it
// is valid, unless it is 0.
func (p *Pcap) Flushed() int64 { return p.out.flushed }

// Lost returns how many records, for which WriteRun returned no error, did not reach w before it failed.
func (p *Pcap) Lost() int64 { return p.out.lost() }

// Missed returns the captured lengths of these, in the order in which they were taken.
func (p *Pcap) Missed() []uint32 { return p.out.missed() }

// Whole returns how many records are in w.
func (p *Pcap) Whole() int64 { return p.out.whole }
