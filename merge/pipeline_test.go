package merge

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// From streams of bytes to a file: the file is the streams' packets in order.
func TestStreamsToFile(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		nano := rapid.Bool().Draw(rt, "nano")
		var file bytes.Buffer
		w := NewPcap(&file, Header{LinkType: LinkTypeEthernet, Nano: nano})
		out := forms[0]
		out.nano = nano
		m := NewMerger(MergerConfig{Window: time.Hour})
		var all []sample
		var readers []*Reader
		for range rapid.IntRange(1, 5).Draw(rt, "sources") {
			f := rapid.SampledFrom(forms).Draw(rt, "form")
			list := drawSamples(rt)
			sizes := rapid.SliceOfN(rapid.Byte(), 1, 5).Draw(rt, "cuts")
			readers = append(readers, NewReader(&cutReader{p: f.stream(list), sizes: sizes}))
			m.Open(0, start)
			for _, s := range list {
				s.time = f.resolved(s.time)
				all = append(all, s)
			}
		}
		slices.SortStableFunc(all, func(a, b sample) int { return cmp.Compare(a.time, b.time) })
		want := out.header(1, MaxRecord)
		for _, s := range all {
			want = out.record(want, s)
		}
		sink := pcapSink{w}
		feed(rt, readers, m, sink)
		if err := errors.Join(m.Drain(sink), w.Flush()); err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(file.Bytes(), want) {
			rt.Fatalf("file: %x\nwant: %x", file.Bytes(), want)
		}
		if w.Size() != int64(len(want)) || w.Flushed() != w.Size() {
			rt.Fatalf("size %d, flushed %d, want %d", w.Size(), w.Flushed(), len(want))
		}
	})
}

type pcapSink struct{ w *Pcap }

func (s pcapSink) WriteRun(_ SourceID, b *Batch, recs []Record) (int, error) {
	return s.w.WriteRun(b, recs)
}

func drawSamples(rt *rapid.T) []sample {
	t0 := start.UnixNano()
	var list []sample
	for range rapid.IntRange(0, 30).Draw(rt, "packets") {
		t0 += rapid.SampledFrom([]int64{0, 1, 999, 1000, 12345678}).Draw(rt, "step")
		data := bytes.Repeat([]byte{byte(len(list))}, rapid.IntRange(0, 300).Draw(rt, "length"))
		list = append(list, sample{t0, data, uint32(len(data))})
	}
	return list
}

// feed reads batches from the readers in any order, and lets the Merger advance.
func feed(rt *rapid.T, readers []*Reader, m *Merger, sink Sink) {
	ids := make([]SourceID, len(readers))
	for i, r := range readers {
		ids[i] = SourceID(i)
		mustHeader(rt, r)
	}
	for len(readers) > 0 {
		i := rapid.IntRange(0, len(readers)-1).Draw(rt, "reader")
		b, err := readers[i].Next()
		if err == io.EOF {
			m.Close(ids[i])
			readers, ids = slices.Delete(readers, i, i+1), slices.Delete(ids, i, i+1)
			continue
		}
		if err != nil {
			rt.Fatal(err)
		}
		m.Push(ids[i], b, start)
		if err := m.Advance(start, sink); err != nil {
			rt.Fatal(err)
		}
	}
}
