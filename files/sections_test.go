package files_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/sshpcap/sshpcap/files"
)

// ngSection begins a section.
func ngSection(order binary.AppendByteOrder, options ...[]byte) []byte {
	body := order.AppendUint64(order.AppendUint16(order.AppendUint16(order.AppendUint32(nil, 0x1a2b3c4d), 1), 0), ^uint64(0))
	return ngBlock(order, 0x0a0d0d0a, append(body, slices.Concat(options...)...))
}

func ngInterface(order binary.AppendByteOrder, name string, options ...[]byte) []byte {
	body := order.AppendUint32(order.AppendUint32(nil, 0), 0)
	order.(interface{ PutUint16([]byte, uint16) }).PutUint16(body, 1)
	return ngBlock(order, 1, append(append(body, ngOption(order, 2, name)...), slices.Concat(options...)...))
}

// ngPacket makes a packet of the first interface, at a time in microseconds.
func ngPacket(order binary.AppendByteOrder, at int64, data string, options ...[]byte) []byte {
	body := order.AppendUint32(order.AppendUint32(order.AppendUint32(nil, 0), uint32(at>>32)), uint32(at))
	body = order.AppendUint32(order.AppendUint32(body, uint32(len(data))), uint32(len(data)))
	body = append(append(body, data...), make([]byte, -len(data)&3)...)
	return ngBlock(order, 6, append(body, slices.Concat(options...)...))
}

// ngCustom makes the body of a custom block, or the value of a custom option.
func ngCustom(order binary.AppendByteOrder, text string) []byte {
	return append(order.AppendUint32(nil, 32473), text...)
}

// ngJournal makes an entry of a journal, at a time in microseconds.
func ngJournal(order binary.AppendByteOrder, at int64, message string) []byte {
	return ngBlock(order, 9, fmt.Appendf(nil, "__CURSOR=x\n__REALTIME_TIMESTAMP=%d\nMESSAGE=%s\n", at, message))
}

// optionsFrom reads a little-endian list: the values of each code.
func optionsFrom(list []byte) map[uint16][]string {
	all := make(map[uint16][]string)
	for len(list) >= 4 && binary.LittleEndian.Uint16(list) != 0 {
		code, n := binary.LittleEndian.Uint16(list), int(binary.LittleEndian.Uint16(list[2:]))
		all[code] = append(all[code], string(list[4:4+n]))
		list = list[4+n+-n&3:]
	}
	return all
}

var orders = map[string]binary.AppendByteOrder{"little": binary.LittleEndian, "big": binary.BigEndian}

const at0 = 1_700_000_000_000_000

// sectionOf has all that a section says of itself.
func sectionOf(order binary.AppendByteOrder) []byte {
	return ngSection(order, ngOption(order, 1, "ticket 4711"), ngOption(order, 1, "call back"), ngOption(order, 2, "rack 7"), ngOption(order, 3, "Linux 6.1"),
		ngOption(order, 4, "dumpcap"), ngOption(order, 2988, string(ngCustom(order, "copy"))), ngOption(order, 19372, string(ngCustom(order, "do not copy"))))
}

// What the section of the only input says of itself is what the output says, also of each of several files.
func TestSectionOfOneInput(t *testing.T) {
	t.Parallel()
	for name, order := range orders {
		sorted := slices.Concat(sectionOf(order), ngInterface(order, "eth0"), ngPacket(order, at0, "a"), ngPacket(order, at0+2e6, "b"))
		unsorted := append(slices.Clone(sorted), ngPacket(order, at0+1e6, "c")...)
		for what, cfg := range map[string]files.Config{
			"file": {}, "rotated": {RotateInterval: time.Second}, "unsorted": {}, "unsorted rotated": {RotateInterval: time.Second},
		} {
			dir := t.TempDir()
			content := sorted
			if strings.HasPrefix(what, "unsorted") {
				content = unsorted
			}
			cfg.Inputs, cfg.Path, cfg.Application = []string{write(t, dir, "in", content)}, filepath.Join(dir, "out"), "sshpcap"
			report := merge(t, cfg)
			for _, file := range report.Files {
				all := blocksOf(t, file)
				got := optionsFrom(all[0x0a0d0d0a][0][16:])
				want := map[uint16][]string{1: {"ticket 4711", "call back"}, 2: {"rack 7"}, 3: {"Linux 6.1"}, 4: {"dumpcap"}, 2988: {string(ngCustom(binary.LittleEndian, "copy"))}}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s %s: %v", name, what, got)
				}
				if comments := optionsFrom(all[1][0][8:])[1]; len(comments) > 0 {
					t.Errorf("%s %s: the interface has %q, too", name, what, comments)
				}
			}
			if notes := report.Inputs[0].Notes; len(notes) != 1 || notes[0].What != "custom option" || notes[0].Count != 1 {
				t.Errorf("%s %s: %+v", name, what, notes)
			}
		}
	}
}

