package files_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sshpcap/sshpcap/files"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// packet is one as the tests make and find it.
type packet struct {
	time int64 // ns
	data string
	from string // name of its interface
}

// pcap makes a file; nano and order as they may be.
func pcap(order binary.AppendByteOrder, nano bool, packets []packet) []byte {
	magic, unit := uint32(0xa1b2c3d4), int64(1000)
	if nano {
		magic, unit = 0xa1b23c4d, 1
	}
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(b, 65535)
	b = order.AppendUint32(b, 1)
	for _, p := range packets {
		b = order.AppendUint32(b, uint32(p.time/1e9))
		b = order.AppendUint32(b, uint32(p.time%1e9/unit))
		b = order.AppendUint32(b, uint32(len(p.data)))
		b = order.AppendUint32(b, uint32(len(p.data)+7))
		b = append(b, p.data...)
	}
	return b
}

// ngBlock makes a pcapng block.
func ngBlock(order binary.AppendByteOrder, kind uint32, body []byte) []byte {
	body = append(body, make([]byte, -len(body)&3)...)
	b := order.AppendUint32(nil, kind)
	b = order.AppendUint32(b, uint32(len(body)+12))
	return order.AppendUint32(append(b, body...), uint32(len(body)+12))
}

func ngOption(order binary.AppendByteOrder, code uint16, value string) []byte {
	b := order.AppendUint16(order.AppendUint16(nil, code), uint16(len(value)))
	return append(append(b, value...), make([]byte, -len(value)&3)...)
}

// pcapng makes a section with an interface of a resolution and an offset.
func pcapng(order binary.AppendByteOrder, name string, resolution byte, perSec, offset int64, packets []packet) []byte {
	section := order.AppendUint32(nil, 0x1a2b3c4d)
	section = order.AppendUint16(section, 1)
	section = order.AppendUint16(section, 0)
	b := ngBlock(order, 0x0a0d0d0a, order.AppendUint64(section, ^uint64(0)))
	body := order.AppendUint16(nil, 1)
	body = order.AppendUint16(body, 0)
	body = order.AppendUint32(body, 65535)
	body = append(body, ngOption(order, 2, name)...)
	body = append(body, ngOption(order, 1, "of "+name)...)
	body = append(body, ngOption(order, 9, string([]byte{resolution}))...)
	body = append(body, ngOption(order, 14, string(order.AppendUint64(nil, uint64(offset))))...)
	b = append(b, ngBlock(order, 1, append(body, 0, 0, 0, 0))...)
	for _, p := range packets {
		t := uint64(p.time/1e9-offset)*uint64(perSec) + uint64(p.time%1e9)*uint64(perSec)/1e9
		body := order.AppendUint32(nil, 0)
		body = order.AppendUint32(body, uint32(t>>32))
		body = order.AppendUint32(body, uint32(t))
		body = order.AppendUint32(body, uint32(len(p.data)))
		body = order.AppendUint32(body, uint32(len(p.data)+7))
		body = append(append(body, p.data...), make([]byte, -len(p.data)&3)...)
		body = append(body, ngOption(order, 2, string(order.AppendUint32(nil, 0x12345)))...)
		body = append(body, ngOption(order, 1, "seen")...)
		b = append(b, ngBlock(order, 6, append(body, 0, 0, 0, 0))...)
	}
	return b
}

func write(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readNg reads a pcapng file by pcapgo.
func readNg(t testing.TB, path string) (all []packet) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		iface, err := r.Interface(info.InterfaceIndex)
		if err != nil || info.Length != len(data)+7 {
			t.Fatalf("interface %v, original length %d of %d", err, info.Length, len(data))
		}
		all = append(all, packet{info.Timestamp.UnixNano(), string(data), iface.Name})
	}
}

