package merge

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
)

// NewRawPcapng is as NewPcapng, but for options of another section that stand in this one: little-endian, without the one
// that ends them. Of s goes into the file what these do not say: an option of theirs goes before one of s.
func NewRawPcapng(w io.Writer, s Section, options []byte) *Pcapng {
	for rest := options; len(rest) >= 4; {
		size := int(le.Uint16(rest[2:]))
		value := rest[4:][:size]
		switch le.Uint16(rest) {
		case sectionHardware:
			s.Hardware = ""
		case sectionOS:
			s.OS = ""
		case sectionApplication:
			s.Application = ""
		case optionComment:
			if string(value) == s.Comment {
				s.Comment = ""
			}
		}
		rest = rest[4+size+padding(size):]
	}
	b := sectionBlock(s)
	b = append(b[:len(b)-4], options...) // in place of the end of options
	p := &Pcapng{out: newOutput(w, pcapngUnit)}
	_ = p.put(b.option(optionEnd, nil)) // is written now only if it is long, and then errors come again
	return p
}

// JournalTime returns when an entry of systemd's journal was made, ns since the epoch, as its export format has it: lines
// KEY=value, and for values that are no text KEY, a line's end, the length in 64 bits, the value and a line's end.
func JournalTime(entry []byte) (t int64, ok bool) {
	const key = "__REALTIME_TIMESTAMP="
	for len(entry) > 0 {
		line, rest, _ := bytes.Cut(entry, []byte("\n"))
		if value, found := bytes.CutPrefix(line, []byte(key)); found {
			us, err := strconv.ParseInt(string(bytes.TrimRight(value, "\x00")), 10, 64)
			return us * 1000, err == nil && us >= 0 && us <= math.MaxInt64/1000
		}
		if !bytes.Contains(line, []byte("=")) && len(line) > 0 && len(rest) >= 8 {
			size := le.Uint64(rest)
			if size > uint64(len(rest)-8) {
				return 0, false
			}
			rest = bytes.TrimPrefix(rest[8+size:], []byte("\n"))
		}
		entry = rest
	}
	return 0, false
}

// AppendInterface appends the block of an interface whose options stand in the file as they are given: little-endian,
// without those of resolution and time offset, which follow from i.Nano, and without the one that ends them. Of i only
// the link type, the snaplen, Nano and Offset are looked at.
func AppendInterface(to []byte, i Interface, options []byte) []byte {
	at := len(to)
	to = le.AppendUint32(to, blockInterface)
	to = le.AppendUint32(to, 0) // the length, for now
	to = le.AppendUint16(to, uint16(i.LinkType))
	to = le.AppendUint16(to, 0)
	to = le.AppendUint32(to, Snaplen(i.Snaplen))
	to = append(to, options...)
	resolution := byte(6)
	if i.Nano {
		resolution = 9
	}
	to = block(to).option(interfaceResolution, []byte{resolution}).offset(i.Offset).option(optionEnd, nil)
	return endBlock(to, at)
}

// InterfaceSize is how many bytes AppendInterface appends with options of so many, at most.
func InterfaceSize(options int) int { return blockHead + 8 + options + 8 + 12 + endOfOptions + 4 }

// AppendBlock appends a block of a type that is nothing to this package: little-endian, its body padded to 32 bits.
func AppendBlock(to []byte, kind uint32, body []byte) []byte {
	at := len(to)
	to = le.AppendUint32(le.AppendUint32(to, kind), 0)
	return endBlock(append(to, body...), at)
}

// BlockSize is how many bytes AppendBlock appends with a body of so many.
func BlockSize(body int) int { return blockHead + body + 4 }

const blockHead = 8 // type and length

func endBlock(to []byte, at int) []byte {
	size := uint32(len(to) - at + 4)
	le.PutUint32(to[at+4:], size)
	return le.AppendUint32(to, size)
}

// AddInterfaces adds interfaces whose blocks AppendInterface made, one for each of nano. They stay the
// caller's. Of one with an Offset SetOffset must be told.
func (p *Pcapng) AddInterfaces(blocks []byte, nano ...bool) error {
	if err := p.WriteBlocks(blocks); err != nil {
		return err
	}
	p.interfaces = append(p.interfaces, nano...)
	return nil
}

// WriteBlocks writes blocks that AppendBlock made. They stay the caller's.
func (p *Pcapng) WriteBlocks(blocks []byte) error { return p.out.put(blocks, 0) }

// AppendWithOptions appends to p one record of b as AppendRun does, with options that are as those of AppendInterface:
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

// AppendComment appends a comment to options that are as those of AppendInterface.
func AppendComment(options []byte, comment string) []byte {
	return block(options).text(optionComment, comment)
}

// AppendText appends an option of text.
func AppendText(options []byte, code uint16, text string) []byte {
	return block(options).text(code, text)
}
