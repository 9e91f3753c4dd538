package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/sshpcap/sshpcap/merge"
)

// IP protocols with ports.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// Protocols whose packets may hold the beginning of others, of which they tell something.
const (
	protocolICMP   = 1
	protocolICMPv6 = 58
)

// flow is the packets of one direction between two ends, as far as the outermost addresses go.
type flow struct {
	src, dst netip.Addr
	protocol byte
	cut      bool    // the ports are not in the packet
	mark     [4]byte // the ports, source first, or what else is the first in a packet of ESP
}

// protocolESP is that of IPsec, whose packets begin with a number for their direction.
const protocolESP = 50

// packetFlow is the flow that a packet belongs to.
func packetFlow(link merge.LinkType, packet []byte) (f flow, ok bool) {
	ip := networkLayer(link, packet)
	var rest []byte // none in a fragment that is not the first
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		f.src, f.dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		f.protocol = ip[9]
		if binary.BigEndian.Uint16(ip[6:])&0x1fff == 0 {
			rest = ip[min(int(ip[0]&15)*4, len(ip)):]
		}
	case len(ip) >= 40 && ip[0]>>4 == 6:
		f.src, f.dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		f.protocol, rest = ip[6], ip[40:]
	default:
		return flow{}, false
	}
	switch f.protocol {
	case protocolTCP, protocolUDP, protocolESP:
		if f.cut = len(rest) < 4; !f.cut {
			f.mark = [4]byte(rest)
		}
	}
	return f, true
}

// answers reports whether f is between the same hosts as another flow, in the other direction.
func (f flow) answers(other flow) bool {
	return f.src == other.dst && f.dst == other.src && f.protocol == other.protocol
}

// filter is one for the flow and its answers; "" where it has none. Of the ports it names the lower one, which is the
// service's: the other end has another one the next time.
func (f flow) filter() string {
	hosts := fmt.Sprintf("host %s and host %s", f.src, f.dst)
	name := map[byte]string{protocolTCP: "tcp", protocolUDP: "udp"}[f.protocol]
	switch {
	case f.protocol == protocolICMP || f.protocol == protocolICMPv6:
		return ""
	case name != "" && !f.cut:
		return fmt.Sprintf("(%s and %s and port %d)", name, hosts, min(binary.BigEndian.Uint16(f.mark[:]), binary.BigEndian.Uint16(f.mark[2:])))
	case f.src.Is6():
		return fmt.Sprintf("(ip6 proto %d and %s)", f.protocol, hosts)
	}
	return fmt.Sprintf("(ip proto %d and %s)", f.protocol, hosts)
}

// packetEnds is a filter for the packets between the two ends of a packet; "" where it has none.
func packetEnds(link merge.LinkType, packet []byte) string {
	f, ok := packetFlow(link, packet)
	if !ok || f.cut {
		return ""
	}
	return f.filter()
}

// networkLayer is what of a packet begins with its IP header; nil where there is none, or where it is not known.
func networkLayer(link merge.LinkType, packet []byte) []byte {
	header, kind := 0, -1 // bytes before it, and where the EtherType is in them
	switch link {
	case merge.LinkTypeEthernet:
		header, kind = 14, 12
	case merge.LinkTypeLinuxSLL:
		header, kind = 16, 14
	case merge.LinkTypeLinuxSLL2:
		header, kind = 20, 0
	case merge.LinkTypeNull, merge.LinkTypeLoop:
		header = 4
	case merge.LinkTypeRaw:
	default:
		return nil
	}
	for len(packet) >= header+4 && kind >= 0 {
		switch binary.BigEndian.Uint16(packet[kind:]) {
		case 0x8100, 0x88a8: // a VLAN tag, behind which is another type
			header += 4
			kind = header - 2
		case 0x0800, 0x86dd:
			return packet[header:]
		default:
			return nil
		}
	}
	if kind >= 0 || len(packet) < header {
		return nil
	}
	return packet[header:]
}