func merge(t testing.TB, cfg files.Config) files.Report {
	t.Helper()
	report, err := files.Merge(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func byTime(a, b packet) int { return int(a.time - b.time) }

// The output is the stable sort of all packets, whatever the formats of the inputs, their order, and how many can be
// open at once.
func TestMergeProperty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		k := rapid.IntRange(1, 9).Draw(rt, "inputs")
		sorted := rapid.Bool().Draw(rt, "sorted")
		var cfg files.Config
		var want []packet
		serial := 0
		for i := range k {
			var packets []packet
			clock := int64(1_700_000_000e9)
			for range rapid.IntRange(0, 60).Draw(rt, "packets") {
				step := rapid.Int64Range(0, 3).Draw(rt, "step")
				if !sorted {
					step = rapid.Int64Range(-3, 5).Draw(rt, "step")
				}
				clock += step * 1000
				serial++
				packets = append(packets, packet{time: clock, data: fmt.Sprintf("%d %s", serial, strings.Repeat("x", serial%50))})
			}
			var order binary.AppendByteOrder = binary.LittleEndian
			if rapid.Bool().Draw(rt, "big") {
				order = binary.BigEndian
			}
			var content []byte
			name := fmt.Sprintf("%d-%d", round, i)
			switch rapid.IntRange(0, 4).Draw(rt, "format") {
			case 0:
				content = pcap(order, false, packets)
			case 1:
				content = pcap(order, true, packets)
			case 2:
				content = pcapng(order, name, 6, 1e6, 0, packets)
			case 3:
				content = pcapng(order, name, 9, 1e9, -3600, packets)
			case 4: // two sections
				half := len(packets) / 2
				content = append(pcapng(order, name, 6, 1e6, 77, packets[:half]), pcapng(binary.BigEndian, name, 9, 1e9, 0, packets[half:])...)
			}
			cfg.Inputs = append(cfg.Inputs, write(t, dir, name, content))
			want = append(want, packets...)
		}
		cfg.Path = filepath.Join(dir, fmt.Sprint(round, ".out"))
		cfg.MaxOpen = rapid.SampledFrom([]int{0, 2, 3}).Draw(rt, "open")
		report := merge(t, cfg)
		slices.SortStableFunc(want, byTime)
		got := readNg(t, cfg.Path)
		if report.Packets != int64(len(want)) || len(got) != len(want) {
			rt.Fatalf("%d packets, reported %d, want %d", len(got), report.Packets, len(want))
		}
		for i := range got {
			if got[i].time != want[i].time || sorted && got[i].data != want[i].data {
				rt.Fatalf("packet %d is %v, want %v", i, got[i], want[i])
			}
		}
		slices.SortFunc(got, func(a, b packet) int { return strings.Compare(a.data, b.data) })
		slices.SortFunc(want, func(a, b packet) int { return strings.Compare(a.data, b.data) })
		if !slices.EqualFunc(got, want, func(a, b packet) bool { return a.data == b.data }) {
			rt.Fatal("not the same packets")
		}
	})
}

var three = []packet{{time: 1_700_000_000e9, data: "one"}, {time: 1_700_000_001e9, data: "two"}, {time: 1_700_000_002e9 + 5000, data: "three"}}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// What an input is shows in its content.
func TestFormats(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ng := pcapng(binary.BigEndian, "eth0", 0x80|20, 1<<20, 0, three[:2]) // units of 2^-20 s
	cfg := files.Config{
		Inputs: []string{
			write(t, dir, "a.txt", gzipped(pcap(binary.BigEndian, true, three))),
			write(t, dir, "b.gz", zstded(t, ng)),
			"-",
		},
		Stdin: bytes.NewReader(pcap(binary.LittleEndian, false, three)),
		Path:  filepath.Join(dir, "out.pcapng"),
	}
	report := merge(t, cfg)
	for i, want := range []string{"pcap, gzip", "pcapng, zstd", "pcap"} {
		if in := report.Inputs[i]; in.Format != want || !in.Sorted || in.Damage != nil || in.Interfaces != 1 {
			t.Errorf("%+v, want %s", in, want)
		}
	}
	var got []string
	for _, p := range readNg(t, cfg.Path) {
		got = append(got, p.data+" "+filepath.Base(p.from))
	}
	want := []string{"one a.txt", "one eth0", "one standard input", "two a.txt", "two eth0", "two standard input", "three a.txt", "three standard input"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// Everything before the damage is used, and the damage is named.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	whole := pcap(binary.LittleEndian, false, three)
	ng := pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, three)
	nonsense := slices.Clone(whole)
	binary.LittleEndian.PutUint32(nonsense[24+19+8:], 1<<31)
	lengths := slices.Clone(ng)
	lengths[len(lengths)-4]++
	for name, c := range map[string]struct {
		content []byte
		packets int64
		offset  int64
	}{
		"cut pcap":      {whole[:len(whole)-2], 2, int64(len(whole) - 21)},
		"nonsense pcap": {nonsense, 1, 24 + 19},
		"cut pcapng":    {ng[:len(ng)-2], 2, -1},
		"lengths":       {lengths, 2, -1},
		"cut gzip":      {gzipped(whole)[:50], -1, -1},
	} {
		cfg := files.Config{Inputs: []string{write(t, dir, name, c.content)}, Path: filepath.Join(dir, name+".out")}
		report := merge(t, cfg)
		in := report.Inputs[0]
		if in.Damage == nil || in.Damage.File != cfg.Inputs[0] || c.offset >= 0 && in.Damage.Offset != c.offset || c.packets >= 0 && in.Packets != c.packets {
			t.Errorf("%s: %+v %v", name, in, in.Damage)
		}
		if n := len(readNg(t, cfg.Path)); int64(n) != in.Packets {
			t.Errorf("%s: %d packets, reported %d", name, n, in.Packets)
		}
	}
}

