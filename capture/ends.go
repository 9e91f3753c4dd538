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

// packetEnds is a filter for the packets between the two ends of a packet, as far as the outermost addresses go; "" where
// it has none. Of the ports it names the lower one, which is the service's: the other end has another one the next time.
func packetEnds(link merge.LinkType, packet []byte) string {
	ip := networkLayer(link, packet)
	if len(ip) < 40 {
		return ""
	}
	var src, dst netip.Addr
	var protocol byte
	var rest []byte
	switch ip[0] >> 4 {
	case 4:
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		protocol, rest = ip[9], ip[min(int(ip[0]&15)*4, len(ip)):]
	case 6:
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		protocol, rest = ip[6], ip[40:]
	default:
		return ""
	}
	hosts := fmt.Sprintf("host %s and host %s", src, dst)
	name := map[byte]string{protocolTCP: "tcp", protocolUDP: "udp"}[protocol]
	switch {
	case protocol == protocolICMP || protocol == protocolICMPv6:
		return ""
	case name != "" && len(rest) >= 4:
		return fmt.Sprintf("(%s and %s and port %d)", name, hosts, min(binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])))
	case ip[0]>>4 == 6:
		return fmt.Sprintf("(ip6 proto %d and %s)", protocol, hosts)
	}
	return fmt.Sprintf("(ip proto %d and %s)", protocol, hosts)
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