// Of several sections each one's words stand at its interfaces, once; those that are what the output says anyway do not.
func TestSectionsOfSeveral(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	order := binary.BigEndian
	first := slices.Concat(sectionOf(order), ngInterface(order, "eth0"), ngInterface(order, "eth1", ngOption(order, 1, "mine"), ngOption(order, 1, "ticket 4711")), ngPacket(order, at0, "a"))
	second := slices.Concat(ngSection(order, ngOption(order, 1, "other")), ngInterface(order, "wlan0"), ngPacket(order, at0+1, "b"))
	third := slices.Concat(ngSection(order, ngOption(order, 3, "linux amd64"), ngOption(order, 4, "sshpcap 9")), ngInterface(order, "ens0"), ngPacket(order, at0+2, "c"))
	empty := ngSection(order, ngOption(order, 1, "without an interface"))
	inputs := []string{write(t, dir, "a", append(first, second...)), write(t, dir, "b", third), write(t, dir, "c", append(empty, second...))}
	for what, cfg := range map[string]files.Config{"file": {}, "groups": {MaxOpen: 2}, "rotated": {RotateInterval: time.Hour}} {
		cfg.Inputs, cfg.Path, cfg.Application = inputs, filepath.Join(dir, "out "+what), "sshpcap 9"
		report := merge(t, cfg)
		for range 2 { // and again: nothing is added
			all := blocksOf(t, report.Files...)
			about := "section: hardware rack 7, system Linux 6.1, application dumpcap"
			want := map[string][]string{"eth0": {"ticket 4711", "call back", about}, "eth1": {"mine", "ticket 4711", "call back", about}, "wlan0": {"other"}, "ens0": nil}
			for _, body := range all[1] {
				options := optionsFrom(body[8:])
				if got := options[1]; !slices.Equal(got, want[options[2][0]]) {
					t.Errorf("%s: %s has %q", what, options[2], got)
				}
			}
			if got := optionsFrom(all[0x0a0d0d0a][0][16:]); len(all[1]) != 5 || got[4][0] != "sshpcap 9" || len(got[1])+len(got[2]) > 0 {
				t.Errorf("%s: %d interfaces, section %v", what, len(all[1]), got)
			}
			notes := report.Inputs[0].Notes
			if len(report.Inputs) > 1 && (len(notes) != 2 || len(report.Inputs[1].Notes) > 0 || len(report.Inputs[2].Notes) != 1) {
				t.Errorf("%s: %+v", what, report.Inputs)
			}
			again := files.Config{Inputs: append(report.Files, write(t, dir, "none", pcap(order, false, nil))), Path: filepath.Join(t.TempDir(), "again"), Application: "sshpcap 9"}
			r := merge(t, again)
			kept := blocksOf(t, r.Files...)
			if len(kept[1]) != 6 {
				t.Fatalf("%d interfaces", len(kept[1]))
			}
			report = merge(t, files.Config{Inputs: report.Files, Path: filepath.Join(t.TempDir(), "alone"), Application: "sshpcap 9"})
		}
	}
}

// A small file with long comments does not become a large one, and nothing makes a block that cannot be read again.
func TestLongSectionComments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	order := binary.LittleEndian
	long := bytes.Repeat(ngOption(order, 1, strings.Repeat("x", 60_000)), 40)
	content := slices.Concat(ngSection(order, long), bytes.Repeat(ngInterface(order, "eth0"), 1000), ngPacket(order, at0+5, "a"), ngPacket(order, at0, "b"))
	in, other := write(t, dir, "in", content), write(t, dir, "other", pcap(order, false, three))
	report := merge(t, files.Config{Inputs: []string{in, other}, Path: filepath.Join(dir, "out")})
	if notes := report.Inputs[0].Notes; report.Size > 500_000 || report.Packets != 5 || len(notes) != 1 || notes[0].Count != 36 {
		t.Errorf("%+v", report)
	}
	alone := merge(t, files.Config{Inputs: []string{in}, Path: filepath.Join(dir, "alone"), RotateInterval: time.Hour})
	if got := blocksOf(t, alone.Files...); len(alone.Inputs[0].Notes) > 0 || len(optionsFrom(got[0x0a0d0d0a][0][16:])[1]) != 40 {
		t.Errorf("%+v", alone)
	}
}

