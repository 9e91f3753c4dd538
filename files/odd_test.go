package files_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/files"
)

// oddBlock is a block that is framed soundly and makes no sense. It stands behind the first of three packets.
type oddBlock struct {
	name string
	make func(o binary.AppendByteOrder) []byte
	kept int    // packets
	note string // what is said of it
	left int64  // packets that are left out
}

// rawPacket is a packet's block with fields as they are.
func rawPacket(o binary.AppendByteOrder, iface uint32, ticks uint64, captured, orig uint32, data int, options ...byte) []byte {
	body := o.AppendUint32(nil, iface)
	for _, n := range []uint32{uint32(ticks >> 32), uint32(ticks), captured, orig} {
		body = o.AppendUint32(body, n)
	}
	body = append(body, make([]byte, data+-data&3)...)
	return ngBlock(o, 6, append(body, options...))
}

// ngIface is an interface's description.
func ngIface(o binary.AppendByteOrder, snaplen uint32, options ...byte) []byte {
	body := o.AppendUint32(o.AppendUint16(o.AppendUint16(nil, 1), 0), snaplen)
	return ngBlock(o, 1, append(body, options...))
}

func oddOption(code uint16, n int) func(o binary.AppendByteOrder) []byte {
	return func(o binary.AppendByteOrder) []byte {
		return rawPacket(o, 0, 1e6, 60, 60, 60, ngOption(o, code, strings.Repeat("\x01", n))...)
	}
}

func oddName(kind uint16, value string) func(o binary.AppendByteOrder) []byte {
	return func(o binary.AppendByteOrder) []byte {
		return ngBlock(o, 4, append(ngOption(o, kind, value), 0, 0, 0, 0))
	}
}

const senseless = "of a size that makes no sense"

var oddBlocks = []oddBlock{
	{"more captured than the block has", func(o binary.AppendByteOrder) []byte { return rawPacket(o, 0, 1, 61, 61, 56) }, 0, "more captured bytes than the block has", 1},
	{"far more", func(o binary.AppendByteOrder) []byte { return rawPacket(o, 0, 1, 1<<18, 61, 56) }, 0, "more captured bytes than the block has", 1},
	{"too short", func(o binary.AppendByteOrder) []byte { return ngBlock(o, 6, make([]byte, 16)) }, 0, "more captured bytes than the block has", 1},
	{"too short a simple packet", func(o binary.AppendByteOrder) []byte { return ngBlock(o, 3, nil) }, 0, "more captured bytes than the block has", 1},
	{"no such interface", func(o binary.AppendByteOrder) []byte { return rawPacket(o, 7, 1, 60, 60, 60) }, 0, "not described", 1},
	{"too long", func(o binary.AppendByteOrder) []byte { return rawPacket(o, 0, 1, 1<<18+1, 5, 1<<18+1) }, 0, "of more than 262144 bytes", 1},
	{"a large block", func(o binary.AppendByteOrder) []byte { return rawPacket(o, 0, 1, 5, 5, 8<<20) }, 0, "of more than 262144 bytes", 1},
	{"captured above original", func(o binary.AppendByteOrder) []byte { return rawPacket(o, 0, 1e6, 60, 3, 60) }, 1, "than were on the wire: kept", 0},
	{"a time far away", func(o binary.AppendByteOrder) []byte { return rawPacket(o, 0, 1<<64-1, 60, 60, 60) }, 1, "cannot be held", 0},
	{"an interface that is too short", func(o binary.AppendByteOrder) []byte {
		return append(ngBlock(o, 1, []byte{1, 0, 0, 0}), append(rawPacket(o, 1, 1, 60, 60, 60), append(ngIface(o, 0), rawPacket(o, 2, 1e6, 60, 60, 60)...)...)...)
	}, 1, "not described", 1},
	{"a unit finer than any clock's", func(o binary.AppendByteOrder) []byte {
		return append(ngIface(o, 0, ngOption(o, 9, "\x1c")...), rawPacket(o, 1, 2e19-16e18, 60, 60, 60)...)
	}, 1, "that no clock has", 0},
	{"a binary unit finer than any clock's", func(o binary.AppendByteOrder) []byte {
		return append(ngIface(o, 0, ngOption(o, 9, "\xc0")...), rawPacket(o, 1, 1<<63, 60, 60, 60)...)
	}, 1, "that no clock has", 0},
	{"an option that overruns", func(o binary.AppendByteOrder) []byte {
		return rawPacket(o, 0, 1e6, 60, 60, 60, o.AppendUint16(o.AppendUint16(nil, 1), 9999)...)
	}, 1, senseless, 0},
	{"flags of 3 bytes", oddOption(2, 3), 1, senseless, 0},
	{"a drop count of 4", oddOption(4, 4), 1, senseless, 0},
	{"a packet ID of 9", oddOption(5, 9), 1, senseless, 0},
	{"a queue of 8", oddOption(6, 8), 1, senseless, 0},
	{"a verdict of 8", oddOption(7, 8), 1, senseless, 0},
	{"a custom option of 3", oddOption(2988, 3), 1, senseless, 0},
	{"an empty filter", func(o binary.AppendByteOrder) []byte { return ngIface(o, 0, ngOption(o, 11, "")...) }, 0, senseless, 0},
	{"a unit of 2 bytes", func(o binary.AppendByteOrder) []byte { return ngIface(o, 0, ngOption(o, 9, "ab")...) }, 0, senseless, 0},
	{"an offset of 4", func(o binary.AppendByteOrder) []byte { return ngIface(o, 0, ngOption(o, 14, "abcd")...) }, 0, senseless, 0},
	{"statistics of no interface", func(o binary.AppendByteOrder) []byte {
		return ngBlock(o, 5, bytes.Repeat([]byte{9}, 12))
	}, 0, "fields that make no sense", 0},
	{"statistics that are too short", func(o binary.AppendByteOrder) []byte { return ngBlock(o, 5, make([]byte, 8)) }, 0, "fields that make no sense", 0},
	{"secrets that overrun", func(o binary.AppendByteOrder) []byte { return ngBlock(o, 10, bytes.Repeat([]byte{9}, 12)) }, 0, "fields that make no sense", 0},
	{"a short address", oddName(1, "abc"), 0, "name record", 0},
	{"a short IPv6 address", oddName(2, "abcdefgh"), 0, "name record", 0},
	{"a name without an end", oddName(1, "\x01\x02\x03\x04name"), 0, "name record", 0},
}

