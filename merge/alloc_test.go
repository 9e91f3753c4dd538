package merge

import (
	"io"
	"testing"
)

// endless gives a header and then the same records for ever, at most size bytes a read.
type endless struct {
	rest, records []byte
	size          int
}

func newEndless(f form, packets, size int) *endless {
	e := &endless{rest: f.header(1, MaxRecord), size: size}
	for _, s := range samples(packets) {
		s.time = start.UnixNano()
		e.records = f.record(e.records, s)
	}
	return e
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = e.records
	}
	n := copy(p[:min(len(p), e.size)], e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func TestReaderAllocates(t *testing.T) {
	if raced {
		t.Skip("pools drop things under the race detector")
	}
	for _, size := range []int{60, 1000, 1 << 20} {
		r := NewReader(newEndless(forms[2], 1000, size))
		mustHeader(t, r)
		n := testing.AllocsPerRun(2000, func() {
			b, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			b.Release()
		})
		if n != 0 {
			t.Errorf("reads of %d bytes: %v allocations a batch", size, n)
		}
	}
}

// From the streams to a file nothing is allocated, by packet or by batch.
func TestPipelineAllocates(t *testing.T) {
	if raced {
		t.Skip("pools drop things under the race detector")
	}
	ng := NewPcapng(io.Discard, Section{})
	if _, err := ng.AddInterface(Interface{}); err != nil {
		t.Fatal(err)
	}
	for name, sink := range map[string]Sink{
		"pcap":                  pcapSink{NewPcap(io.Discard, Header{})},
		"pcap other resolution": pcapSink{NewPcap(io.Discard, Header{Nano: true})},
		"pcapng":                onePcapng{ng},
	} {
		for _, size := range []int{60, 1 << 20} {
			m := NewMerger(MergerConfig{Window: DefaultWindow, Settle: DefaultSettle})
			var readers []*Reader
			for range 3 {
				r := NewReader(newEndless(forms[0], 200, size))
				mustHeader(t, r)
				readers = append(readers, r)
				m.Open(0, start)
			}
			now := start
			n := testing.AllocsPerRun(2000, func() {
				for i, r := range readers {
					b, err := r.Next()
					if err != nil {
						t.Fatal(err)
					}
					now = now.Add(DefaultSettle)
					m.Push(SourceID(i), b, now)
				}
				if err := m.Advance(now, sink); err != nil {
					t.Fatal(err)
				}
			})
			if s := m.Stats(0); n != 0 || s.Written == 0 {
				t.Errorf("%s, reads of %d bytes: %v allocations; %+v", name, size, n, s)
			}
		}
	}
}

// onePcapng writes all sources as one interface.
type onePcapng struct{ w *Pcapng }

func (s onePcapng) WriteRun(_ SourceID, b *Batch, recs []Record) (int, error) {
	return s.w.WriteRun(0, b, recs)
}
