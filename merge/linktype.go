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