// Custom blocks and options are copied where their makers let them be, whatever the byte order; others are counted.
func TestCustom(t *testing.T) {
	t.Parallel()
	for name, order := range orders {
		dir := t.TempDir()
		with := func() []byte {
			return slices.Concat(ngOption(order, 2988, string(ngCustom(order, "copy"))), ngOption(order, 2989, string(ngCustom(order, "bytes"))),
				ngOption(order, 19372, string(ngCustom(order, "do not copy"))), ngOption(order, 19373, string(ngCustom(order, "nor these"))))
		}
		content := slices.Concat(ngSection(order), ngBlock(order, 0xbad, ngCustom(order, "first")), ngInterface(order, "eth0", with()),
			ngPacket(order, at0, "a", with()), ngBlock(order, 0xbad, ngCustom(order, "second")), ngBlock(order, 0x40000bad, ngCustom(order, "do not copy")),
			ngPacket(order, at0+5, "b"), ngBlock(order, 0xbad, []byte{1}), ngBlock(order, 0xbad, ngCustom(order, "last")))
		in := write(t, dir, "in", content)
		other := write(t, dir, "other", slices.Concat(ngSection(order), ngInterface(order, "eth1"), ngPacket(order, at0+1, "c")))
		report := merge(t, files.Config{Inputs: []string{in, other}, Path: filepath.Join(dir, "out")})
		got := blocksOf(t, report.Files...)
		var customs []string
		for _, body := range got[0xbad] {
			if pen := binary.LittleEndian.Uint32(body); pen != 32473 && pen != 1 && pen != 1<<24 { // that of one which is cut short is padded
				t.Errorf("%s: its maker is %d", name, pen)
			}
			customs = append(customs, strings.TrimRight(string(body[4:]), "\x00"))
		}
		if want := []string{"first", "second", "", "last"}; !slices.Equal(customs, want) && name == "little" || len(customs) != 4 || len(got[0x40000bad]) > 0 {
			t.Errorf("%s: %q", name, customs)
		}
		for what, options := range map[string]map[uint16][]string{"interface": optionsFrom(got[1][0][8:]), "packet": optionsFrom(got[6][0][24:])} {
			want := []string{string(ngCustom(binary.LittleEndian, "copy")), string(ngCustom(binary.LittleEndian, "bytes"))}
			if kept := append(options[2988], options[2989]...); !slices.Equal(kept, want) || len(options[19372])+len(options[19373]) > 0 {
				t.Errorf("%s: %s has %v", name, what, options)
			}
		}
		want := []files.Note{{What: "custom option", Text: "left out: not to be copied", Count: 4}, {What: "custom block", Text: "left out: not to be copied", Count: 1}}
		if notes := report.Inputs[0].Notes; !slices.Equal(notes, want) || report.Packets != 3 || report.Inputs[0].Packets != 2 {
			t.Errorf("%s: %+v", name, report)
		}
		// They stand where they stood, by the times of what is before them.
		if order := kindsOf(t, report.Files[0]); !slices.Equal(order, []string{"bad", "a", "bad", "c", "b", "bad", "bad"}) {
			t.Errorf("%s: %q", name, order)
		}
		plain := merge(t, files.Config{Inputs: []string{in, other}, Format: files.Pcap, Path: filepath.Join(dir, "plain")})
		if plain.Packets != 3 || len(plain.Inputs[0].Notes) < 2 {
			t.Errorf("%s: %+v", name, plain)
		}
	}
}

// kindsOf is what stands in a file behind its interfaces, in its order: packets by their data, and the types of others.
func kindsOf(t testing.TB, path string) (all []string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for len(content) > 0 {
		n := int(binary.LittleEndian.Uint32(content[4:]))
		switch kind := binary.LittleEndian.Uint32(content); kind {
		case 1, 0x0a0d0d0a:
		case 6:
			all = append(all, string(content[28:][:binary.LittleEndian.Uint32(content[20:])]))
		case 9:
			_, message, _ := strings.Cut(string(content[8:n-4]), "MESSAGE=")
			message, _, _ = strings.Cut(message, "\n")
			all = append(all, message)
		default:
			all = append(all, fmt.Sprintf("%x", kind))
		}
		content = content[n:]
	}
	return all
}

