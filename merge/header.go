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

// checkMagic returns a *FormatError if a stream that begins with head cannot be pcap.
func checkMagic(head []byte) error {
	if IsPcap(head) {
		return nil
	}
	head = head[:min(len(head), maxHead)]
	return &FormatError{Reason: mistaken(head), Head: slices.Clone(head)}
}

// IsPcap reports whether what begins with head can be pcap. A part of a magic number will do as long as it fits one.
func IsPcap(head []byte) bool {
	start := head[:min(len(head), 4)]
	for _, magic := range []uint32{magicMicro, magicNano, magicModified} {
		if bytes.HasPrefix(binary.BigEndian.AppendUint32(nil, magic), start) ||
			bytes.HasPrefix(le.AppendUint32(nil, magic), start) {
			return true
		}
	}
	return false
}

// mistaken says what a stream with a wrong magic number is. A text speaks for itself.
func mistaken(head []byte) string {
	if what := identifyBinary(head); what != "" && len(head) >= 4 {
		return "it is " + what
	}
	return "its magic number is wrong"
}

// parseHeader reads the stream's header, which is all there and has a good magic number.
func (r *Reader) parseHeader(head []byte) (Header, error) {
	var order binary.ByteOrder = le
	if head[0] == magicMicro>>24 {
		order, r.big = binary.BigEndian, true
	}
	magic := order.Uint32(head)
	r.nano, r.head = magic == magicNano, recordHeader
	if magic == magicModified {
		r.head = modifiedHeader
	}
	if err := r.setVersion(order.Uint16(head[4:]), order.Uint16(head[6:])); err != nil {
		return Header{}, r.fail(&FormatError{Offset: 4, Reason: err.Error(), Head: slices.Clone(head[:min(len(head), maxHead)])})
	}
	h := Header{
		// The upper half has the length of the frame check sequence and reserved bits.
		LinkType: LinkType(order.Uint32(head[20:]) & 0xffff),
		Snaplen:  order.Uint32(head[16:]),
		Nano:     r.nano,
	}
	r.link, r.picky, r.limit = h.LinkType, h.LinkType.picky(), Snaplen(h.Snaplen)
	r.plain = !r.big && !r.picky && !r.swapped && !r.unsure && r.head == recordHeader
	r.start += fileHeader
	r.off += fileHeader
	r.need = r.head
	return h, nil
}

// setVersion says how lengths stand in records: those of before 2.3 have the original one first, and those of 2.3 in
// either order, as those of DG/UX do, whose version is 543.0 (libpcap, sf-pcap.c).
func (r *Reader) setVersion(major, minor uint16) error {
	dgux := major == 543 && minor == 0
	if !dgux && (major != 2 || minor > 4) {
		return fmt.Errorf("version %d.%d is none of pcap's that are known, 2.0 to 2.4", major, minor)
	}
	r.swapped, r.unsure = dgux || minor < 3, minor == 3
	return nil
}

// wholePackets is the least snapshot length that means whole packets: 65535 in older programs, MaxRecord in newer ones,
// and 0 and what is larger in others.
const wholePackets = 65535

// Snaplen is what is written of a snapshot length: MaxRecord if it means whole packets, since tcpdump reads no pcapng
// whose interfaces differ in it. No packet that is taken is longer than that.
func Snaplen(claimed uint32) uint32 {
	if claimed == 0 || claimed >= wholePackets {
		return MaxRecord
	}
	return claimed
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
