package merge

import "slices"

// AppendRun appends to p what WriteRun would write of the records, and returns it. It leaves the Pcap as it is, so that
// several goroutines may frame packets at the same time; WriteFramed writes what they made.
func (p *Pcap) AppendRun(to []byte, b *Batch, recs []Record) []byte {
	if len(recs) == 1 && b.headers == p.headers { // as most are where many streams are merged
		r := &recs[0]
		return append(to, b.Data[r.Off-recordHeader:r.Off+r.CapLen]...)
	}
	if b.headers != p.headers {
		for i := range recs {
			var room []byte
			to, room = grow(to, PcapSize(recs[i].CapLen))
			p.putRecord(room, b, recs[i])
		}
		return to
	}
	for len(recs) > 0 {
		start, end, n := stretch(recs)
		to = append(to, b.Data[start:end]...)
		recs = recs[n:]
	}
	return to
}

// WriteFramed writes bytes that AppendRun made, of as many packets. They stay the caller's.
func (p *Pcap) WriteFramed(framed []byte, packets int) error {
	return p.out.putRun(framed, packets)
}

// AppendRun appends to p what WriteRun would write of the records, and returns it. It leaves the Pcapng as it is, so
// that several goroutines may frame packets at the same time; WriteFramed writes what they made. The interface must
// have been added.
func (p *Pcapng) AppendRun(to []byte, iface int, b *Batch, recs []Record) []byte {
	for i := range recs {
		var room []byte
		to, room = grow(to, packetSize(recs[i].CapLen))
		p.putPacket(room, iface, b, &recs[i])
	}
	return to
}

// WriteFramed writes bytes that AppendRun and AppendWithOptions made, of as many packets. They stay the caller's.
func (p *Pcapng) WriteFramed(framed []byte, packets int) error {
	return p.out.putRun(framed, packets)
}

// PcapSize is how many bytes of a pcap file a record with so many captured bytes takes.
func PcapSize(captured uint32) int { return recordHeader + int(captured) }

// PutRun puts what WriteRun would write of each of the records into room, where PcapSize bytes from the record's place
// on are for it. For the rest it is as AppendRun.
func (p *Pcap) PutRun(room []byte, places []uint32, b *Batch, recs []Record) {
	places = places[:len(recs)]
	if b.headers == p.headers {
		for i := range recs {
			r := &recs[i]
			copy(room[places[i]:], b.Data[r.Off-recordHeader:r.Off+r.CapLen])
		}
		return
	}
	for i := range recs {
		p.putRecord(room[places[i]:][:PcapSize(recs[i].CapLen)], b, recs[i])
	}
}

// PcapngSize is how many bytes of a pcapng file a record with so many captured bytes takes, with options of so many.
func PcapngSize(captured uint32, options int) int {
	if options > 0 {
		options += endOfOptions
	}
	return packetSize(captured) + options
}

// PutRun puts what WriteRun would write of each of the records into room, where PcapngSize bytes from the record's place
// on are for it. For the rest it is as AppendRun.
func (p *Pcapng) PutRun(room []byte, places []uint32, iface int, b *Batch, recs []Record) {
	places = places[:len(recs)]
	for i := range recs {
		p.putPacket(room[places[i]:][:packetSize(recs[i].CapLen)], iface, b, &recs[i])
	}
}

// grow makes p longer by n bytes, and returns these, too.
func grow(p []byte, n int) (all, room []byte) {
	at := len(p)
	if cap(p)-at < n {
		p = slices.Grow(p, n)
	}
	p = p[:at+n]
	return p, p[at:]
}