// TestOddBlocks: a block that is framed soundly never ends its input, whatever stands in it: all packets behind it come
// out, and the output is readable to its end.
func TestOddBlocks(t *testing.T) {
	three := []packet{{time: 1e9, data: "one"}, {time: 2e9, data: "two"}, {time: 3e9, data: "three"}}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, how := range oddBlocks {
			t.Run(fmt.Sprintf("%v/%s", order, how.name), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				whole := pcapng(order, "eth0", 6, 1e6, 0, three)
				head := len(pcapng(order, "eth0", 6, 1e6, 0, three[:1]))
				content := append(append(bytes.Clone(whole[:head]), how.make(order)...), whole[head:]...)
				in, good := write(t, dir, "in", content), write(t, dir, "good", pcap(order, true, three))
				out := filepath.Join(dir, "out.pcapng")
				report := merge(t, files.Config{Inputs: []string{in, good}, Path: out})
				if n := int64(6 + how.kept); report.Packets != n || report.Inputs[0].Damage != nil || report.Inputs[0].Skipped != how.left {
					t.Errorf("%d packets, want %d: %+v, damage %v", report.Packets, n, report, report.Inputs[0].Damage)
				}
				said := ""
				for _, n := range report.Inputs[0].Notes {
					said += n.What + " " + n.Text + "\n"
				}
				if !strings.Contains(said, how.note) || len(report.Inputs[1].Notes) > 0 {
					t.Errorf("says %q, want %q", said, how.note)
				}
				if order == binary.AppendByteOrder(binary.LittleEndian) { // what is written is the same of either
					readable(t, out, 6+how.kept)
				}
			})
		}
	}
}

// readable checks that other programs read a file to its end.
func readable(t *testing.T, path string, packets int) {
	t.Helper()
	for _, args := range [][]string{{"tshark", "-r", path, "-T", "fields", "-e", "frame.number"}, {"tcpdump", "-n", "-t", "-xx", "-r", path}} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", args[0], err, out)
		}
		n := bytes.Count(out, []byte("\n"))
		if args[0] == "tcpdump" {
			continue // it prints more than one line of a packet
		}
		if n -= bytes.Count(out, []byte("dangerous")); n != packets {
			t.Errorf("%s reads %d packets, want %d\n%s", args[0], n, packets, out)
		}
	}
}