// What is no capture fails before there is an output, and none is left behind.
func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := write(t, dir, "good", pcap(binary.LittleEndian, false, three))
	out := filepath.Join(dir, "out")
	for name, bad := range map[string]string{
		"text": write(t, dir, "text", []byte("hello, world, this is no capture")), "empty": write(t, dir, "empty", nil),
		"missing": filepath.Join(dir, "missing"), "directory": dir, "short": write(t, dir, "short", []byte{0xd4, 0xc3}),
	} {
		_, err := files.Merge(context.Background(), files.Config{Inputs: []string{good, bad}, Path: out})
		var input *files.InputError
		if !errors.As(err, &input) || input.Name != bad {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := pcap(binary.LittleEndian, false, three)
	other[20] = 101
	var types *files.LinkTypeError
	if _, err := files.Merge(context.Background(), files.Config{Inputs: []string{good, write(t, dir, "raw", other)}, Path: out, Format: files.Pcap}); !errors.As(err, &types) {
		t.Errorf("two link types: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := files.Merge(ctx, files.Config{Inputs: []string{good}, Path: out}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("there is an output")
	}
	if _, err := files.Merge(context.Background(), files.Config{Inputs: []string{good}, Path: good}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("existing output: %v", err)
	}
	if hidden, _ := filepath.Glob(filepath.Join(dir, ".*")); len(hidden) > 0 {
		t.Errorf("left behind: %v", hidden)
	}
}

// A stream and a rotated output are in order, too, though nothing can be put right afterwards.
func TestStreamAndRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var packets []packet
	for i := range 1000 {
		packets = append(packets, packet{time: 1_700_000_000e9 + int64(i*7919%1000)*1e9, data: fmt.Sprintf("%04d %s", i, strings.Repeat("x", 100))})
	}
	in := write(t, dir, "in", pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, packets))
	slices.SortStableFunc(packets, byTime)
	var stream bytes.Buffer
	report := merge(t, files.Config{Inputs: []string{in}, Out: &stream})
	if got := readNg(t, write(t, dir, "stream", stream.Bytes())); len(got) != 1000 || !slices.IsSortedFunc(got, byTime) || report.Inputs[0].Sorted {
		t.Errorf("stream: %d packets, %+v", len(got), report.Inputs[0])
	}
	for name, cfg := range map[string]files.Config{
		"size":     {RotateSize: 20_000},
		"interval": {RotateInterval: 100 * time.Second},
		"keep":     {RotateInterval: 100 * time.Second, RotateKeep: 3},
	} {
		cfg.Inputs, cfg.Path = []string{in}, filepath.Join(dir, name+".pcapng")
		report := merge(t, cfg)
		var all []packet
		size := int64(0)
		for i, file := range report.Files {
			info, err := os.Stat(file)
			if err != nil || cfg.RotateSize > 0 && info.Size() > cfg.RotateSize {
				t.Fatalf("%s: %v %v", name, info, err)
			}
			if number := fmt.Sprintf("%s_%05d_", name, report.Removed+i+1); !strings.HasPrefix(filepath.Base(file), number) {
				t.Errorf("%s is not number %s", file, number)
			}
			size += info.Size()
			all = append(all, readNg(t, file)...)
		}
		if size != report.Size {
			t.Errorf("%s: %d bytes, %d are told", name, size, report.Size)
		}
		want := packets[:]
		if name == "keep" {
			want = packets[700:]
		}
		if !slices.EqualFunc(all, want, func(a, b packet) bool { return a.data == b.data && a.time == b.time }) || report.Packets != 1000 {
			t.Errorf("%s: %d packets in %v", name, len(all), report.Files)
		}
		if name != "size" && len(report.Files)+report.Removed != 10 {
			t.Errorf("%s: %v, %d removed", name, report.Files, report.Removed)
		}
		if there, _ := filepath.Glob(filepath.Join(dir, name+"_*")); len(there) != len(report.Files) {
			t.Errorf("%s: there is %v", name, there)
		}
	}
}

