package capture

import (
	"testing"

	"github.com/sshpcap/sshpcap/merge"
)

func TestPacketEnds(t *testing.T) {
	t.Parallel()
	ip4 := func(protocol byte, rest ...byte) []byte {
		return append([]byte{0x45, 0, 0, 60, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 9}, append(rest, make([]byte, 20)...)...)
	}
	ip6 := append([]byte{0x60, 0, 0, 0, 0, 20, 17, 64, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9},
		0x12, 0xb5, 0x13, 0, 0, 20, 0, 0)
	ssh := ip4(6, 0x01, 0xbb, 0xc3, 0x50)
	ethernet := func(kind ...byte) []byte { return append(make([]byte, 12), kind...) }
	for _, test := range []struct {
		link   merge.LinkType
		header []byte
		ip     []byte
		want   string
	}{
		{merge.LinkTypeEthernet, ethernet(8, 0), ssh, "(tcp and host 10.0.0.2 and host 10.0.0.9 and port 443)"},
		{merge.LinkTypeEthernet, ethernet(0x81, 0, 0, 7, 8, 0), ssh, "(tcp and host 10.0.0.2 and host 10.0.0.9 and port 443)"},
		{merge.LinkTypeLinuxSLL2, append([]byte{8, 0}, make([]byte, 18)...), ssh, "(tcp and host 10.0.0.2 and host 10.0.0.9 and port 443)"},
		{merge.LinkTypeLinuxSLL, append(make([]byte, 14), 8, 0), ssh, "(tcp and host 10.0.0.2 and host 10.0.0.9 and port 443)"},
		{merge.LinkTypeRaw, nil, ssh, "(tcp and host 10.0.0.2 and host 10.0.0.9 and port 443)"},
		{merge.LinkTypeNull, make([]byte, 4), ssh, "(tcp and host 10.0.0.2 and host 10.0.0.9 and port 443)"},
		{merge.LinkTypeRaw, nil, ip6, "(udp and host fe80::2 and host fe80::9 and port 4789)"},
		{merge.LinkTypeRaw, nil, ip4(47), "(ip proto 47 and host 10.0.0.2 and host 10.0.0.9)"},
		{merge.LinkTypeRaw, nil, ip4(1, 3, 4), ""}, // the beginning of another packet, which could not be delivered
		{merge.LinkTypeEthernet, ethernet(8, 6), ssh, ""},
		{merge.LinkTypeRaw, nil, ssh[:20], ""},
		{merge.LinkTypeEthernet, nil, nil, ""},
		{merge.LinkTypeEthernet, ethernet(0x81, 0), nil, ""},
		{merge.LinkType(197), nil, ssh, ""},
	} {
		if got := packetEnds(test.link, append(test.header, test.ip...)); got != test.want {
			t.Errorf("%v %x: %q, want %q", test.link, test.header, got, test.want)
		}
	}
}
