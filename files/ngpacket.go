package files

import "github.com/sshpcap/sshpcap/merge"

// packet takes a packet of any of the three kinds.
func (d *pcapngDecoder) packet(c *ngChunk, kind uint32, body []byte) {
	var number, ticks uint64
	var rec merge.Record
	head := 20
	switch {
	case kind == blockSimple && len(body) >= 4:
		head = 4
		rec.OrigLen = d.order.Uint32(body)
	case kind == blockSimple || len(body) < head:
		d.odd[merge.OddOverrun]++
		return
	default:
		number = uint64(d.order.Uint32(body))
		if kind == blockOldPacket {
			number = uint64(d.order.Uint16(body))
		}
		ticks = uint64(d.order.Uint32(body[4:]))<<32 | uint64(d.order.Uint32(body[8:]))
		rec.CapLen, rec.OrigLen = d.order.Uint32(body[12:]), d.order.Uint32(body[16:])
	}
	if number >= uint64(len(d.section)) || d.section[number].number == absent {
		d.odd[merge.OddInterface]++
		return
	}
	in := &d.section[number]
	if kind == blockSimple {
		rec.CapLen, rec.Time = min(rec.OrigLen, uint32(len(body)-head)), d.last // it has no time of its own
		if in.snaplen > 0 {
			rec.CapLen = min(rec.CapLen, in.snaplen)
		}
	} else {
		rec.Time = d.timeOf(in, ticks)
	}
	if odd, ok := in.fits(&rec, body[head:]); !ok {
		d.odd[odd]++
		return
	}
	if len(body) > maxPacket && d.source.report >= 0 { // those of ours may have grown
		d.odd[merge.OddTooLong]++
		return
	}
	d.countKept(in, &rec)
	d.last, d.timed = rec.Time, true
	rec.Off = uint32(d.start + 8 + head)
	d.assign(c, int(in.number))
	if end := head + int(rec.CapLen) + -int(rec.CapLen)&3; kind != blockSimple && end < len(body) {
		if options := d.optionsOf(body[end:], blockPacket); len(options) > 0 {
			c.options = append(c.options, packetOptions{record: len(c.b.Records), bytes: options})
		}
	}
	c.b.Records = append(c.b.Records, rec)
}

// timeOf is the time of a packet of in.
func (d *pcapngDecoder) timeOf(in *ngInterface, ticks uint64) int64 {
	t, ok := in.time(ticks)
	if !ok {
		d.odd[merge.OddTime]++
	}
	return t
}

// fits reports whether a packet can be taken, of which body and what follows it are there; if not, why.
func (in *ngInterface) fits(rec *merge.Record, body []byte) (merge.Odd, bool) {
	switch {
	case rec.CapLen > merge.MaxRecord:
		return merge.OddTooLong, false
	case int(rec.CapLen) > len(body):
		return merge.OddOverrun, false
	}
	return merge.OddUnfit, in.link.Fits(body[:rec.CapLen])
}

// countKept counts what makes no sense in a packet that is taken.
func (d *pcapngDecoder) countKept(in *ngInterface, rec *merge.Record) {
	if uint64(rec.Time) >= 1<<32*1e9 { // before 1970, too
		d.odd[merge.OddPcapTime]++
	}
	if rec.OrigLen < rec.CapLen {
		d.odd[merge.OddOriginal]++
	}
	if rec.CapLen > merge.Snaplen(in.snaplen) {
		d.odd[merge.OddSnaplen]++
	}
}
