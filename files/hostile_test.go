package files_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/sshpcap/sshpcap/files"
)

// grown runs f and returns how many bytes of memory were in use at most while it ran, beside what was before.
func grown(f func()) int64 {
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	stop, most := make(chan struct{}), make(chan int64, 1)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		peak := int64(0)
		for {
			runtime.ReadMemStats(&now)
			peak = max(peak, int64(now.HeapAlloc)-int64(before.HeapAlloc))
			select {
			case <-tick.C:
			case <-stop:
				most <- peak
				return
			}
		}
	}()
	f()
	close(stop)
	return <-most
}

// gzippedOf compresses piece again and again, behind head.
func gzippedOf(head, piece []byte, times int) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(head)
	for range times {
		w.Write(piece)
	}
	w.Close()
	return b.Bytes()
}

// ngInterfaces makes interfaces with a comment each.
func ngInterfaces(n, comment int) []byte {
	order := binary.LittleEndian
	body := order.AppendUint32(order.AppendUint16(order.AppendUint16(nil, 1), 0), 65535)
	body = append(body, ngOption(order, 1, strings.Repeat("c", comment))...)
	return bytes.Repeat(ngBlock(order, 1, body), n)
}

// TestBombs: what a small compressed file becomes goes to the disk, packet by packet, and not into memory.
func TestBombs(t *testing.T) {
	dir := t.TempDir()
	record := pcap(binary.LittleEndian, false, three)[24:]
	many := bytes.Repeat(record, 4<<20/len(record))
	unsorted := gzippedOf(pcap(binary.LittleEndian, false, nil), many, 32)
	sorted := gzippedOf(pcap(binary.LittleEndian, false, nil), make([]byte, 4<<20), 12) // empty ones
	unknown, customs := ngBlock(binary.LittleEndian, 0x0bae, make([]byte, 1<<20)), ngBlock(binary.LittleEndian, 0x0bad, make([]byte, 1<<20))
	head := pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, nil)
	for name, how := range map[string]struct {
		content []byte
		inflate int // what it becomes
		most    int64
	}{
		"packets":        {sorted, 48 << 20, 24 << 20},
		"late packets":   {unsorted, 128 << 20, 160 << 20}, // 32 MiB of them are sorted at a time
		"unknown blocks": {gzippedOf(head, unknown, 64), 64 << 20, 24 << 20},
		"custom blocks":  {gzippedOf(head, customs, 36), 36 << 20, 24 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "late packets" && os.Getenv("SSHPCAP_SOAK") == "" {
				t.Skip("takes long: SSHPCAP_SOAK=1")
			}
			path := write(t, dir, "bomb", how.content)
			if len(how.content)*50 > how.inflate {
				t.Fatalf("%d bytes are no bomb", len(how.content))
			}
			out := filepath.Join(dir, "out")
			got := grown(func() { merge(t, files.Config{Inputs: []string{path}, Path: out, Overwrite: true}) })
			t.Logf("%d bytes become %d; memory %d", len(how.content), how.inflate, got)
			if got > how.most {
				t.Errorf("took %d bytes of memory", got)
			}
		})
	}
}

// ngStatistics makes statistics of an interface, at a time in microseconds.
func ngStatistics(iface, at int) []byte {
	order := binary.LittleEndian
	body := order.AppendUint32(nil, uint32(iface))
	body = order.AppendUint32(order.AppendUint32(body, uint32(at>>32)), uint32(at))
	body = append(body, ngOption(order, 4, string(order.AppendUint64(nil, 77)))...)
	return ngBlock(order, 5, append(body, 0, 0, 0, 0))
}

// blocksOf returns the bodies of a little-endian file's blocks, by their types.
func blocksOf(t testing.TB, paths ...string) map[uint32][][]byte {
	t.Helper()
	all := make(map[uint32][][]byte)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for len(content) > 0 {
			n := int(binary.LittleEndian.Uint32(content[4:]))
			if n < 12 || n%4 != 0 || n > len(content) || binary.LittleEndian.Uint32(content[n-4:]) != uint32(n) {
				t.Fatalf("%s: a block of %d bytes", path, n)
			}
			kind := binary.LittleEndian.Uint32(content)
			all[kind] = append(all[kind], content[8:n-4])
			content = content[n:]
		}
	}
	return all
}

