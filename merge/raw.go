package merge

import "fmt"

// AddRawInterface adds an interface whose options stand in the file as they are given: little-endian, without those of
// resolution and time offset, which follow from nano, and without the one that ends them. It returns its number.
func (p *Pcapng) AddRawInterface(i Interface, options []byte) (int, error) {
	b := newBlock(blockInterface)
	b = le.AppendUint16(b, uint16(i.LinkType))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, min(i.Snaplen, MaxRecord))
	b = append(b, options...)
	resolution := byte(6)
	if i.Nano {
		resolution = 9
	}
	if err := p.put(b.option(interfaceResolution, []byte{resolution}).option(optionEnd, nil)); err != nil {
		return 0, err
	}
	p.interfaces = append(p.interfaces, i.Nano)
	return len(p.interfaces) - 1, nil
}

// WriteBlock writes a block of a type that has no method of its own here: little-endian, padded to 32 bits.
func (p *Pcapng) WriteBlock(kind uint32, body []byte) error {
	return p.put(append(newBlock(kind), body...))
}

// WriteWithOptions writes one record of b as WriteRun does, with options that are as those of AddRawInterface.
func (p *Pcapng) WriteWithOptions(iface int, b *Batch, r Record, options []byte) (int, error) {
	if err := p.check(iface); err != nil {
		return 0, err
	}
	if len(options)&3 != 0 {
		return 0, fmt.Errorf("merge: options of %d bytes are not padded", len(options))
	}
	room, err := p.out.next(optionedSize(&r, options))
	if err == nil {
		p.putWithOptions(room, iface, b, &r, options)
		p.out.pending++
	}
	return p.out.endRun(1)
}

// optionedSize is how many bytes a packet's block with options has.
func optionedSize(r *Record, options []byte) int {
	return packetSize(r.CapLen) + len(options) + endSize(options)
}

// endSize is that of the option which ends the others.
func endSize(options []byte) int {
	if len(options) == 0 {
		return 0
	}
	return 4
}

func (p *Pcapng) putWithOptions(room []byte, iface int, b *Batch, r *Record, options []byte) {
	putPacket(room, iface, r, uint64(max(r.Time, 0))/ticksPer(p.interfaces[iface]))
	data := room[packetHead:]
	n := copy(data, b.Packet(*r))
	clear(data[n : n+padding(n)])
	n += padding(n)
	n += copy(data[n:], options)
	clear(data[n : n+endSize(options)])
}

// AppendComment appends a comment to options that are as those of AddRawInterface.
func AppendComment(options []byte, comment string) []byte {
	return block(options).text(optionComment, comment)
}

// AppendText appends an option of text.
func AppendText(options []byte, code uint16, text string) []byte {
	return block(options).text(code, text)
}
