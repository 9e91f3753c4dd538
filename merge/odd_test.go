package merge

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

// oldForm is a form of pcap, of any version.
type oldForm struct {
	form
	modified bool
	version  [2]uint16
}

// oldForms has all that are read; the first ones are those of today, of which the magic numbers differ.
var oldForms = func() (all []oldForm) {
	for _, f := range forms {
		all = append(all, oldForm{form: f, version: [2]uint16{2, 4}})
	}
	for _, f := range []form{forms[0], forms[2]} {
		all = append(all, oldForm{form{"modified-" + f.name, f.order, false}, true, [2]uint16{2, 4}})
	}
	for _, v := range [][2]uint16{{2, 0}, {2, 1}, {2, 2}, {2, 3}, {543, 0}} {
		for _, f := range []form{forms[0], forms[2]} {
			all = append(all, oldForm{form{fmt.Sprintf("%d.%d-%s", v[0], v[1], f.name), f.order, false}, false, v})
		}
	}
	return all
}()

func (f oldForm) header(link, snaplen uint32) []byte {
	p := f.form.header(link, snaplen)
	if f.modified {
		f.order.AppendUint32(p[:0], magicModified)
	}
	f.order.AppendUint16(f.order.AppendUint16(p[:4], f.version[0]), f.version[1])
	return p
}

func (f oldForm) stream(list []sample) []byte {
	p := f.header(1, 262144)
	for _, s := range list {
		p = f.append(p, s)
	}
	return p
}

func (f oldForm) append(p []byte, s sample) []byte {
	sub := s.time % 1e9
	if !f.nano {
		sub /= 1000
	}
	return f.raw(p, uint32(s.time/1e9), uint32(sub), uint32(len(s.data)), s.origLen, s.data)
}

// raw appends a record of fields as they are.
func (f oldForm) raw(p []byte, sec, sub, captured, orig uint32, data []byte) []byte {
	if f.version[0] == 543 || f.version[1] < 3 || f.version[1] == 3 && captured%2 == 1 {
		captured, orig = orig, captured
	}
	for _, n := range []uint32{sec, sub, captured, orig} {
		p = f.order.AppendUint32(p, n)
	}
	if f.modified {
		p = append(p, 2, 0, 0, 0, 8, 6, 0, 0)
	}
	return append(p, data...)
}

// oddRecord is a record that makes no sense, and what becomes of it.
type oddRecord struct {
	name  string
	bytes func(f oldForm) []byte
	kind  Odd
	want  *sample // nil = skipped; its time is in units of the form
}

var tenBytes = []byte("ten bytes!")

var oddRecords = []oddRecord{
	{"a full second", func(f oldForm) []byte { return f.raw(nil, 1e9, f.second(), 10, 10, tenBytes) },
		OddFraction, &sample{1e9*1e9 + 1e9, tenBytes, 10}},
	{"a large fraction", func(f oldForm) []byte { return f.raw(nil, 1e9, 3*f.second()+f.second()/10*7, 10, 10, tenBytes) },
		OddFraction, &sample{1e9*1e9 + 37e8, tenBytes, 10}},
	{"too long", func(f oldForm) []byte {
		return f.raw(nil, 1, 0, MaxRecord+1, MaxRecord+1, make([]byte, MaxRecord+1))
	}, OddTooLong, nil},
	{"captured above original", func(f oldForm) []byte { return f.raw(nil, 1, 0, 10, 3, tenBytes) }, OddOriginal, &sample{1e9, tenBytes, 3}},
}

// second is how many units of the form make one.
func (f oldForm) second() uint32 {
	if f.nano {
		return 1e9
	}
	return 1e6
}