// The same packet of two interfaces is marked and kept.
func TestDedup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := write(t, dir, "a", pcap(binary.LittleEndian, false, three))
	shifted := slices.Clone(three)
	for i := range shifted {
		shifted[i].time += int64(i) * int64(4*time.Millisecond)
	}
	b := write(t, dir, "b", pcap(binary.LittleEndian, false, shifted))
	out := filepath.Join(dir, "out")
	report := merge(t, files.Config{Inputs: []string{a, b}, Path: out, Dedup: 5 * time.Millisecond})
	raw, err := os.ReadFile(out)
	if err != nil || report.Duplicates != 2 || report.Packets != 6 || bytes.Count(raw, []byte("duplicate of a packet of interface 0, 4ms before")) != 1 {
		t.Errorf("%v %+v", err, report)
	}
}

// FuzzMerge: any bytes are no capture or one with damage; the output is valid.
func FuzzMerge(f *testing.F) {
	f.Add(pcap(binary.LittleEndian, false, three), false)
	f.Add(pcap(binary.BigEndian, true, three), true)
	f.Add(pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, three), false)
	f.Add(pcapng(binary.BigEndian, "eth0", 0x80|33, 1<<33, 5, three), true)
	f.Add(gzipped(pcap(binary.LittleEndian, false, three)), false)
	f.Add(zstdOf(20, pcap(binary.LittleEndian, false, three)), true)
	f.Add(append(pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, three), ngInterfaces(3, 9)...), true)
	f.Add(append(pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, three), ngBlock(binary.LittleEndian, 4, make([]byte, 8))...), false)
	f.Add(append(pcapng(binary.BigEndian, "eth0", 9, 1e9, 0, three), ngBlock(binary.BigEndian, 10, make([]byte, 12))...), false)
	for _, order := range orders {
		f.Add(slices.Concat(sectionOf(order), ngInterface(order, "eth0"), ngJournal(order, at0+3, "up"), ngPacket(order, at0, "a"), ngBlock(order, 0xbad, ngCustom(order, "x")),
			ngBlock(order, 0x40000bad, nil), ngJournal(order, at0+1, "down"), sectionOf(order)), order == orders["big"])
	}
	f.Fuzz(func(t *testing.T, content []byte, twice bool) {
		dir := t.TempDir()
		cfg := files.Config{Inputs: []string{write(t, dir, "in", content)}, Path: filepath.Join(dir, "out")}
		if twice {
			cfg.Inputs = append(cfg.Inputs, cfg.Inputs[0])
		}
		report, err := files.Merge(context.Background(), cfg)
		var input *files.InputError
		if errors.As(err, &input) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := files.Merge(context.Background(), files.Config{Inputs: []string{cfg.Path}, Path: filepath.Join(dir, "again")})
		if err != nil || again.Packets != report.Packets || again.Inputs[0].Damage != nil || !again.Inputs[0].Sorted {
			t.Fatalf("the output is not whole: %v, %+v, want %d packets", err, again, report.Packets)
		}
	})
}