// TestTimesThatAreKept: what was before 1970, by an offset, is in pcapng as it was, and in order. Pcap cannot hold it, nor
// what is after 2106: that is told, with a count.
func TestTimesThatAreKept(t *testing.T) {
	order := binary.LittleEndian
	dir := t.TempDir()
	old := write(t, dir, "old", pcapng(order, "old", 6, 1e6, -100, []packet{{time: -50e9, data: "a"}, {time: 100e9, data: "c"}, {time: -60e9, data: "0"}}))
	far := write(t, dir, "far", pcapng(order, "far", 9, 1e9, 0, []packet{{time: 50e9, data: "b"}, {time: 4323283200e9, data: "d"}}))
	for _, inputs := range [][]string{{old, far}, {far, old}, {old, far, far}} {
		out := filepath.Join(dir, "out.pcapng")
		report := merge(t, files.Config{Inputs: inputs, Path: out, Overwrite: true, MaxOpen: 2})
		for _, in := range report.Inputs {
			if len(in.Notes) > 0 || in.Damage != nil {
				t.Errorf("%+v", in)
			}
		}
		got, err := exec.Command("tshark", "-r", out, "-T", "fields", "-e", "frame.time_epoch").Output()
		want := "-60.000000000 -50.000000000 50.000000000 100.000000000 4323283200.000000000"
		if len(inputs) == 3 {
			want = "-60.000000000 -50.000000000 50.000000000 50.000000000 100.000000000 4323283200.000000000 4323283200.000000000"
		}
		if text := strings.Join(strings.Fields(string(got)), " "); err != nil || text != want {
			t.Errorf("%v: times %s, want %s: %v", inputs, text, want, err)
		}
	}
	report := merge(t, files.Config{Inputs: []string{old, far}, Path: filepath.Join(dir, "out.pcap"), Format: files.Pcap})
	for i, count := range []int64{2, 1} {
		notes := report.Inputs[i].Notes
		if len(notes) == 0 || !strings.Contains(notes[0].Text, "before 1970 or after 2106") || notes[0].Count != count {
			t.Errorf("%+v", report.Inputs[i])
		}
	}
}

// TestSnaplens: interfaces with snapshot lengths that all mean whole packets have the same one, so that tcpdump reads them.
func TestSnaplens(t *testing.T) {
	order := binary.LittleEndian
	dir := t.TempDir()
	var inputs []string
	for i, snaplen := range []uint32{65535, 262144, 0, 1<<32 - 1, 524288} {
		content := pcap(order, false, []packet{{time: int64(i) * 1e9, data: "data of a packet"}})
		order.PutUint32(content[16:], snaplen)
		inputs = append(inputs, write(t, dir, fmt.Sprint(i), content))
	}
	out := filepath.Join(dir, "out.pcapng")
	if report := merge(t, files.Config{Inputs: inputs, Path: out}); report.SeveralSnaplens || report.SeveralLinkTypes {
		t.Errorf("%+v", report)
	}
	readable(t, out, len(inputs))

	// Where they differ that is told, and pcap holds all.
	content := pcap(order, false, []packet{{time: 9e9, data: "data of a packet"}})
	order.PutUint32(content[16:], 1000)
	inputs = append(inputs, write(t, dir, "short", content))
	if report := merge(t, files.Config{Inputs: inputs, Path: out, Overwrite: true}); !report.SeveralSnaplens || report.SeveralLinkTypes {
		t.Errorf("%+v", report)
	}
	other := filepath.Join(dir, "out.pcap")
	if report := merge(t, files.Config{Inputs: inputs, Path: other, Format: files.Pcap}); report.SeveralSnaplens {
		t.Errorf("%+v", report)
	}
	readable(t, other, len(inputs))
	order.PutUint32(content[16:], 10) // and its packet has 16 bytes
	beyond := write(t, dir, "beyond", content)
	if report := merge(t, files.Config{Inputs: []string{beyond, inputs[0]}, Path: out, Overwrite: true}); report.SeveralSnaplens || report.Packets != 2 {
		t.Errorf("%+v", report)
	}
	readable(t, out, 2)

	// Where such a one comes late in a file, or in a pipe, it is told.
	list := make([]packet, 20000)
	for i := range list {
		list[i] = packet{time: int64(i) * 1e6, data: "data"}
	}
	list[len(list)-1].data = "data of a packet"
	long := pcap(order, false, list)
	order.PutUint32(long[16:], 10)
	late := write(t, dir, "late", long)
	if report := merge(t, files.Config{Inputs: []string{late}, Path: out, Overwrite: true}); !report.SeveralSnaplens || report.Packets != 20000 {
		t.Errorf("%+v", report)
	}
	content[20] = 101
	order.PutUint32(content[16:], 0)
	raw := write(t, dir, "raw", content)
	if report := merge(t, files.Config{Inputs: []string{inputs[0], raw}, Path: out, Overwrite: true}); !report.SeveralLinkTypes || report.SeveralSnaplens {
		t.Errorf("%+v", report)
	}
}

