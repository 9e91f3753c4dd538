package merge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// The magic numbers of draft-ietf-opsawg-pcap, section 4, and of what is often mistaken for it.
const (
	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34 // Kuznetzov's: longer record headers
)

// le is the byte order of all that is written.
var le = binary.LittleEndian

var pcapngMagic = []byte{0x0a, 0x0d, 0x0d, 0x0a}

// checkMagic returns a *FormatError if a stream that begins with head cannot be pcap. A part of a magic number will do
// as long as it fits one.
func checkMagic(head []byte) error {
	start := head[:min(len(head), 4)]
	for _, magic := range []uint32{magicMicro, magicNano} {
		if bytes.HasPrefix(binary.BigEndian.AppendUint32(nil, magic), start) ||
			bytes.HasPrefix(le.AppendUint32(nil, magic), start) {
			return nil
		}
	}
	return &FormatError{Reason: mistaken(start), Head: slices.Clone(head[:min(len(head), maxHead)])}
}

// mistaken says what a stream with a wrong magic number is.
func mistaken(start []byte) string {
	if bytes.HasPrefix(pcapngMagic, start) {
		return "it is pcapng"
	}
	if len(start) == 4 && (binary.BigEndian.Uint32(start) == magicModified || le.Uint32(start) == magicModified) {
		return "it is the modified pcap of old Linux tools"
	}
	return "its magic number is wrong"
}

// parseHeader reads the stream's header, which is all there and has a good magic number.
func (r *Reader) parseHeader(head []byte) (Header, error) {
	var order binary.ByteOrder = le
	if head[0] == magicMicro>>24 {
		order, r.big = binary.BigEndian, true
	}
	r.nano = order.Uint32(head) == magicNano
	if major, minor := order.Uint16(head[4:]), order.Uint16(head[6:]); major != 2 || minor != 4 {
		return Header{}, r.fail(&FormatError{
			Offset: 4,
			Reason: fmt.Sprintf("version %d.%d is not 2.4", major, minor),
			Head:   slices.Clone(head[:min(len(head), maxHead)]),
		})
	}
	h := Header{
		// The upper half has the length of the frame check sequence and reserved bits.
		LinkType: LinkType(order.Uint32(head[20:]) & 0xffff),
		Snaplen:  order.Uint32(head[16:]),
		Nano:     r.nano,
	}
	r.link, r.picky = h.LinkType, h.LinkType.picky()
	r.start += fileHeader
	r.off += fileHeader
	r.need = recordHeader
	return h, nil
}

// appendHeader appends the header of a pcap file, little-endian.
func appendHeader(p []byte, h Header) []byte {
	magic := uint32(magicMicro)
	if h.Nano {
		magic = magicNano
	}
	p = le.AppendUint32(p, magic)
	p = le.AppendUint16(p, 2)
	p = le.AppendUint16(p, 4)
	p = append(p, make([]byte, 8)...)
	p = le.AppendUint32(p, h.Snaplen)
	return le.AppendUint32(p, uint32(h.LinkType))
}