// Entries of a journal have their places by their times; those that have none stay where they are.
func TestJournal(t *testing.T) {
	t.Parallel()
	order := binary.BigEndian
	binaryField := string(binary.LittleEndian.AppendUint64([]byte("MESSAGE\n"), 26)) + "\n__REALTIME_TIMESTAMP=99\nx\n\n"
	fooling := ngBlock(order, 9, fmt.Appendf(nil, "%s__REALTIME_TIMESTAMP=%d\nMESSAGE=j1\n", binaryField, at0+1))
	content := slices.Concat(ngSection(order), ngBlock(order, 9, []byte("MESSAGE=before all\n")), ngInterface(order, "eth0"), ngPacket(order, at0, "p0"), fooling,
		ngPacket(order, at0+2, "p2"), ngBlock(order, 9, []byte("MESSAGE=no time\n")), ngPacket(order, at0+6, "p6"), ngJournal(order, at0+7, "j7"))
	late := slices.Concat(ngSection(order), ngJournal(order, at0+3, "k3"), ngInterface(order, "eth1"), ngPacket(order, at0+9, "q9"), ngJournal(order, at0+4, "k4"), ngPacket(order, at0+5, "q5"))
	want := []string{"before all", "p0", "j1", "p2", "no time", "k3", "k4", "q5", "p6", "j7", "q9"}
	for what, cfg := range map[string]files.Config{"file": {}, "rotated": {RotateInterval: time.Hour}, "small files": {RotateSize: 300}, "stream": {Out: new(bytes.Buffer)}} {
		dir := t.TempDir()
		cfg.Inputs, cfg.Path = []string{write(t, dir, "a", content), write(t, dir, "b", late)}, filepath.Join(dir, "out")
		report := merge(t, cfg)
		if out, ok := cfg.Out.(*bytes.Buffer); ok {
			report.Files = []string{write(t, dir, "stream", out.Bytes())}
		}
		var got []string
		for _, file := range report.Files {
			got = append(got, kindsOf(t, file)...)
		}
		if !slices.Equal(got, want) || report.Packets != 5 || report.Inputs[0].Packets != 3 || len(report.Inputs[0].Notes) > 0 || report.Inputs[1].Sorted {
			t.Errorf("%s: %q, %+v", what, got, report)
		}
	}
}

// What stands among packets keeps its place among them, whatever the rounds and the files are that they come in.
func TestBlocksAmongPackets(t *testing.T) { // not parallel: it sets what is global
	defer files.SetRoundSize(3000)()
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		type item struct {
			at   int64
			what string
		}
		var want []item
		var cfg files.Config
		for i := range rapid.IntRange(1, 5).Draw(rt, "inputs") {
			order := orders[rapid.SampledFrom([]string{"big", "little"}).Draw(rt, "order")]
			content := append(ngSection(order), ngInterface(order, fmt.Sprint("eth", i))...)
			clock := int64(at0)
			content = append(content, ngPacket(order, clock, fmt.Sprint(i, " first"))...)
			want = append(want, item{clock, fmt.Sprint(i, " first")})
			for n := range rapid.IntRange(0, 80).Draw(rt, "items") {
				step := rapid.Int64Range(0, 2).Draw(rt, "step")
				what := fmt.Sprintf("%d-%d%s", i, n, strings.Repeat("x", n%13))
				switch rapid.IntRange(0, 9).Draw(rt, "kind") {
				case 0:
					content = append(content, ngBlock(order, 0xbad, ngCustom(order, "x"))...)
					want = append(want, item{clock, "bad"})
					continue
				case 1:
					clock += step
					content = append(content, ngJournal(order, clock, what)...)
				case 2:
					clock += step
					content = append(content, ngPacket(order, clock, what, ngOption(order, 1, "seen"))...)
				default:
					clock += step
					content = append(content, ngPacket(order, clock, what)...)
				}
				want = append(want, item{clock, what})
			}
			cfg.Inputs = append(cfg.Inputs, write(t, dir, fmt.Sprint(i), content))
		}
		cfg.Path = filepath.Join(dir, fmt.Sprint(run, ".out"))
		cfg.RotateSize = rapid.SampledFrom([]int64{0, 2000}).Draw(rt, "rotate")
		cfg.MaxOpen = rapid.SampledFrom([]int{0, 2}).Draw(rt, "open")
		cfg.Dedup = rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(rt, "dedup")
		report := merge(t, cfg)
		slices.SortStableFunc(want, func(a, b item) int { return int(a.at - b.at) })
		var got []string
		for _, file := range report.Files {
			got = append(got, kindsOf(t, file)...)
		}
		packets := int64(0)
		for i, w := range want {
			if i >= len(got) || got[i] != w.what {
				rt.Fatalf("item %d of %q is not %q", i, got, w.what)
			}
		}
		for _, file := range report.Files {
			packets += int64(len(blocksOf(t, file)[6]))
			os.Remove(file)
		}
		for _, in := range report.Inputs {
			if !in.Sorted {
				rt.Fatalf("%s is called out of order", in.Name)
			}
		}
		if len(got) != len(want) || packets != report.Packets {
			rt.Fatalf("%d items of %d, %d packets, %d are told", len(got), len(want), packets, report.Packets)
		}
	})
}

