package files_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/files"
)

// However the packets are cut to rounds, and whoever of several workers merges which: the output is the stable sort.
func TestRounds(t *testing.T) { // not parallel: it sets what is global
	for _, c := range []struct {
		name      string
		backwards int64 // that a clock may go back at once
		unit      int64 // ns
	}{{"sorted", 0, 1000}, {"far apart", 0, 1e9}, {"unsorted", 300, 1000}} {
		for _, size := range []int{1, 10_000, 100_000} {
			t.Run(fmt.Sprint(c.name, " ", size), func(t *testing.T) {
				defer files.SetRoundSize(size)()
				rounds(t, c.backwards, c.unit)
			})
		}
	}
}

func rounds(t *testing.T, backwards, unit int64) {
	const each = 1500 // packets, in some ten chunks
	random := rand.New(rand.NewPCG(7, uint64(backwards)))
	dir := t.TempDir()
	var cfg files.Config
	var want []packet
	for i := range 20 { // more than may be read in large pieces
		var packets []packet
		clock := int64(1_700_000_000e9)
		for n := range each {
			step := random.Int64N(4)
			if backwards > 0 && random.IntN(100) == 0 {
				step -= random.Int64N(backwards)
			}
			if i == 3 {
				step *= 50 // is far ahead: the others are read until they reach it
			}
			clock += step * unit
			packets = append(packets, packet{time: clock, data: fmt.Sprintf("%d-%d %s", i, n, strings.Repeat("x", random.IntN(300)))})
		}
		content := pcap(binary.LittleEndian, false, packets)
		name := fmt.Sprint("in", i)
		switch i % 5 {
		case 1:
			content = pcapng(binary.BigEndian, name, 6, 1e6, 0, packets)
		case 2: // two sections, each with an interface
			content = append(pcapng(binary.LittleEndian, name, 6, 1e6, 0, packets[:each/2]), pcapng(binary.BigEndian, name, 9, 1e9, 0, packets[each/2:])...)
		case 4:
			content = gzipped(content)
		}
		cfg.Inputs = append(cfg.Inputs, write(t, dir, name, content))
		want = append(want, packets...)
	}
	slices.SortStableFunc(want, byTime)
	cfg.Path = filepath.Join(dir, "out")
	report := merge(t, cfg)
	got := readNg(t, cfg.Path)
	if report.Packets != int64(len(want)) || len(got) != len(want) {
		t.Fatalf("%d packets, reported %d, want %d", len(got), report.Packets, len(want))
	}
	for i := range got {
		if got[i].time != want[i].time || backwards == 0 && got[i].data != want[i].data {
			t.Fatalf("packet %d is %v, want %v", i, got[i], want[i])
		}
	}
	wantOptions(t, cfg.Path)
	for i, in := range report.Inputs {
		if in.Packets != each || backwards == 0 && !in.Sorted || in.Damage != nil {
			t.Errorf("input %d: %+v", i, in)
		}
	}
	slices.SortFunc(got, func(a, b packet) int { return strings.Compare(a.data, b.data) })
	slices.SortFunc(want, func(a, b packet) int { return strings.Compare(a.data, b.data) })
	if !slices.EqualFunc(got, want, func(a, b packet) bool { return a.data == b.data }) {
		t.Fatal("not the same packets")
	}
}

// wantOptions checks that packets of pcapng inputs, and no others, have their options.
func wantOptions(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	options := append(ngOption(le, 2, string(le.AppendUint32(nil, 0x12345))), ngOption(le, 1, "seen")...)
	options = append(options, 0, 0, 0, 0)
	for at := 0; at < len(content); at += int(le.Uint32(content[at+4:])) {
		block := content[at:][:le.Uint32(content[at+4:])]
		if le.Uint32(block) != 6 {
			continue
		}
		var input, n int
		if _, err := fmt.Sscanf(string(block[28:]), "%d-%d", &input, &n); err != nil {
			t.Fatal(err)
		}
		rest := block[28+(le.Uint32(block[20:])+3)&^3 : len(block)-4]
		if has, is := bytes.Equal(rest, options), input%5 == 1 || input%5 == 2; has != is || !has && len(rest) > 0 {
			t.Fatalf("packet %d of input %d: options %x", n, input, rest)
		}
	}
}

// What is no packet is written whole, although others write meanwhile, and once.
func TestBlocksBetweenRounds(t *testing.T) {
	defer files.SetRoundSize(1)()
	dir := t.TempDir()
	var packets, others []packet
	for n := range 2000 {
		packets = append(packets, packet{time: 1_700_000_000e9 + int64(n)*2000, data: strings.Repeat("a", 100)})
		others = append(others, packet{time: 1_700_000_000e9 + int64(n)*2000 + 1000, data: strings.Repeat("b", 100)})
	}
	with := pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, packets)
	for range 3 {
		with = append(with, ngBlock(binary.LittleEndian, 5, make([]byte, 12))...)
	}
	cfg := files.Config{Path: filepath.Join(dir, "out")}
	cfg.Inputs = []string{write(t, dir, "a", with), write(t, dir, "b", pcap(binary.LittleEndian, false, others))}
	if report := merge(t, cfg); report.Packets != 4000 {
		t.Fatalf("%+v", report)
	}
	if n := len(readNg(t, cfg.Path)); n != 4000 {
		t.Errorf("%d packets", n)
	}
	content, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	statistics := 0
	for at := 0; at < len(content); at += int(binary.LittleEndian.Uint32(content[at+4:])) {
		if binary.LittleEndian.Uint32(content[at:]) == 5 {
			statistics++
		}
	}
	if statistics != 3 {
		t.Errorf("%d blocks of statistics", statistics)
	}
}
