package merge

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Blocks, options and records of draft-ietf-opsawg-pcapng, by the draft's sections.
const (
	blockSection    = 0x0a0d0d0a // 4.1
	blockInterface  = 1          // 4.2
	blockPacket     = 6          // 4.3
	blockNames      = 4          // 4.5
	blockStatistics = 5          // 4.6
	blockJournal    = 9          // 4.9

	optionEnd     = 0 // 3.5
	optionComment = 1 // 3.5

	sectionHardware    = 2
	sectionOS          = 3
	sectionApplication = 4

	interfaceName        = 2
	interfaceDescription = 3
	interfaceResolution  = 9
	interfaceFilter      = 11
	interfaceOS          = 12
	interfaceOffset      = 14

	statisticsStart          = 2
	statisticsEnd            = 3
	statisticsReceived       = 4
	statisticsDropped        = 5
	statisticsFilterAccepted = 6
	statisticsOSDropped      = 7
	statisticsDelivered      = 8

	nameRecordEnd = 0
	nameIPv4      = 1
	nameIPv6      = 2
)

const (
	byteOrderMagic = 0x1a2b3c4d
	maxOption      = 65535   // the length of an option has 16 bits
	maxNames       = 1 << 20 // bytes of a name block after which another is begun
)

// block is a block in the making: its type, room for its length, and what follows.
type block []byte

func newBlock(kind uint32) block {
	b := le.AppendUint32(make([]byte, 0, 256), kind)
	return le.AppendUint32(b, 0)
}

// end completes the block with its length at both ends.
func (b block) end() []byte {
	size := uint32(len(b) + 4)
	le.PutUint32(b[4:], size)
	return le.AppendUint32(b, size)
}

// option appends an option, or anything else of a type and a length, padded to 32 bits.
func (b block) option(code uint16, value []byte) block {
	b = le.AppendUint16(b, code)
	b = le.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, make([]byte, padding(len(value)))...)
}

func padding(n int) int { return -n & 3 }

// text appends an option of UTF-8 text, cut to what an option can hold.
func (b block) text(code uint16, s string) block {
	if s == "" {
		return b
	}
	return b.option(code, []byte(cut(s, maxOption)))
}

// cut returns at most n bytes of s, whole characters and valid ones.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (b block) count(code uint16, n *uint64) block {
	if n == nil {
		return b
	}
	return b.option(code, le.AppendUint64(nil, *n))
}

func (b block) time(code uint16, t time.Time, nano bool) block {
	if t.IsZero() {
		return b
	}
	return b.option(code, appendTime(nil, t, nano))
}

// offset appends what an interface's timestamps begin from.
func (b block) offset(seconds int64) block {
	if seconds == 0 {
		return b
	}
	return b.option(interfaceOffset, le.AppendUint64(nil, uint64(seconds)))
}

// ticksPer returns the nanoseconds of a unit of an interface's timestamps.
func ticksPer(nano bool) uint64 {
	if nano {
		return 1
	}
	return uint64(time.Microsecond)
}

// appendTime appends a timestamp: the upper 32 bits first, in either byte order. What is before 1970 becomes 1970.
func appendTime(p []byte, t time.Time, nano bool) []byte {
	var ticks uint64
	if sec := t.Unix(); sec >= 0 {
		ticks = (uint64(sec)*uint64(time.Second) + uint64(t.Nanosecond())) / ticksPer(nano)
	}
	p = le.AppendUint32(p, uint32(ticks>>32))
	return le.AppendUint32(p, uint32(ticks))
}

func sectionBlock(s Section) block {
	b := newBlock(blockSection)
	b = le.AppendUint32(b, byteOrderMagic)
	b = le.AppendUint16(b, 1) // version 1.0
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, ^uint64(0)) // of unknown length
	return b.
		text(sectionHardware, s.Hardware).
		text(sectionOS, s.OS).
		text(sectionApplication, s.Application).
		text(optionComment, s.Comment).
		option(optionEnd, nil)
}

func interfaceBlock(i Interface) block {
	b := newBlock(blockInterface)
	b = le.AppendUint16(b, uint16(i.LinkType))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, Snaplen(i.Snaplen))
	b = b.text(interfaceName, i.Name).text(interfaceDescription, i.Description)
	if i.Filter != "" { // behind a code for its kind: 0 for text
		b = b.option(interfaceFilter, append([]byte{0}, cut(i.Filter, maxOption-1)...))
	}
	resolution := byte(6)
	if i.Nano {
		resolution = 9
	}
	return b.
		text(interfaceOS, i.OS).
		option(interfaceResolution, []byte{resolution}).
		offset(i.Offset).
		text(optionComment, i.Comment).
		option(optionEnd, nil)
}

func statisticsBlock(iface int, s Statistics, nano bool) block {
	b := newBlock(blockStatistics)
	b = le.AppendUint32(b, uint32(iface))
	b = appendTime(b, s.Time, nano)
	return b.
		time(statisticsStart, s.Start, nano).
		time(statisticsEnd, s.End, nano).
		count(statisticsReceived, s.Received).
		count(statisticsDropped, s.Dropped).
		count(statisticsFilterAccepted, s.FilterAccepted).
		count(statisticsOSDropped, s.OSDropped).
		count(statisticsDelivered, s.Delivered).
		option(optionEnd, nil)
}

// name appends the record of an address: its bytes and its names, each ended by a zero byte. As many names as fit.
func (b block) name(n Name) block {
	addr := n.Addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return b
	}
	value := addr.AsSlice()
	bare := len(value)
	for _, name := range n.Names {
		name, _, _ = strings.Cut(cut(name, maxOption), "\x00")
		if name != "" && len(value)+len(name) < maxOption {
			value = append(append(value, name...), 0)
		}
	}
	if len(value) == bare {
		return b
	}
	return b.option(nameKind(addr), value)
}

func nameKind(a netip.Addr) uint16 {
	if a.Is4() {
		return nameIPv4
	}
	return nameIPv6
}

// Around a packet: type, length, interface, time in two halves, captured and original length; and the length again.
const (
	packetHead   = 28
	packetTail   = 4
	endOfOptions = 4 // behind them, if there are any
)

func packetSize(captured uint32) int {
	return packetHead + int(captured) + padding(int(captured)) + packetTail
}

// putPacket writes all of a packet's block but the packet.
func putPacket(p []byte, iface int, r *Record, ticks uint64) {
	le.PutUint32(p[len(p)-8:], 0) // the padding; what else is there is written over
	le.PutUint32(p, blockPacket)
	le.PutUint32(p[4:], uint32(len(p)))
	le.PutUint32(p[8:], uint32(iface))
	le.PutUint32(p[12:], uint32(ticks>>32))
	le.PutUint32(p[16:], uint32(ticks))
	le.PutUint32(p[20:], r.CapLen)
	le.PutUint32(p[24:], r.OrigLen)
	le.PutUint32(p[len(p)-4:], uint32(len(p)))
}

// packetBlock is a packet with a comment.
func packetBlock(iface int, r Record, ticks uint64, data []byte, comment string) block {
	b := newBlock(blockPacket)
	b = le.AppendUint32(b, uint32(iface))
	b = le.AppendUint32(b, uint32(ticks>>32))
	b = le.AppendUint32(b, uint32(ticks))
	b = le.AppendUint32(b, r.CapLen)
	b = le.AppendUint32(b, r.OrigLen)
	b = append(b, data...)
	b = append(b, make([]byte, padding(len(data)))...)
	return b.text(optionComment, comment).option(optionEnd, nil)
}
