package merge_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sshpcap/sshpcap/merge"
)

// tailPacket is a packet as the property test made it.
type tailPacket struct {
	time  int64
	iface int
	bytes []byte
}

// writeTail writes packets in the order given, with an interface that comes late, statistics and names in between, and
// returns the file and the places noted.
func writeTail(t *rapid.T, pcapng bool, packets []tailPacket, nano []bool) ([]byte, merge.Places, int64) {
	var file bytes.Buffer
	var places merge.Places
	newest, earliest := int64(-1), int64(1)<<62
	note := func(size int64, p tailPacket) {
		places.Note(size, newest)
		if p.time < newest {
			earliest = min(earliest, p.time)
		}
		newest = max(newest, p.time)
	}
	if !pcapng {
		w := merge.NewPcap(&file, merge.Header{LinkType: 1, Nano: nano[0]})
		for _, p := range packets {
			note(w.Size(), p)
			writeOne(t, func(b *merge.Batch) (int, error) { return w.WriteRun(b, b.Records) }, p)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return file.Bytes(), places, earliest
	}
	w := merge.NewPcapng(&file, merge.Section{Application: "test"})
	added := 0
	for i, p := range packets {
		for ; added <= p.iface; added++ {
			if _, err := w.AddInterface(merge.Interface{Name: string(rune('a' + added)), LinkType: 1, Nano: nano[added]}); err != nil {
				t.Fatal(err)
			}
		}
		note(w.Size(), p)
		if i%7 == 3 {
			n := uint64(i)
			if err := w.WriteStatistics(p.iface, merge.Statistics{Delivered: &n}); err != nil {
				t.Fatal(err)
			}
		}
		writeOne(t, func(b *merge.Batch) (int, error) {
			if i%5 == 0 {
				return w.WriteCommented(p.iface, b, b.Records[0], "a comment")
			}
			return w.WriteRun(p.iface, b, b.Records)
		}, p)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), places, earliest
}

func writeOne(t *rapid.T, write func(*merge.Batch) (int, error), p tailPacket) {
	b := &merge.Batch{Data: p.bytes, Records: []merge.Record{{Time: p.time, CapLen: uint32(len(p.bytes)), OrigLen: uint32(len(p.bytes))}}}
	if _, err := write(b); err != nil {
		t.Fatal(err)
	}
}

// The tail in order is the stable sort of its packets, and nothing else has changed.
func TestTailProperty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		pcapng := rapid.Bool().Draw(t, "pcapng")
		nano := []bool{rapid.Bool().Draw(t, "nano"), true, false}
		n, jitter := rapid.IntRange(0, 300).Draw(t, "packets"), rapid.Int64Range(0, 40).Draw(t, "jitter")
		random := rand.New(rand.NewPCG(uint64(n), rapid.Uint64().Draw(t, "seed")))
		var packets []tailPacket
		for i := range n {
			p := tailPacket{time: (int64(i/2) + random.Int64N(jitter+1)) * 1000, iface: random.IntN(3), bytes: make([]byte, random.IntN(2000))}
			for j := range p.bytes {
				p.bytes[j] = byte(i + j)
			}
			if !pcapng {
				p.iface = 0
			}
			packets = append(packets, p)
		}
		file, places, earliest := writeTail(t, pcapng, packets, nano)
		if earliest == 1<<62 {
			return // nothing was late
		}
		tail := merge.Tail{File: bytes.NewReader(file), From: places.Before(earliest), To: int64(len(file)), Pcapng: pcapng, Nano: nano,
			Dir: dir, Memory: rapid.IntRange(1, 20000).Draw(t, "memory")}
		out := bytes.NewBuffer(slices.Clone(file[:tail.From]))
		moved, err := tail.WriteOrdered(context.Background(), out)
		if err != nil || moved == 0 || out.Len() != len(file) {
			t.Fatalf("moved %d, %d of %d bytes, %v", moved, out.Len(), len(file), err)
		}
		slices.SortStableFunc(packets, func(a, b tailPacket) int { return int(a.time - b.time) })
		if got := blocksOf(t, out.Bytes(), pcapng); !slices.EqualFunc(got, packets, same) {
			t.Fatalf("not the stable sort of %d packets from byte %d on", len(packets), tail.From)
		}
	})
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func same(a, b tailPacket) bool { return a.iface == b.iface && bytes.Equal(a.bytes, b.bytes) }

// blocksOf reads packets back without any of the code under test; every interface must come before its packets.
func blocksOf(t *rapid.T, file []byte, pcapng bool) (packets []tailPacket) {
	u32 := func(at int) int {
		return int(file[at]) | int(file[at+1])<<8 | int(file[at+2])<<16 | int(file[at+3])<<24
	}
	if !pcapng {
		for at := 24; at < len(file); at += 16 + u32(at+8) {
			packets = append(packets, tailPacket{bytes: file[at+16 : at+16+u32(at+8)]})
		}
		return packets
	}
	interfaces := 0
	for at := 0; at < len(file); at += u32(at + 4) {
		switch u32(at) {
		case 1:
			interfaces++
		case 6:
			p := tailPacket{iface: u32(at + 8), bytes: file[at+28 : at+28+u32(at+20)]}
			if packets = append(packets, p); p.iface >= interfaces {
				t.Fatalf("a packet of interface %d before it", p.iface)
			}
		}
	}
	return packets
}

// Places are few however long the file, and say the last offset that will do.
func TestPlaces(t *testing.T) {
	t.Parallel()
	var p merge.Places
	if p.Before(5) != 0 {
		t.Error("no place")
	}
	const n, apart = 1 << 20, 100_000
	for i := range int64(n) {
		p.Note(24+i*apart, i)
	}
	for _, late := range []int64{-1, 0, 1, 4711, n / 2, n - 1, n + 7} {
		at := p.Before(late)
		if at != 24 && (at-24)/apart > late {
			t.Errorf("%d: what is before byte %d is newer", late, at)
		}
		if far := int64(apart) * n / 1000; at+far < 24+min(late, n-1)*apart {
			t.Errorf("%d: byte %d is far before what will do", late, at)
		}
	}
}

// What is no file of ours, or breaks while it is read, is an error and no panic; a ctx that ends ends it.
func TestTailBroken(t *testing.T) {
	t.Parallel()
	for name, file := range map[string][]byte{
		"short":       make([]byte, 7),
		"length 0":    make([]byte, 64),
		"length":      bytes.Repeat([]byte{0xff}, 64),
		"no such":     append([]byte{6, 0, 0, 0, 64, 0, 0, 0, 9, 0, 0, 0}, make([]byte, 52)...),
		"small block": append([]byte{6, 0, 0, 0, 16, 0, 0, 0}, make([]byte, 8)...),
		"cut":         append([]byte{6, 0, 0, 0, 200, 0, 0, 0}, make([]byte, 56)...),
	} {
		tail := merge.Tail{File: bytes.NewReader(file), To: int64(len(file)), Pcapng: true, Nano: []bool{true}}
		if _, err := tail.WriteOrdered(context.Background(), new(bytes.Buffer)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tail := merge.Tail{File: bytes.NewReader(make([]byte, 16)), To: 16, Nano: []bool{true}}
	if _, err := tail.WriteOrdered(ctx, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
		t.Errorf("ended ctx: %v", err)
	}
	late := append(append(make([]byte, 0), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), make([]byte, 32)...)
	tail = merge.Tail{File: bytes.NewReader(late), To: 48, Nano: []bool{true}, Dir: "/no/such/directory", Memory: 1}
	if _, err := tail.WriteOrdered(context.Background(), new(bytes.Buffer)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory for a temporary file: %v", err)
	}
}
