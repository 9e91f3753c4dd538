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

// AppendWithOptions appends to p one record of b as AppendRun does, with options that are as those of AddRawInterface:
// padded, which is the caller's business.
func (p *Pcapng) AppendWithOptions(to []byte, iface int, b *Batch, r Record, options []byte) []byte {
	if len(options)&3 != 0 {
		panic(fmt.Sprintf("merge: options of %d bytes are not padded", len(options)))
	}
	to, room := grow(to, PcapngSize(r.CapLen, len(options)))
	p.putPacket(room, iface, b, &r)
	data := room[packetHead+int(r.CapLen):]
	clear(data[:padding(int(r.CapLen))])
	data = data[padding(int(r.CapLen)):]
	data = data[copy(data, options):]
	clear(data[:len(data)-packetTail]) // the end of options
	return to
}

// AppendComment appends a comment to options that are as those of AddRawInterface.
func AppendComment(options []byte, comment string) []byte {
	return block(options).text(optionComment, comment)
}

// AppendText appends an option of text.
func AppendText(options []byte, code uint16, text string) []byte {
	return block(options).text(code, text)
}