// TestReaderOldForms: the versions before 2.4, and the modified form, in both byte orders.
func TestReaderOldForms(t *testing.T) {
	for _, f := range oldForms {
		for _, sizes := range [][]byte{nil, {0}, {6, 255, 16, 40}} {
			r := NewReader(&cutReader{p: f.stream(samples(300)), sizes: sizes})
			mustHeader(t, r)
			got, err := readAll(r)
			if err != io.EOF || r.Oddities() != (Oddities{}) {
				t.Errorf("%s: %v, %v", f.name, err, r.Oddities())
			}
			want := samples(300)
			for i := range want {
				want[i].time = f.resolved(want[i].time)
			}
			equalSamples(t, got, want)
		}
	}
}

// TestReaderOdd: a record that is framed soundly never ends its stream, whatever stands in it: all behind it come out, and
// it is counted. What is written of it is what a Reader takes for sound.
func TestReaderOdd(t *testing.T) {
	for _, f := range oldForms {
		for _, how := range oddRecords {
			if how.kind == OddOriginal && f.version == [2]uint16{2, 3} {
				continue // there the larger one is the original one
			}
			for _, times := range []int{1, 3} {
				for _, sizes := range [][]byte{nil, {200, 7, 255}} {
					t.Run(fmt.Sprintf("%s/%s/%d/%d", f.name, how.name, times, len(sizes)), func(t *testing.T) {
						p := f.stream(samples(5))
						for range 5 {
							p = append(p, bytes.Repeat(how.bytes(f), times)...)
							for _, s := range samples(20) {
								p = f.append(p, s)
							}
						}
						want := samples(5)
						for range 5 {
							for range times {
								if how.want != nil {
									want = append(want, *how.want)
								}
							}
							want = append(want, samples(20)...)
						}
						checkOdd(t, f, &cutReader{p: p, sizes: sizes}, want, countOf(how.kind, int64(5*times)))
					})
				}
			}
		}
	}
}

func countOf(kind Odd, n int64) (odd Oddities) {
	odd[kind] = n
	return odd
}

// checkOdd reads a stream, and what a Pcap writes of it.
func checkOdd(t *testing.T, f oldForm, in io.Reader, want []sample, odd Oddities) {
	t.Helper()
	r := NewReader(in)
	h := mustHeader(t, r)
	var out bytes.Buffer
	w := NewPcap(&out, h)
	var got []sample
	for {
		b, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range b.Records {
			got = append(got, sample{rec.Time, bytes.Clone(b.Packet(rec)), rec.OrigLen})
		}
		if _, err := w.WriteRun(b, b.Records); err != nil {
			t.Fatal(err)
		}
		b.Release()
	}
	for i := range want {
		want[i].time = f.resolved(want[i].time)
	}
	equalSamples(t, got, want)
	if r.Oddities() != odd {
		t.Errorf("counts %v, want %v", r.Oddities(), odd)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i].origLen = max(want[i].origLen, uint32(len(want[i].data)))
	}
	again := NewReader(&out)
	mustHeader(t, again)
	got, err := readAll(again)
	if err != io.EOF || again.Oddities() != (Oddities{}) {
		t.Errorf("what is written ends with %v, and counts %v", err, again.Oddities())
	}
	equalSamples(t, got, want)
}

// TestReaderUnfit: packets that their link type cannot have are skipped, and the others come out.
func TestReaderUnfit(t *testing.T) {
	for _, f := range oldForms {
		long := sample{time: 1e9, data: make([]byte, 40), origLen: 40}
		p := f.header(uint32(linkTypeERF), 0)
		for range 4 {
			p = f.append(p, sample{time: 1e9, data: []byte{1, 2}, origLen: 2})
			p = f.append(p, long)
		}
		checkOdd(t, f, bytes.NewReader(p), []sample{long, long, long, long}, Oddities{OddUnfit: 4})
	}
}

