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
	unknown := ngBlock(binary.LittleEndian, 0x0bad, make([]byte, 1<<20))
	head := pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, nil)
	for name, how := range map[string]struct {
		content []byte
		inflate int // what it becomes
		most    int64
	}{
		"packets":        {sorted, 48 << 20, 24 << 20},
		"late packets":   {unsorted, 128 << 20, 160 << 20}, // 32 MiB of them are sorted at a time
		"unknown blocks": {gzippedOf(head, unknown, 64), 64 << 20, 24 << 20},
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

// TestTooMuchDescribed: interfaces, names and secrets are held, so there is a bound; beyond it the input is damaged, and
// the others are used.
func TestTooMuchDescribed(t *testing.T) {
	defer files.SetMaxHeld(1 << 20)()
	dir := t.TempDir()
	good := write(t, dir, "good", pcap(binary.LittleEndian, false, three))
	head := pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, three[:1])
	bad := write(t, dir, "bad", gzippedOf(head, ngInterfaces(1, 60_000), 100))
	for _, rotate := range []int64{0, 1 << 20} {
		out := filepath.Join(t.TempDir(), "out")
		report := merge(t, files.Config{Inputs: []string{bad, good}, Path: out, RotateSize: rotate})
		damage := report.Inputs[0].Damage
		if damage == nil || damage.Offset < 900_000 || damage.Offset > 1100_000 || report.Inputs[1].Damage != nil || report.Packets != 4 {
			t.Errorf("%+v, damage %v", report, damage)
		}
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

// TestUnreadablePackets: a packet at which Wireshark would give up the whole output ends its input.
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
			if d := report.Inputs[0].Damage; d == nil || !strings.Contains(d.Reason, "header") || report.Packets != 3 {
				t.Errorf("%+v, %v", report, d)
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
