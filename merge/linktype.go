package merge

import "strconv"

// LinkType is a LINKTYPE_ value, as in the header of a pcap file (https://www.tcpdump.org/linktypes.html).
type LinkType uint16

// The link types that captures on hosts mostly have.
const (
	LinkTypeNull      LinkType = 0
	LinkTypeEthernet  LinkType = 1
	LinkTypeRaw       LinkType = 101
	LinkTypeLoop      LinkType = 108
	LinkTypeLinuxSLL  LinkType = 113
	LinkTypeLinuxSLL2 LinkType = 276
)

// String gives the name that tcpdump uses ("EN10MB"), or "LINKTYPE_n" for one that is not known here.
func (t LinkType) String() string {
	if name, ok := linkTypeNames[t]; ok {
		return name
	}
	return "LINKTYPE_" + strconv.Itoa(int(t))
}

var linkTypeNames = map[LinkType]string{
	0:   "NULL",
	1:   "EN10MB",
	3:   "AX25",
	6:   "IEEE802",
	7:   "ARCNET",
	8:   "SLIP",
	9:   "PPP",
	10:  "FDDI",
	50:  "PPP_SERIAL",
	51:  "PPP_ETHER",
	100: "ATM_RFC1483",
	101: "RAW",
	104: "C_HDLC",
	105: "IEEE802_11",
	107: "FRELAY",
	108: "LOOP",
	113: "LINUX_SLL",
	114: "LTALK",
	117: "PFLOG",
	119: "PRISM_HEADER",
	122: "IP_OVER_FC",
	127: "IEEE802_11_RADIO",
	129: "ARCNET_LINUX",
	138: "APPLE_IP_OVER_IEEE1394",
	139: "MTP2_WITH_PHDR",
	140: "MTP2",
	141: "MTP3",
	142: "SCCP",
	143: "DOCSIS",
	144: "LINUX_IRDA",
	163: "IEEE802_11_RADIO_AVS",
	166: "PPP_PPPD",
	177: "LINUX_LAPD",
	187: "BLUETOOTH_HCI_H4",
	189: "USB_LINUX",
	192: "PPI",
	195: "IEEE802_15_4_WITHFCS",
	197: "ERF",
	201: "BLUETOOTH_HCI_H4_WITH_PHDR",
	204: "PPP_WITH_DIR",
	205: "C_HDLC_WITH_DIR",
	206: "FRELAY_WITH_DIR",
	220: "USB_LINUX_MMAPPED",
	226: "IPNET",
	227: "CAN_SOCKETCAN",
	228: "IPV4",
	229: "IPV6",
	230: "IEEE802_15_4_NOFCS",
	231: "DBUS",
	239: "NFLOG",
	242: "IPOIB",
	243: "MPEG_2_TS",
	247: "INFINIBAND",
	248: "SCTP",
	249: "USBPCAP",
	251: "BLUETOOTH_LE_LL",
	252: "WIRESHARK_UPPER_PDU",
	253: "NETLINK",
	254: "BLUETOOTH_LINUX_MONITOR",
	256: "BLUETOOTH_LE_LL_WITH_PHDR",
	258: "PKTAP",
	267: "OPENFLOW",
	271: "VSOCK",
	274: "ETHERNET_MPACKET",
	276: "LINUX_SLL2",
}

// Fits reports whether a packet can be one of this link type as far as Wireshark looks while it reads a file: at one that
// lacks the pseudo-header of its link type it gives up the whole file, with all packets behind, of whomever they are.
// (wiretap/pcap-common.c of Wireshark, pcap_process_pseudo_header.)
func (t LinkType) Fits(packet []byte) bool {
	switch t {
	case linkTypeERF:
		return len(packet) >= erfHeader(packet)
	case linkTypeIrDA:
		return len(packet) >= sllHeader && packet[14] == 0 && packet[15] == 0x17
	case linkTypeLAPD:
		return len(packet) >= sllHeader && packet[14] == 0 && packet[15] == 0x30
	}
	return len(packet) >= t.pseudoHeader()
}

const (
	linkTypeIrDA LinkType = 144
	linkTypeLAPD LinkType = 177
	linkTypeERF  LinkType = 197

	sllHeader = 16 // its last two bytes are the protocol
)

// pseudoHeader is how long that of a link type is, where it has one length.
func (t LinkType) pseudoHeader() int {
	switch t {
	case 123, // SUNATM
		139, // MTP2_WITH_PHDR
		201, // BLUETOOTH_HCI_H4_WITH_PHDR
		254: // BLUETOOTH_LINUX_MONITOR
		return 4
	case 196, 209: // SITA, I2C_LINUX
		return 5
	case 204: // PPP_WITH_DIR
		return 1
	case 245: // NFC_LLCP
		return 2
	}
	return 0
}

// picky reports whether not every packet fits.
func (t LinkType) picky() bool {
	return t.pseudoHeader() > 0 || t == linkTypeERF || t == linkTypeIrDA || t == linkTypeLAPD
}

// erfHeader is how long the header of an ERF record claims to be: 16 bytes, extensions of 8 as long as the highest bit of
// the one before is set, and up to 4 that hang on the type.
func erfHeader(packet []byte) int {
	const fixed, extension, most = 16, 8, 4
	n := fixed
	for at := 8; at < len(packet) && packet[at]&0x80 != 0; at = n - extension {
		n += extension
	}
	return n + most
}