// TestReaderSnaplen: what is longer than the stream's own snapshot length is kept, or cut to it if that is asked for.
// One that means whole packets bounds nothing.
func TestReaderSnaplen(t *testing.T) {
	long, short := sample{1e9, make([]byte, 101), 101}, sample{2e9, make([]byte, 100), 200}
	for _, f := range oldForms {
		for _, how := range []struct {
			snaplen uint32
			cut     bool
			want    int
			odd     int64
		}{{100, false, 101, 1}, {100, true, 100, 1}, {0, true, 101, 0}, {1<<32 - 1, true, 101, 0}, {101, true, 101, 0}} {
			r := NewReader(bytes.NewReader(f.append(f.append(f.header(1, how.snaplen), long), short)))
			mustHeader(t, r)
			if how.cut {
				r.CutTo(how.snaplen)
			}
			got, err := readAll(r)
			if err != io.EOF || len(got) != 2 || len(got[0].data) != how.want || got[0].origLen != 101 || len(got[1].data) != 100 {
				t.Errorf("%s, snaplen %d: %v, %d packets", f.name, how.snaplen, err, len(got))
			}
			kind := OddSnaplen
			if how.cut {
				kind = OddCut
			}
			if r.Oddities() != countOf(kind, how.odd) {
				t.Errorf("%s, snaplen %d: counts %v", f.name, how.snaplen, r.Oddities())
			}
		}
	}
	p := forms[0].record(forms[0].header(1, 65535), sample{1e9, make([]byte, 70_000), 70_000})
	r := NewReader(bytes.NewReader(p))
	mustHeader(t, r)
	r.CutTo(65535)
	if got, err := readAll(r); err != io.EOF || len(got) != 1 || len(got[0].data) != 70_000 || r.Oddities() != (Oddities{}) {
		t.Errorf("a snapshot length of 65535: %v, %v", err, r.Oddities())
	}
}

// TestReaderSkipIsBounded: a record that is skipped takes no memory, and one that is cut off in that ends the stream as others.
func TestReaderSkipIsBounded(t *testing.T) {
	f := oldForms[0]
	p := f.raw(f.header(1, 0), 1, 0, maxSkipped, maxSkipped, make([]byte, maxSkipped))
	r := NewReader(bytes.NewReader(f.append(p, samples(3)[2])))
	mustHeader(t, r)
	got, err := readAll(r)
	if err != io.EOF || len(got) != 1 || r.Oddities() != (Oddities{OddTooLong: 1}) {
		t.Errorf("%v, %d packets, %v", err, len(got), r.Oddities())
	}
	r = NewReader(bytes.NewReader(p[:len(p)-1]))
	mustHeader(t, r)
	if _, err := r.Next(); err != ErrTruncated || r.Oddities() != (Oddities{}) {
		t.Errorf("cut off: %v, %v", err, r.Oddities())
	}
	r = NewReader(io.MultiReader(bytes.NewReader(p[:100]), readFunc(func(b []byte) (int, error) {
		if r.arena != nil && len(r.arena.buf) > arenaSizes[len(arenaSizes)-1] {
			t.Fatalf("holds %d bytes", len(r.arena.buf))
		}
		return 0, io.EOF
	})))
	mustHeader(t, r)
	if _, err := r.Next(); err != ErrTruncated {
		t.Error(err)
	}
}

func TestOdditiesInWords(t *testing.T) {
	var all Oddities
	for kind := range all {
		all[kind] = int64(kind) + 1
	}
	list := all.List()
	if len(list) != int(odds) {
		t.Fatalf("%d of %d kinds", len(list), odds)
	}
	for i, o := range list {
		kept := !strings.HasSuffix(o.What, ": left out")
		if o.Count != int64(i)+1 || kept == o.Skipped || !strings.Contains(o.What, ": ") || !strings.Contains(o.String(), " ") {
			t.Errorf("%+v", o)
		}
	}
	var none Oddities
	if none.Add(Oddities{OddUnfit: 2}); none.SkippedPackets() != 2 || len((&Oddities{}).List()) != 0 {
		t.Errorf("%v", none)
	}
}