// TestTooMuchDescribed: what is held of interfaces has a bound. Beyond it the input is damaged, and the others are used. A
// single output holds none of their descriptions.
func TestTooMuchDescribed(t *testing.T) {
	defer files.SetMaxHeld(8 << 20)()
	dir := t.TempDir()
	good := write(t, dir, "good", pcap(binary.LittleEndian, false, three))
	head := pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, three[:1])
	bad := write(t, dir, "bad", gzippedOf(head, ngInterfaces(1, 60_000), 100))
	for _, rotate := range []int64{0, 1 << 20} {
		out := filepath.Join(t.TempDir(), "out")
		report := merge(t, files.Config{Inputs: []string{bad, good}, Path: out, RotateSize: rotate})
		damage := report.Inputs[0].Damage
		if rotate == 0 && (damage != nil || report.Inputs[0].Interfaces != 101) {
			t.Errorf("%+v, damage %v", report, damage)
		}
		// 2 MiB are its own and as much is half of what is for all, and each byte counts twice.
		if rotate > 0 && (damage == nil || damage.Offset < 1_900_000 || damage.Offset > 2_100_000) {
			t.Errorf("%+v, damage %v", report, damage)
		}
		if report.Inputs[1].Damage != nil || report.Packets != 4 {
			t.Errorf("%+v, damage %v", report, report.Inputs[1].Damage)
		}
	}
}

// TestTooMuchOfOneInput: what one input takes is never another's, in whatever order and how many at a time they are read.
func TestTooMuchOfOneInput(t *testing.T) {
	defer files.SetMaxHeld(4 << 20)()
	dir := t.TempDir()
	good := write(t, dir, "good", pcap(binary.LittleEndian, false, three))
	named := write(t, dir, "named", append(pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, three), ngBlock(binary.LittleEndian, 4, make([]byte, 100))...))
	bad := write(t, dir, "bad", append(pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, three[:1]), ngInterfaces(20_000, 0)...))
	inputs := []string{bad, good, bad, named, bad, good}
	for name, cfg := range map[string]files.Config{
		"pcap": {Format: files.Pcap}, "pcapng": {}, "rotated": {RotateSize: 1 << 20}, "stream": {Out: new(bytes.Buffer)}, "in groups": {MaxOpen: 2},
		"in groups, rotated": {MaxOpen: 2, RotateInterval: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Inputs, cfg.Path = inputs, filepath.Join(t.TempDir(), "out")
			report := merge(t, cfg)
			for i, in := range report.Inputs {
				if (in.Damage != nil) != (inputs[i] == bad) || in.Damage != nil && in.Damage.Offset < 10_000 {
					t.Errorf("%+v, %v", in, in.Damage)
				}
				if want := map[string]int64{bad: 1}[inputs[i]]; in.Packets != max(want, 3*min(1, 1-want)) {
					t.Errorf("%+v, %d packets", in, in.Packets)
				}
			}
		})
	}
}

// TestTooManyNames: names that every file of a rotated output would have are left out when there are too many, and counted. In
// one file all are kept.
func TestTooManyNames(t *testing.T) {
	defer files.SetMaxHeld(1 << 20)()
	dir := t.TempDir()
	order := binary.LittleEndian
	names := ngBlock(order, 4, append(ngOption(order, 1, "\x0a\x00\x00\x01"+strings.Repeat("n", 1000)+"\x00"), 0, 0, 0, 0))
	head, packets := pcapng(order, "eth0", 6, 1e6, 0, three[:1]), pcapng(order, "eth0", 6, 1e6, 0, three)
	in := write(t, dir, "in", slices.Concat(head, bytes.Repeat(names, 1000), packets))
	report := merge(t, files.Config{Inputs: []string{in}, Path: filepath.Join(dir, "one")})
	if got := blocksOf(t, report.Files...); len(got[4]) != 1000 || len(report.Inputs[0].Notes) > 0 || report.Packets != 4 {
		t.Errorf("%d names, %+v", len(got[4]), report)
	}
	report = merge(t, files.Config{Inputs: []string{in}, Path: filepath.Join(dir, "many"), RotateInterval: time.Hour})
	got := blocksOf(t, report.Files...)
	notes := report.Inputs[0].Notes
	if report.Packets != 4 || report.Inputs[0].Damage != nil || len(notes) != 1 || len(got[4])+int(notes[0].Count) != 1000 || len(got[4]) < 400 {
		t.Errorf("%d names, %+v", len(got[4]), report)
	}
}

