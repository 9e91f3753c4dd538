package files

import (
	"encoding/binary"
	"slices"

	"github.com/sshpcap/sshpcap/merge"
)

// eachOption gives each option of a list, up to its end or to where it makes no sense.
func (d *pcapngDecoder) eachOption(list []byte, each func(code uint16, value []byte)) {
	for len(list) >= 4 {
		code, n := d.order.Uint16(list), int(d.order.Uint16(list[2:]))
		padded := n + -n&3
		if code == 0 {
			return
		}
		if len(list) < 4+padded {
			d.odd[merge.OddOption]++
			return
		}
		each(code, list[4:4+n])
		list = list[4+padded:]
	}
}

// optionsOf returns a list of options little-endian, without its end. It shares no memory with list.
func (d *pcapngDecoder) optionsOf(list []byte, kind uint32) (to []byte) {
	d.eachOption(list, func(code uint16, value []byte) { to = d.appendOption(to, kind, code, value) })
	return to
}

func appendOption(to []byte, code uint16, value []byte) []byte {
	to = binary.LittleEndian.AppendUint16(to, code)
	to = binary.LittleEndian.AppendUint16(to, uint16(len(value)))
	to = append(to, value...)
	return append(to, make([]byte, -len(value)&3)...)
}

// appendOption appends an option, with the numbers in it little-endian.
func (d *pcapngDecoder) appendOption(to []byte, kind uint32, code uint16, value []byte) []byte {
	if !makesSense(kind, code, value) {
		d.odd[merge.OddOption]++
		return to
	}
	if customNoCopy(code) {
		d.notes.add("custom option", leftOutNoCopy, 1)
		return to
	}
	if !d.swap {
		return appendOption(to, code, value)
	}
	value = slices.Clone(value)
	if size := numbers(kind, code); size > 0 {
		for i := 0; i+size <= len(value); i += size {
			slices.Reverse(value[i : i+size])
		}
	} else if custom(code) && len(value) >= 4 { // begins with a private enterprise number
		slices.Reverse(value[:4])
	}
	return appendOption(to, code, value)
}

// makesSense reports whether an option's value has a size that it can have. With others Wireshark gives up the whole file,
// with all packets behind (wiretap/pcapng.c).
func makesSense(kind uint32, code uint16, value []byte) bool {
	n := len(value)
	switch {
	case custom(code):
		return n >= 4
	case kind == blockInterface && code == 11: // if_filter, behind a code of its kind
		return n >= 1
	case kind != blockPacket:
		return true
	}
	switch code {
	case 2, 6: // epb_flags, epb_queue
		return n == 4
	case 4, 5: // epb_dropcount, epb_packetid
		return n == 8
	case 7: // epb_verdict: of an eBPF program, of either kind, it has 64 bits
		return n >= 1 && (value[0] != 1 && value[0] != 2 || n == 9)
	case 3: // epb_hash, behind its algorithm
		return n >= 1
	}
	return true
}

// numbers is the size of the numbers that an option's value is made of; 0 = it is bytes or text.
func numbers(kind uint32, code uint16) int {
	switch {
	case kind == blockInterface && code == 10: // if_tzone
		return 4
	case kind == blockInterface && (code == 8 || code == 16 || code == 17): // if_speed, if_txspeed, if_rxspeed
		return 8
	case kind == blockPacket && (code == 2 || code == 6 || code == 8): // epb_flags, epb_queue, epb_processid_threadid
		return 4
	case kind == blockPacket && (code == 4 || code == 5): // epb_dropcount, epb_packetid
		return 8
	case kind == blockStatistics && code >= 4 && code <= 8: // counts
		return 8
	}
	return 0
}

// names returns a name resolution block's body little-endian: records, the one that ends them, options.
func (d *pcapngDecoder) names(body []byte) []byte {
	var to []byte
	rest := body
	for len(rest) >= 4 {
		kind, n := d.order.Uint16(rest), int(d.order.Uint16(rest[2:]))
		padded := n + -n&3
		if kind == 0 {
			break
		}
		if len(rest) < 4+padded {
			d.odd[merge.OddName]++
			rest = nil
			break
		}
		if isName(kind, rest[4:4+n]) {
			to = appendOption(to, kind, rest[4:4+n])
		} else {
			d.odd[merge.OddName]++
		}
		rest = rest[4+padded:]
	}
	to = append(to, 0, 0, 0, 0)
	if len(rest) > 4 {
		to = ended(append(to, d.optionsOf(rest[4:], blockNames)...), len(to))
	}
	return to
}

// isName reports whether a record of names makes sense: an address, and names that are ended by a zero byte. With others
// Wireshark gives up the whole file, as with options.
func isName(kind uint16, value []byte) bool {
	const ipv4, ipv6 = 1, 2
	size := 0
	switch kind {
	case ipv4:
		size = 4
	case ipv6:
		size = 16
	default:
		return true
	}
	return len(value) == size || len(value) > size && value[len(value)-1] == 0
}
