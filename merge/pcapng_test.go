package merge

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

func u64(n uint64) *uint64 { return &n }

func TestPcapngBytes(t *testing.T) {
	var got bytes.Buffer
	w := NewPcapng(&got, Section{Application: "a"})
	for _, nano := range []bool{false, true} {
		if _, err := w.AddInterface(Interface{Name: "web1:lo", LinkType: 1, Snaplen: 9, Filter: "ip", Nano: nano}); err != nil {
			t.Fatal(err)
		}
	}
	b := literal(sample{1<<32*1000 + 2500, []byte("abcde"), 7}, sample{-1, nil, 3})
	for i := range 2 {
		if n, err := w.WriteRun(i, b, b.Records); n != 2 || err != nil {
			t.Fatal(n, err)
		}
	}
	s := Statistics{Time: time.Unix(0, 1<<32*1000+3000), End: time.Unix(1, 0), Received: u64(1<<32 + 2)}
	if err := w.WriteStatistics(0, s); err != nil {
		t.Fatal(err)
	}
	names := []Name{
		{netip.MustParseAddr("10.0.0.1"), []string{"web1", "w"}},
		{netip.MustParseAddr("::1"), []string{"x"}},
		{netip.Addr{}, []string{"none"}}, {netip.MustParseAddr("::2"), []string{""}},
	}
	if err := w.WriteNames(names); err != nil {
		t.Fatal(err)
	}
	if got.Len() > 0 {
		t.Error("writes before it is flushed")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	// Each block from the figures of the draft, in words of 32 bits.
	var want []byte
	add := func(words ...uint32) {
		for _, w := range words {
			want = le.AppendUint32(want, w)
		}
	}
	add(0x0a0d0d0a, 40, 0x1a2b3c4d, 1, 1<<32-1, 1<<32-1, 4|1<<16, text("a\x00\x00\x00"), 0, 40)
	for _, resolution := range []uint32{6, 9} {
		add(1, 52, 1, 9, 2|7<<16, text("web1"), text(":lo\x00"), 11|3<<16, text("\x00ip\x00"), 9|1<<16, resolution, 0)
		add(52)
	}
	add(6, 40, 0, 1, 2, 5, 7, text("abcd"), text("e\x00\x00\x00"), 40)
	add(6, 32, 0, 0, 0, 0, 3, 32)
	add(6, 40, 1, 1000, 2500, 5, 7, text("abcd"), text("e\x00\x00\x00"), 40)
	add(6, 32, 1, 0, 0, 0, 3, 32)
	add(5, 52, 0, 1, 3, 3|8<<16, 0, 1000000, 4|8<<16, 2, 1, 0, 52)
	add(4, 56, 1|11<<16, 10|1<<24, text("web1"), text("\x00w\x00\x00"), 2|18<<16, 0, 0, 0, 1<<24, text("x\x00\x00\x00"), 0, 56)
	compareBlocks(t, got.Bytes(), want)
	if w.Size() != int64(got.Len()) || w.Flushed() != w.Size() {
		t.Errorf("size %d, flushed %d of %d", w.Size(), w.Flushed(), got.Len())
	}
}

func text(s string) uint32 { return le.Uint32([]byte(s)) }

func compareBlocks(t *testing.T, got, want []byte) {
	t.Helper()
	for n := 1; len(got) > 0 && len(want) > 0; n++ {
		g, w := got[:min(int(le.Uint32(got[4:])), len(got))], want[:min(int(le.Uint32(want[4:])), len(want))]
		if !bytes.Equal(g, w) {
			t.Errorf("block %d: %x\n  want %x", n, g, w)
		}
		got, want = got[len(g):], want[len(w):]
	}
	if len(got)+len(want) > 0 {
		t.Errorf("%d bytes too many, %d missing", len(got), len(want))
	}
}

func TestPcapngAgainstPcapgo(t *testing.T) {
	for _, f := range forms {
		list := append(samples(4000), sample{start.UnixNano() + 1e9, bytes.Repeat([]byte("x"), MaxRecord), MaxRecord})
		var out bytes.Buffer
		w := NewPcapng(&out, Section{Hardware: "hw", OS: "Linux", Application: "sshpcap", Comment: "of a test"})
		info := Interface{
			Name: "web1:eth0", Description: "uplink", Filter: "tcp port 80", OS: "Debian", Comment: "clock ahead",
			LinkType: LinkTypeEthernet, Snaplen: 1<<32 - 1, Nano: f.nano,
		}
		if _, err := w.AddInterface(info); err != nil {
			t.Fatal(err)
		}
		for _, b := range batchesOf(t, f.stream(list)) {
			if n, err := w.WriteRun(0, b, b.Records); n != len(b.Records) || err != nil {
				t.Fatal(n, err)
			}
		}
		s := Statistics{Time: start.Add(time.Second), Received: u64(5), Dropped: u64(7)}
		if err := errors.Join(w.WriteStatistics(0, s), w.Flush()); err != nil {
			t.Fatal(err)
		}
		r, err := pcapgo.NewNgReader(&out, pcapgo.NgReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if s := r.SectionInfo(); s.Hardware != "hw" || s.OS != "Linux" || s.Application != "sshpcap" || s.Comment != "of a test" {
			t.Errorf("%+v", s)
		}
		equalToPcapgo(t, r, f, list)
		i, err := r.Interface(0)
		if err != nil {
			t.Fatal(err)
		}
		if i.Name != "web1:eth0" || i.Description != "uplink" || i.Filter != "tcp port 80" || i.OS != "Debian" ||
			i.Comment != "clock ahead" || i.SnapLength != MaxRecord || i.LinkType != layers.LinkTypeEthernet {
			t.Errorf("%+v", i)
		}
		if st := i.Statistics; !st.LastUpdate.Equal(start.Add(time.Second)) || st.PacketsReceived != 5 || st.PacketsDropped != 7 {
			t.Errorf("%+v", st)
		}
	}
}

// udp is a frame of Ethernet with a UDP packet to port 9, which tshark finds nothing wrong with.
func udp(t *testing.T, payload string) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP,
		SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2},
	}
	u := &layers.UDP{SrcPort: 1234, DstPort: 9}
	if err := u.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, eth, ip, u, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPcapngInWireshark(t *testing.T) {
	var out bytes.Buffer
	w := NewPcapng(&out, Section{OS: "Linux 6", Application: "sshpcap 1", Comment: "capture web1 web2"})
	frame := udp(t, "hello")
	longName := strings.Repeat("ü", 40000)
	for i, info := range []Interface{
		{Name: "web1:eth0", Filter: "udp port 9", OS: "Debian", Comment: "clock 3 ms ahead", LinkType: 1, Nano: true},
		{Name: "web2:any", Description: "all of them", LinkType: LinkTypeLinuxSLL2, Snaplen: 1<<32 - 1},
		{Name: "web3:eth0", LinkType: 1, Snaplen: 262144, Comment: longName},
	} {
		n, err := w.AddInterface(info)
		if n != i || err != nil {
			t.Fatal(n, err)
		}
		if i == 0 {
			if err := w.WriteNames([]Name{
				{netip.MustParseAddr("10.0.0.1"), []string{"web1"}},
				{netip.MustParseAddr("::ffff:10.0.0.2"), []string{"db1", "db"}},
				{netip.MustParseAddr("fe80::1%eth0"), []string{"router"}},
			}); err != nil {
				t.Fatal(err)
			}
		}
		if i == 1 {
			continue // its packets would need another header
		}
		b := literal(
			sample{start.UnixNano() + 123456789, frame, uint32(len(frame))},
			sample{start.UnixNano() + 123456790, frame[:50], uint32(len(frame))},
			sample{start.UnixNano() + 123456791, frame, uint32(len(frame)) - 2},
		)
		if _, err := w.WriteRun(i, b, b.Records); err != nil {
			t.Fatal(err)
		}
	}
	all := Statistics{
		Time: start.Add(time.Minute), Start: start, End: start.Add(time.Minute),
		Received: u64(10), Dropped: u64(1), FilterAccepted: u64(9), OSDropped: u64(2), Delivered: u64(6),
	}
	for i := range 3 {
		if err := w.WriteStatistics(i, all); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	path := writeFile(t, "x.pcapng", out.Bytes())
	info := tool(t, "capinfos", path)
	for _, want := range []string{
		"Number of packets:   6", "sshpcap 1", "Linux 6", "capture web1 web2", "Number of interfaces in file: 3",
		"Name = web1:eth0", "Filter string = udp port 9", "Time resolution = 0x09", "Name = web2:any", "Number of stat entries = 1",
	} {
		if !strings.Contains(info, want) {
			t.Errorf("capinfos does not say %q:\n%.3000s", want, info)
		}
	}
	rows := tool(t, "tshark", "-r", path, "-n", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.time_epoch",
		"-e", "frame.cap_len", "-e", "frame.len", "-e", "udp.dstport")
	lines := strings.Split(strings.TrimSpace(rows), "\n")
	epoch := func(fraction string) string { return strconv.FormatInt(start.Unix(), 10) + "." + fraction }
	n := strconv.Itoa(len(frame))
	wantRows := []string{
		"web1:eth0\t" + epoch("123456789") + "\t" + n + "\t" + n + "\t9",
		"web1:eth0\t" + epoch("123456790") + "\t50\t" + n + "\t9",
	}
	for i, w := range wantRows {
		if lines[i] != w {
			t.Errorf("row %d: %q, want %q", i, lines[i], w)
		}
	}
	if !strings.HasPrefix(lines[3], "web3:eth0\t"+epoch("123456")+"000\t") {
		t.Errorf("microseconds: %q", lines[3])
	}
	if hosts := tool(t, "tshark", "-r", path, "-q", "-z", "hosts"); !strings.Contains(hosts, "10.0.0.1\tweb1") ||
		!strings.Contains(hosts, "10.0.0.2\tdb") || !strings.Contains(hosts, "fe80::1\trouter") {
		t.Errorf("names:\n%s", hosts)
	}
}

func TestPcapngCutsText(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aü", 2, "a"}, {"aü", 3, "aü"}, {"ü", 0, ""}, {"a\xff", 9, "a\uFFFD"},
	} {
		if got := cut(c.in, c.n); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.in, c.n, got, c.want)
		}
	}
	long := strings.Repeat("a", maxOption-1) + "ü"
	b := sectionBlock(Section{Comment: long}).end()
	n := int(le.Uint16(b[26:]))
	if n != maxOption-1 || !utf8.Valid(b[28:28+n]) || len(b) != 24+4+maxOption+1+4+4 {
		t.Errorf("a comment of %d bytes in a block of %d", n, len(b))
	}
	b = interfaceBlock(Interface{Filter: long}).end()
	if n := int(le.Uint16(b[18:])); n != maxOption {
		t.Errorf("a filter of %d bytes", n)
	}
}