// TestRotateManyStatistics: statistics go into the file where they stand and are not held, however many there are, also
// where they come before the first packet. They make no file larger than it is to be.
func TestRotateManyStatistics(t *testing.T) {
	defer files.SetMaxHeld(1 << 20)()
	const size = 100_000
	order := binary.LittleEndian
	content := append(pcapng(order, "eth0", 6, 1e6, 0, nil), ngInterfaces(99, 0)...)
	statistics, packets, clock := 0, 0, 1_700_000_000_000_000
	for second := range 400 {
		clock += 1e6
		for i := range 100 {
			content = append(content, ngStatistics(i, clock)...)
			statistics++
		}
		if second > 300 { // before it there are statistics only
			body := order.AppendUint32(order.AppendUint32(order.AppendUint32(nil, 5), uint32(clock>>32)), uint32(clock&0xffffffff))
			body = order.AppendUint32(order.AppendUint32(body, 4), 11)
			content = append(content, ngBlock(order, 6, append(body, "data"...))...)
			packets++
		}
	}
	dir := t.TempDir()
	in := write(t, dir, "in", content)
	report := merge(t, files.Config{Inputs: []string{in}, Path: filepath.Join(dir, "out"), RotateSize: size})
	got := blocksOf(t, report.Files...)
	if in := report.Inputs[0]; in.Damage != nil || report.Packets != int64(packets) || len(got[6]) != packets || len(got[5]) != statistics || len(report.Files) < 5 {
		t.Errorf("%d packets and %d statistics of %d and %d: %+v %v", len(got[6]), len(got[5]), packets, statistics, in, in.Damage)
	}
	for _, file := range report.Files[1:] { // the first one has all that comes before a packet
		if info, err := os.Stat(file); err != nil || info.Size() > size {
			t.Errorf("%s: %v, %d bytes", file, err, info.Size())
		}
	}
	if first := filepath.Base(report.Files[0]); !strings.HasPrefix(first, "out_00001_20231114T2217") {
		t.Errorf("the first file is %s, not of when it was begun", first)
	}
}

// zstdOf is content as zstd that claims to need a window of 2^n bytes (RFC 8878): the frame's header, and one raw block.
func zstdOf(n int, content []byte) []byte {
	size := uint32(len(content))<<3 | 1 // the last block
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(n-10) << 3, byte(size), byte(size >> 8), byte(size >> 16)}
	return append(frame, content...)
}

// TestZstdWindow: a small input may claim a large window; all inputs together have a bound, and few may have much.
func TestZstdWindow(t *testing.T) {
	content := pcap(binary.LittleEndian, false, three)
	for _, how := range []struct {
		inputs, window int
		ok             bool
	}{
		{1, 27, true}, {4, 27, true}, {5, 27, false}, {1, 28, false}, {1, 41, false}, {64, 23, true}, {65, 24, false},
	} {
		dir := t.TempDir()
		var inputs []string
		for i := range how.inputs {
			inputs = append(inputs, write(t, dir, fmt.Sprint(i), zstdOf(how.window, content)))
		}
		cfg := files.Config{Inputs: inputs, Path: filepath.Join(dir, "out")}
		var err error
		got := grown(func() { _, err = files.Merge(context.Background(), cfg) })
		t.Logf("%d inputs, window 2^%d: memory %d, %v", how.inputs, how.window, got, err)
		var input *files.InputError
		const most = 2*512<<20 + 64<<20 // with as much garbage as there are windows
		if got > most || how.ok != (err == nil) || err != nil && !errors.As(err, &input) {
			t.Errorf("%d inputs, window 2^%d: memory %d, %v", how.inputs, how.window, got, err)
		}
	}
}