// Blocks whose length is not a multiple of 4 are read if they are padded all the same, wherever they stand in what is read.
func TestUnpaddedBlocks(t *testing.T) {
	t.Parallel()
	for name, order := range orders {
		unpad := func(block []byte, both bool) []byte {
			block = slices.Clone(block)
			n := order.(binary.ByteOrder).Uint32(block[4:]) - 1
			order.(binary.ByteOrder).PutUint32(block[4:], n)
			if both {
				order.(binary.ByteOrder).PutUint32(block[len(block)-4:], n)
			}
			return block
		}
		dir := t.TempDir()
		head := append(ngSection(order), ngInterface(order, "eth0")...)
		const many = 2000
		content := slices.Clone(head)
		for i := range int64(many) {
			content = append(content, unpad(ngPacket(order, at0+i, fmt.Sprintf("%07d", i)), i%2 == 0)...)
			content = append(content, ngPacket(order, at0+i, fmt.Sprint(i))...)
		}
		content = append(content, unpad(ngPacket(order, at0+many, "the end"), true)...)
		report := merge(t, files.Config{Inputs: []string{"-"}, Stdin: iotest.OneByteReader(bytes.NewReader(content)), Path: filepath.Join(dir, "out")})
		in := report.Inputs[0]
		if in.Damage != nil || in.Packets != 2*many+1 || len(in.Notes) != 1 || in.Notes[0].Count != many+1 {
			t.Errorf("%s: %+v %v", name, in, in.Damage)
		}
		blocksOf(t, report.Files...)
		// What follows makes no sense: then the length does not either.
		for what, tail := range map[string][]byte{"zeros": make([]byte, 64), "cut": {1, 2, 3}, "text": []byte("some text that is no block at all")} {
			content := slices.Concat(head, ngPacket(order, at0, "good"), unpad(ngPacket(order, at0+1, "seven.."), true), tail)
			bad := merge(t, files.Config{Inputs: []string{"-"}, Stdin: iotest.OneByteReader(bytes.NewReader(content)), Path: filepath.Join(dir, name+what)})
			if in := bad.Inputs[0]; in.Damage == nil || in.Packets != 1 || len(in.Notes) > 0 {
				t.Errorf("%s, %s: %+v", name, what, in)
			}
		}
	}
}

// What is not known is left out, counted, and named by its type.
func TestUnknownBlocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	order := binary.BigEndian
	content := slices.Concat(ngSection(order), ngInterface(order, "eth0"), ngBlock(order, 0x204, make([]byte, 40)), ngPacket(order, at0, "a"),
		ngBlock(order, 0x204, nil), ngBlock(order, 0x77, nil), ngPacket(order, at0+1, "b"), ngBlock(order, 0x80000001, nil))
	report := merge(t, files.Config{Inputs: []string{write(t, dir, "in", content)}, Path: filepath.Join(dir, "out")})
	want := []files.Note{
		{What: "block", Text: "left out: type 0x00000204, of Sysdig", Count: 2},
		{What: "block", Text: "left out: type 0x00000077, not known", Count: 1},
		{What: "block", Text: "left out: type 0x80000001, for local use", Count: 1},
	}
	if in := report.Inputs[0]; !slices.Equal(in.Notes, want) || in.Packets != 2 || in.Damage != nil {
		t.Errorf("%+v", in)
	}
	content = slices.Concat(ngSection(order), ngInterface(order, "eth0"))
	for kind := range uint32(10_000) {
		content = append(content, ngBlock(order, 0x10000+kind, nil)...)
	}
	report = merge(t, files.Config{Inputs: []string{write(t, dir, "many", content)}, Path: filepath.Join(dir, "out2")})
	total := int64(0)
	for _, note := range report.Inputs[0].Notes {
		total += note.Count
	}
	if n := len(report.Inputs[0].Notes); n > 30 || total != 10_000 {
		t.Errorf("%d notes of %d blocks", n, total)
	}
}