func TestPcapngManyNames(t *testing.T) {
	var out bytes.Buffer
	w := NewPcapng(&out, Section{})
	var names []Name
	for i := range 60 {
		names = append(names, Name{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), []string{
			strings.Repeat("n", 40000), strings.Repeat("m", 40000), strings.Repeat("k", 20000),
		}})
	}
	if err := errors.Join(w.WriteNames(names), w.Flush()); err != nil {
		t.Fatal(err)
	}
	blocks, records := 0, 0
	for p := out.Bytes(); len(p) > 0; p = p[le.Uint32(p[4:]):] {
		if le.Uint32(p) != blockNames {
			continue
		}
		blocks++
		for q := p[8:]; le.Uint16(q) != nameRecordEnd; q = q[4+int(le.Uint16(q[2:]))+padding(int(le.Uint16(q[2:]))):] {
			records++
		}
	}
	if blocks < 2 || records != len(names) {
		t.Errorf("%d names in %d blocks", records, blocks)
	}
}

func TestPcapngCommentedPacket(t *testing.T) {
	var got bytes.Buffer
	w := NewPcapng(&got, Section{})
	w.AddInterface(Interface{LinkType: 1})
	w.Flush()
	before := got.Len()
	b := literal(sample{2_000, []byte("abcde"), 7})
	if n, err := w.WriteCommented(0, b, b.Records[0], "gap"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	w.Flush()
	var want []byte
	for _, word := range []uint32{6, 52, 0, 0, 2, 5, 7, text("abcd"), text("e\x00\x00\x00"), 1 | 3<<16, text("gap\x00"), 0, 52} {
		want = le.AppendUint32(want, word)
	}
	if !bytes.Equal(got.Bytes()[before:], want) {
		t.Errorf("got  %x\nwant %x", got.Bytes()[before:], want)
	}
	if n := CommentedSize(5, "gap"); n != len(want) {
		t.Errorf("size %d, want %d", n, len(want))
	}
	if w.Lost() != 0 || w.Flushed() != int64(got.Len()) {
		t.Errorf("lost %d, flushed %d", w.Lost(), w.Flushed())
	}
	file := writeFile(t, "commented.pcapng", got.Bytes())
	if out := tool(t, "tshark", "-r", file, "-T", "fields", "-e", "frame.comment"); strings.TrimSpace(out) != "gap" {
		t.Errorf("tshark sees the comment %q", out)
	}
}

func TestPcapngUnknownInterface(t *testing.T) {
	w := NewPcapng(io.Discard, Section{})
	b := literal(samples(2)...)
	for _, i := range []int{-1, 0} {
		if n, err := w.WriteRun(i, b, b.Records); n != 0 || err == nil {
			t.Errorf("interface %d: %d, %v", i, n, err)
		}
		if err := w.WriteStatistics(i, Statistics{}); err == nil {
			t.Errorf("statistics of interface %d", i)
		}
	}
}
