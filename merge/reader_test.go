package merge

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestReaderForms(t *testing.T) {
	list := samples(500)
	cuts := map[string][]byte{"whole": nil, "bytes": {0}, "odd": {6, 255, 16, 40}}
	for _, f := range forms {
		for name, sizes := range cuts {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				r := NewReader(&cutReader{p: f.stream(list), sizes: sizes})
				want := Header{LinkType: LinkTypeEthernet, Snaplen: 262144, Nano: f.nano}
				if h := mustHeader(t, r); h != want {
					t.Fatalf("header %+v, want %+v", h, want)
				}
				got, err := readAll(r)
				if err != io.EOF {
					t.Fatalf("ended with %v", err)
				}
				expect := samples(500)
				for i := range expect {
					expect[i].time = f.resolved(expect[i].time)
				}
				equalSamples(t, got, expect)
			})
		}
	}
}

func TestReaderHeaderFields(t *testing.T) {
	for _, f := range forms {
		for _, snaplen := range []uint32{0, 1, 262144, 1<<32 - 1} {
			// A frame check sequence of 4 bytes, the flag that says so, and a reserved bit.
			r := NewReader(bytes.NewReader(f.header(276|0x44010000, snaplen)))
			if h := mustHeader(t, r); h.LinkType != LinkTypeLinuxSLL2 || h.Snaplen != snaplen {
				t.Errorf("%s: %+v", f.name, h)
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("%s: ended with %v", f.name, err)
			}
		}
	}
}

// stuck gives what it has and then fails the test: a real stream would block.
type stuck struct {
	t testing.TB
	r io.Reader
}

func (s stuck) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err == io.EOF {
		s.t.Fatal("waits for more than it needs")
	}
	return n, err
}

func TestReaderDoesNotWait(t *testing.T) {
	f := forms[0]
	list := samples(3)
	all := f.stream(list)
	for cut := fileHeader + 1; cut < len(all); cut++ {
		r := NewReader(stuck{t, bytes.NewReader(all[:cut])})
		mustHeader(t, r)
		whole := wholeRecords(f, list, cut)
		for n := 0; n < whole; {
			b, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			n += len(b.Records)
			b.Release()
		}
	}
}

// wholeRecords counts the records that are whole in the first cut bytes of a stream.
func wholeRecords(f form, list []sample, cut int) int {
	for n := range list {
		if len(f.stream(list[:n+1])) > cut {
			return n
		}
	}
	return len(list)
}

func TestReaderNotPcap(t *testing.T) {
	good := forms[0].header(1, 0)
	unknown := bytes.Clone(good)
	unknown[6] = 5
	long := strings.Repeat("Welcome to web1.\n", 40)
	for _, c := range []struct{ name, in, text, hint string }{
		{"prompt", "$ ", `it begins with "$ "`, "banner"},
		{"one byte", "W", `it begins with "W"`, "banner"},
		{"banner", long, `begins with "Welcome to web1.\nWelcome`, "banner"},
		{"terminal control", "\x1b[2J\x1b]0;x\a", `"\x1b[2J\x1b]0;x\a"`, "banner"},
		{"pcapng", "\x0a\x0d\x0d\x0a....", "it is pcapng", "instead of pcapng"},
		{"snoop", "snoop\x00\x00\x00\x00\x00\x00\x02", "it is a snoop file", "banner"},
		{"version", string(unknown), "version 2.5 is none", "banner"},
		{"newline first", "\npacket", "magic", "banner"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(stuck{t, strings.NewReader(c.in)})
			_, err := r.ReadHeader()
			var wrong *FormatError
			if !errors.As(err, &wrong) {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(c.in, string(wrong.Head)) || len(wrong.Head) == 0 || len(wrong.Head) > maxHead {
				t.Errorf("head is %q", wrong.Head)
			}
			if s := wrong.Error(); !strings.Contains(s, c.text) || len(s) > 400 || strings.ContainsAny(s, "\n\x1b") {
				t.Errorf("says %q", s)
			}
			if s := wrong.Hint(); !strings.Contains(s, c.hint) {
				t.Errorf("hints %q", s)
			}
			if _, again := r.Next(); again != err {
				t.Errorf("Next says %v", again)
			}
		})
	}
}