// TestOldPcap: the modified form, and an old version, as inputs.
func TestOldPcap(t *testing.T) {
	dir := t.TempDir()
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		old := pcap(order, false, nil)
		order.(binary.ByteOrder).PutUint16(old[6:], 2)
		for _, n := range []uint32{7, 5, 12, 10} { // the original length first
			old = order.AppendUint32(old, n)
		}
		old = append(old, "ten bytes!"...)
		modified := pcap(order, false, nil)
		order.(binary.ByteOrder).PutUint32(modified, 0xa1b2cd34)
		for _, n := range []uint32{8, 5, 10, 12, 2, 0} {
			modified = order.AppendUint32(modified, n)
		}
		modified = append(modified, "TEN BYTES!"...)
		out := filepath.Join(dir, "out.pcapng")
		report := merge(t, files.Config{Inputs: []string{write(t, dir, "old", old), write(t, dir, "modified", modified)}, Path: out, Overwrite: true})
		if report.Packets != 2 || len(report.Inputs[0].Notes)+len(report.Inputs[1].Notes) > 0 {
			t.Errorf("%+v", report)
		}
		got, err := exec.Command("tshark", "-r", out, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len").Output()
		if want := "7.000005000 12 10 8.000005000 12 10"; err != nil || strings.Join(strings.Fields(string(got)), " ") != want {
			t.Errorf("%q, want %q: %v", got, want, err)
		}
	}
}

// TestOtherFormats: what is no capture is named.
func TestOtherFormats(t *testing.T) {
	dir := t.TempDir()
	erf := make([]byte, 0, 160)
	for i := range byte(2) {
		erf = append(erf, 0, 0, 0, i, 0, 0xf1, 0x53, 0x65, 2, 4, 0, 80, 0, 0, 0, 60)
		erf = append(erf, make([]byte, 64)...)
	}
	version := pcap(binary.LittleEndian, false, nil)
	version[6] = 9
	for said, content := range map[string]string{
		"snoop":                         "snoop\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x04",
		"bzip2":                         "BZh91AY&SY\x00\x01",
		"with xz":                       "\xfd7zXZ\x00\x00\x04",
		"lz4":                           "\x04\x22\x4d\x18\x64\x40",
		"an ELF program":                "\x7fELF\x02\x01\x01",
		"Microsoft Network Monitor":     "GMBU\x00\x02\x01\x00",
		"ERF":                           string(erf),
		"You don't have permission\"":   "tcpdump: eth0: You don't have permission\nmore\n",
		"it is text: \"BZhello there\"": "\n  BZhello \x1b[0mthere\u202e\n"[:len("\n  BZhello \x1b[0mthere")-len("\x1b[0mthere")] + "there\n",
		"version 2.9 is none":           string(version),
		"neither pcap nor pcapng":       "\x00\x01\x02\x03\x80\x81",
		"it is text: \"hi\"":            "hi",
		"nothing but zeros":             strings.Repeat("\x00", 600),
		"it is compressed with gzip":    string(gzippedOf(nil, gzippedOf(nil, []byte("x"), 1), 1)),
		"it is text: \"\u00fcber die Br\u00fccke\"": "\u00fcber die Br\u00fccke",
	} {
		in := write(t, dir, "in", []byte(content))
		_, err := files.Merge(context.Background(), files.Config{Inputs: []string{in}, Path: filepath.Join(dir, "out")})
		if err == nil || !strings.Contains(err.Error(), said) || strings.ContainsAny(err.Error(), "\x1b\n\u202e") {
			t.Errorf("%q: %v", said, err)
		}
	}
}