// TestUnreadablePackets: a packet at which Wireshark would give up the whole output is left out, and counted.
func TestUnreadablePackets(t *testing.T) {
	dir := t.TempDir()
	good := write(t, dir, "good", pcap(binary.LittleEndian, false, three))
	short := pcap(binary.LittleEndian, false, []packet{{time: 1, data: "\xff\xff\xff"}})
	short[20] = 197 // ERF
	ng := pcapng(binary.BigEndian, "x", 6, 1e6, 0, []packet{{time: 1, data: "\xff\xff\xff"}})
	at := bytes.Index(ng, []byte{0, 0, 0, 1, 0, 0})
	binary.BigEndian.PutUint16(ng[at+8:], 144) // LINUX_IRDA
	for name, content := range map[string][]byte{"pcap": short, "pcapng": ng} {
		t.Run(name, func(t *testing.T) {
			bad := write(t, dir, "bad"+name, content)
			out := filepath.Join(dir, "out"+name)
			report := merge(t, files.Config{Inputs: []string{bad, good}, Path: out})
			in := report.Inputs[0]
			if in.Damage != nil || in.Skipped != 1 || len(in.Notes) != 1 || !strings.Contains(in.Notes[0].Text, "without the header") || report.Packets != 3 {
				t.Errorf("%+v", report)
			}
		})
	}
}

// TestLargeBlockBehindLatePackets: what is put in order may hold the largest blocks that are taken.
func TestLargeBlockBehindLatePackets(t *testing.T) {
	dir := t.TempDir()
	order := binary.LittleEndian
	late := slices.Clone(three)
	slices.Reverse(late)
	secret := order.AppendUint32(order.AppendUint32(nil, 0x544c534b), 8<<20)
	content := append(pcapng(order, "eth0", 6, 1e6, 0, late), ngBlock(order, 10, append(secret, make([]byte, 8<<20)...))...)
	// The first packet of all comes last.
	content = append(content, pcapng(order, "eth1", 6, 1e6, 0, []packet{{time: 1, data: "x"}})...)
	in, out := write(t, dir, "in", content), filepath.Join(dir, "out")
	report := merge(t, files.Config{Inputs: []string{in}, Path: out})
	if info, err := os.Stat(out); err != nil || info.Size() < 8<<20 || report.Packets != 4 || report.Inputs[0].Damage != nil || report.Moved == 0 {
		t.Errorf("%v %+v", err, report)
	}
	again := merge(t, files.Config{Inputs: []string{out}, Path: filepath.Join(dir, "again")})
	if again.Packets != 4 || !again.Inputs[0].Sorted {
		t.Errorf("%+v", again)
	}
}

// TestAbsurdTimes: times from the first to the last that there are stay in order, and none is lost.
func TestAbsurdTimes(t *testing.T) {
	dir := t.TempDir()
	far := []packet{{time: 0, data: "a"}, {time: math.MaxUint32 * 1e9, data: "b"}, {time: 1, data: "c"}}
	var inputs []string
	for i, name := range []string{"a", "b"} {
		inputs = append(inputs, write(t, dir, name, pcap(binary.LittleEndian, i == 0, far)))
	}
	out := filepath.Join(dir, "out")
	if report := merge(t, files.Config{Inputs: inputs, Path: out}); report.Packets != 6 {
		t.Errorf("%+v", report)
	}
	if again := merge(t, files.Config{Inputs: []string{out}, Path: filepath.Join(dir, "again")}); again.Packets != 6 || !again.Inputs[0].Sorted {
		t.Errorf("%+v", again)
	}
}