func TestReaderHeaderCut(t *testing.T) {
	all := forms[3].header(1, 0)
	for n := range all {
		_, err := NewReader(iotest.OneByteReader(bytes.NewReader(all[:n]))).ReadHeader()
		if n == 0 && err != io.EOF || n > 0 && (!errors.Is(err, ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestReaderCut(t *testing.T) {
	list := samples(3)
	lost := errors.New("link lost")
	for _, f := range forms {
		all := f.stream(list)
		for cut := fileHeader; cut <= len(all); cut++ {
			whole := wholeRecords(f, list, cut)
			clean := cut == len(f.stream(list[:whole]))
			for _, end := range []error{io.EOF, lost} {
				r := NewReader(io.MultiReader(bytes.NewReader(all[:cut]), iotest.ErrReader(end)))
				mustHeader(t, r)
				got, err := readAll(r)
				if len(got) != whole {
					t.Fatalf("%s, %d bytes: %d packets, want %d", f.name, cut, len(got), whole)
				}
				if clean && err != end || !clean && !errors.Is(err, ErrTruncated) || end == lost && !errors.Is(err, lost) {
					t.Errorf("%s, %d bytes, %v: %v", f.name, cut, end, err)
				}
				if _, again := r.Next(); again != err {
					t.Errorf("says %v and then %v", err, again)
				}
			}
		}
	}
}

// What claims more than a record that is skipped may have is none, and ends the stream.
func TestReaderNonsense(t *testing.T) {
	for _, f := range forms {
		list := samples(4)
		good := f.stream(list)
		for _, capLen := range []uint32{maxSkipped + 1, 1<<32 - 1} {
			p := f.order.AppendUint64(bytes.Clone(good), 0)
			p = f.order.AppendUint32(p, capLen)
			p = append(f.order.AppendUint32(p, 0), make([]byte, 50)...)
			r := NewReader(bytes.NewReader(p))
			mustHeader(t, r)
			got, err := readAll(r)
			var wrong *FormatError
			if !errors.As(err, &wrong) || wrong.Offset != int64(len(good)) || !strings.Contains(err.Error(), "more than 16777216") {
				t.Errorf("%s: %v, want it at %d", f.name, err, len(good))
			}
			if wrong != nil && !strings.Contains(wrong.Hint(), "kept") {
				t.Errorf("hint: %s", wrong.Hint())
			}
			if len(got) != len(list) {
				t.Errorf("%s: %d packets before it", f.name, len(got))
			}
		}
	}
}

func TestReaderCapturedAboveOriginal(t *testing.T) {
	want := []sample{{start.UnixNano(), []byte("captured"), 3}}
	r := NewReader(bytes.NewReader(forms[1].stream(want)))
	mustHeader(t, r)
	got, err := readAll(r)
	if err != io.EOF {
		t.Fatal(err)
	}
	equalSamples(t, got, want)
	if odd := r.Oddities(); odd != (Oddities{OddOriginal: 1}) {
		t.Errorf("counts %v", odd.List())
	}
}

func TestReaderShift(t *testing.T) {
	list := []sample{{time: 5e9}, {time: maxTime - 5e9 + 1}}
	for _, f := range forms {
		for _, c := range []struct {
			shift time.Duration
			want  [2]int64
		}{
			{0, [2]int64{5e9, f.resolved(maxTime - 5e9 + 1)}},
			{1500 * time.Millisecond, [2]int64{65e8, f.resolved(maxTime-5e9+1) + 15e8}},
			{-6 * time.Second, [2]int64{0, f.resolved(maxTime-5e9+1) - 6e9}},
			{6 * time.Second, [2]int64{11e9, maxTime}},
			{-1 << 63, [2]int64{0, 0}},
			{1<<63 - 1, [2]int64{maxTime, maxTime}},
		} {
			r := NewReader(bytes.NewReader(f.stream(list)))
			mustHeader(t, r)
			r.Shift(c.shift)
			b, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			outside := int64(0)
			for i, rec := range b.Records {
				if addTime(f.resolved(list[i].time), int64(c.shift)) != c.want[i] {
					outside++
				}
				if rec.Time != c.want[i] {
					t.Errorf("%s %v: %d, want %d", f.name, c.shift, rec.Time, c.want[i])
				}
				head := make([]byte, recordHeader)
				putRecordHeader(head, rec, f.nano)
				if in := b.Data[rec.Off-recordHeader : rec.Off]; !bytes.Equal(in, head) {
					t.Errorf("%s %v: header %x, want %x", f.name, c.shift, in, head)
				}
			}
			if odd := r.Oddities(); odd != (Oddities{OddTime: outside}) {
				t.Errorf("%s %v: counts %v, want %d", f.name, c.shift, odd.List(), outside)
			}
			b.Release()
		}
	}
}

func TestReaderImpossibleReaders(t *testing.T) {
	header := forms[0].header(1, 0)
	r := NewReader(io.MultiReader(bytes.NewReader(header), readFunc(func([]byte) (int, error) { return 0, nil })))
	mustHeader(t, r)
	if _, err := r.Next(); err != io.ErrNoProgress {
		t.Errorf("nothing for ever: %v", err)
	}
	for _, n := range []int{-1, 1 << 30} {
		r := NewReader(readFunc(func([]byte) (int, error) { return n, nil }))
		if _, err := r.ReadHeader(); err == nil || err == io.EOF {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// A Reader of a file asks for its first bytes by themselves, in one read or in several, and then for whole arenas; where reads
// give little it fills the arena with them.
func TestReaderSize(t *testing.T) {
	const size = 32 << 10
	f := forms[0]
	one := f.record(nil, sample{start.UnixNano(), make([]byte, 84), 84})
	for _, c := range []struct {
		first int
		gives []int
		want  []int // what is asked for, until reads give all
	}{
		{5000, []int{5000, 1000, 2000}, []int{5000, size, size - 1000, size - 3000}},
		{5000, []int{4, 3000}, []int{5000, 4996, 1996, size}},
		{24, []int{24}, []int{24, size}},
		{60, nil, []int{60, size - 36}}, // of which the header is framed
		{0, nil, []int{24, size}},       // no less than the header
		{size, nil, []int{size}},
		{2 * size, nil, []int{size}},
	} {
		stream := f.header(1, 0)
		for len(stream) < 4*size {
			stream = append(stream, one...)
		}
		var asked []int
		r := NewReaderSize(readFunc(func(p []byte) (int, error) {
			if len(stream) == 0 {
				return 0, io.EOF
			}
			asked = append(asked, len(p))
			if n := len(asked); n <= len(c.gives) {
				p = p[:min(len(p), c.gives[n-1])]
			}
			n := copy(p, stream)
			stream = stream[n:]
			return n, nil
		}), c.first, size)
		mustHeader(t, r)
		records := 0
		for _, b := range readBatches(t, r) {
			records += len(b.Records)
		}
		if want := (4*size - 24 + len(one) - 1) / len(one); records != want {
			t.Errorf("first %d: %d records, want %d", c.first, records, want)
		}
		n := len(c.want)
		for i, got := range asked {
			if i < n && (got > c.want[i] || got <= c.want[i]-len(one)) || i >= n && (got > size || got <= size-len(one)) {
				t.Errorf("first %d: asks for %d, want %d, each less what is no whole record", c.first, asked, c.want)
				break
			}
		}
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A batch of one packet must not cost an arena.
func TestReaderSharesArenas(t *testing.T) {
	f := forms[0]
	p := f.header(1, 0)
	for range 36 { // 3,600 bytes
		p = f.record(p, sample{start.UnixNano(), make([]byte, 84), 84})
	}
	r := NewReader(&cutReader{p: p, sizes: []byte{99}})
	mustHeader(t, r)
	kept, used := readBatches(t, r), map[*arena]bool{}
	for _, b := range kept {
		used[b.arena] = true
	}
	if len(kept) < 18 || len(used) != 1 {
		t.Errorf("%d batches in %d arenas", len(kept), len(used))
	}
	// What was read may keep the memory that its last error came with: it must never be used again.
	if n := kept[0].arena.refs.Load(); n != int32(len(kept))+1 {
		t.Errorf("%d references to the arena of %d batches", n, len(kept))
	}
	for _, b := range kept {
		b.Release()
	}
}

// Batches that are kept must not change, whatever is read after them.
func TestReaderKeepsBatches(t *testing.T) {
	f := forms[3]
	var list []sample
	for i := range 3000 {
		n := i % 300
		if i%500 == 250 {
			n = MaxRecord
		}
		list = append(list, sample{start.UnixNano() + int64(i), bytes.Repeat([]byte{byte(i), byte(i >> 8)}, n/2), uint32(i)})
	}
	r := NewReader(&cutReader{p: f.stream(list), sizes: []byte{255, 3, 200}})
	mustHeader(t, r)
	kept := readBatches(t, r)
	var got []sample
	for _, b := range kept {
		for _, rec := range b.Records {
			got = append(got, sample{rec.Time, bytes.Clone(b.Packet(rec)), rec.OrigLen})
		}
		b.Release()
	}
	equalSamples(t, got, list)
}

// A claim costs nothing but one arena.
func TestReaderMemoryIsBounded(t *testing.T) {
	f := forms[0]
	p := f.header(1, 1<<32-1)
	p = f.record(p, sample{data: make([]byte, 10)})
	le.PutUint32(p[fileHeader+8:], MaxRecord)
	r := NewReader(bytes.NewReader(p))
	mustHeader(t, r)
	if _, err := r.Next(); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
	if r.arena != nil {
		t.Error("keeps its arena at the end")
	}
	last := arenaSizes[len(arenaSizes)-1]
	if last < MaxRecord+recordHeader || last > 300<<10 {
		t.Errorf("the largest arena has %d bytes", last)
	}
}

func TestArenaSizeFollowsReads(t *testing.T) {
	f := forms[0]
	p := f.header(1, 0)
	for len(p) < 4<<20 {
		p = f.record(p, sample{data: make([]byte, 1000)})
	}
	for _, c := range []struct {
		name  string
		sizes []byte
		class int
	}{
		{"busy", nil, len(arenaSizes) - 1},
		{"slow", []byte{99}, 0},
	} {
		r := NewReader(&cutReader{p: p, sizes: c.sizes})
		mustHeader(t, r)
		classes := map[int]int{}
		for {
			b, err := r.Next()
			if err != nil {
				break
			}
			classes[b.arena.class]++
			b.Release()
		}
		if classes[c.class] == 0 || c.class == 0 && len(classes) > 1 {
			t.Errorf("%s: batches by size of arena: %v", c.name, classes)
		}
	}
}

// full fills whatever it is given, up to a bound, and counts how often.
type full struct {
	r     io.Reader
	reads int
}

func (f *full) Read(b []byte) (int, error) {
	f.reads++
	return io.ReadFull(f.r, b[:min(len(b), 100<<10)])
}

// A stream of which there is always more is read in large pieces: none in what is just left over of an arena.
func TestReaderReadsMuchAtOnce(t *testing.T) {
	f := forms[0]
	p := f.header(1, 0)
	for len(p) < 8<<20 {
		p = f.record(p, sample{data: make([]byte, 1000)})
	}
	all := &full{r: bytes.NewReader(p)}
	r := NewReader(all)
	mustHeader(t, r)
	for {
		b, err := r.Next()
		if err != nil {
			break
		}
		b.Release()
	}
	if mean := len(p) / all.reads; mean < 90<<10 {
		t.Errorf("%d reads, of %d bytes on average", all.reads, mean)
	}
}

func TestReleaseTwiceOnLiteral(t *testing.T) {
	b := literal(samples(3)...)
	b.Release()
	if len(b.Records) != 3 {
		t.Error("a literal batch was taken")
	}
}
