package merge

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// traffic makes k streams of packets that take turns, of about size bytes together.
func traffic(k, packet, size int) [][]byte {
	f := forms[1]
	streams := make([][]byte, k)
	for i := range streams {
		streams[i] = f.header(1, MaxRecord)
	}
	data := bytes.Repeat([]byte{0x55}, packet)
	for n := range size / (packet + recordHeader) {
		// Turns by a multiplicative hash: runs of one mostly, in no pattern that a branch predictor learns.
		i := int(uint32(n)*2654435761>>16) % k
		streams[i] = f.record(streams[i], sample{start.UnixNano() + int64(n)*700, data, uint32(packet)})
	}
	return streams
}

func total(streams [][]byte) (n int64) {
	for _, s := range streams {
		n += int64(len(s))
	}
	return n
}

// plain hides all but Read or Write, so that io.Copy copies.
type plainReader struct{ io.Reader }
type plainWriter struct{ io.Writer }

// What else is to be compared with: the same bytes through one buffer of 1 MiB.
func BenchmarkCopyMemory(b *testing.B) {
	in := traffic(1, 100, 16<<20)[0]
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := io.CopyBuffer(plainWriter{io.Discard}, plainReader{bytes.NewReader(in)}, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	for _, f := range forms {
		for _, packet := range []int{100, 1400} {
			list := make([]sample, 8<<20/packet)
			for i := range list {
				list[i] = sample{start.UnixNano() + int64(i), make([]byte, packet), uint32(packet)}
			}
			in := f.stream(list)
			b.Run(fmt.Sprintf("%s/%d", f.name, packet), func(b *testing.B) {
				b.SetBytes(int64(len(in)))
				b.ReportAllocs()
				for b.Loop() {
					r := NewReader(bytes.NewReader(in))
					mustHeader(b, r)
					for {
						batch, err := r.Next()
						if err == io.EOF {
							break
						}
						if err != nil {
							b.Fatal(err)
						}
						batch.Release()
					}
				}
			})
		}
	}
}

// The little that a batch of one packet costs.
func BenchmarkReaderTrickle(b *testing.B) {
	f := forms[0]
	one := f.record(nil, sample{start.UnixNano(), make([]byte, 100), 100})
	sent := false
	r := NewReader(readFunc(func(p []byte) (int, error) {
		if !sent {
			sent = true
			return copy(p, f.header(1, 0)), nil
		}
		return copy(p, one), nil
	}))
	mustHeader(b, r)
	b.ReportAllocs()
	for b.Loop() {
		batch, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		batch.Release()
	}
}

// nowhere is the least that a sink can do.
type nowhere struct{}

func (nowhere) WriteRun(_ SourceID, _ *Batch, recs []Record) (int, error) { return len(recs), nil }

// What a packet costs grows with the logarithm of the number of streams.
func BenchmarkMerger(b *testing.B) {
	for _, k := range []int{2, 4, 8, 16, 32, 64, 128, 256, 512, 1024} {
		b.Run(fmt.Sprint(k), func(b *testing.B) {
			streams := traffic(k, 100, 16<<20)
			var batches [][]*Batch
			for _, s := range streams {
				list := batchesOf(b, s)
				for i, batch := range list { // literals, which can be given again
					list[i] = &Batch{Data: batch.Data, Records: batch.Records, ordered: true}
				}
				batches = append(batches, list)
			}
			b.SetBytes(total(streams))
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				mergeBatches(b, batches, nowhere{})
			}
			packets := 0
			for _, list := range batches {
				for _, batch := range list {
					packets += len(batch.Records)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packets), "ns/packet")
		})
	}
}

func mergeBatches(b *testing.B, batches [][]*Batch, sink Sink) {
	m := NewMerger(MergerConfig{Window: time.Hour})
	for range batches {
		m.Open(0, start)
	}
	for i := 0; ; i++ {
		more := false
		for id, list := range batches {
			if i < len(list) {
				m.Push(SourceID(id), list[i], start)
				more = true
			}
		}
		if err := m.Advance(start, sink); err != nil {
			b.Fatal(err)
		}
		if !more {
			break
		}
	}
	if err := m.Drain(sink); err != nil {
		b.Fatal(err)
	}
}

// Many sources that give a packet at a time, as a live capture of quiet hosts does.
func BenchmarkMergerTrickle(b *testing.B) {
	for _, k := range []int{2, 16, 128, 1024} {
		b.Run(fmt.Sprint(k), func(b *testing.B) {
			m := NewMerger(MergerConfig{Window: DefaultWindow, Lag: DefaultLag, Settle: DefaultSettle})
			now := start
			batches := make([]*Batch, 4*k)
			for i := range batches {
				batches[i] = literal(sample{0, make([]byte, 100), 100})
				if i < k {
					m.Open(0, now)
				}
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				now = now.Add(time.Second / 50 / time.Duration(k))
				batch := batches[n%len(batches)]
				if batch.next != nil || batch.pos == 0 && n >= len(batches) {
					b.Fatal("still waits")
				}
				batch.Records[0].Time = now.UnixNano()
				m.Push(SourceID(n%k), batch, now)
				if err := m.Advance(now, nowhere{}); err != nil {
					b.Fatal(err)
				}
				m.Wake(now)
				n++
			}
		})
	}
}

func BenchmarkWriters(b *testing.B) {
	for _, packet := range []int{100, 1400} {
		in := traffic(1, packet, 8<<20)[0]
		batches := batchesOf(b, in)
		for _, run := range []int{1, 8, 1 << 20} {
			name := fmt.Sprintf("%d/run=%d", packet, run)
			b.Run("pcap/"+name, func(b *testing.B) {
				w := NewPcap(plainWriter{io.Discard}, Header{Nano: true})
				benchmarkRuns(b, batches, run, int64(len(in)), w.WriteRun)
			})
			b.Run("pcap-other-resolution/"+name, func(b *testing.B) {
				w := NewPcap(plainWriter{io.Discard}, Header{})
				benchmarkRuns(b, batches, run, int64(len(in)), w.WriteRun)
			})
			b.Run("pcapng/"+name, func(b *testing.B) {
				w := NewPcapng(plainWriter{io.Discard}, Section{})
				if _, err := w.AddInterface(Interface{Nano: true}); err != nil {
					b.Fatal(err)
				}
				benchmarkRuns(b, batches, run, int64(len(in)), func(batch *Batch, recs []Record) (int, error) {
					return w.WriteRun(0, batch, recs)
				})
			})
		}
	}
}

func benchmarkRuns(b *testing.B, batches []*Batch, run int, size int64, write func(*Batch, []Record) (int, error)) {
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for _, batch := range batches {
			for recs := batch.Records; len(recs) > 0; {
				n := min(run, len(recs))
				if _, err := write(batch, recs[:n]); err != nil {
					b.Fatal(err)
				}
				recs = recs[n:]
			}
		}
	}
}

// From k files to one, against io.Copy of the same bytes from one file to another. The readers and the merger take
// turns in one goroutine.
func BenchmarkFiles(b *testing.B) {
	for _, packet := range []int{100, 600} {
		for _, k := range []int{1, 3, 16, 128, 1024} {
			b.Run(fmt.Sprintf("%d/k=%d", packet, k), func(b *testing.B) { benchmarkFiles(b, k, packet) })
		}
	}
}

func benchmarkFiles(b *testing.B, k, packet int) {
	dir := b.TempDir()
	var paths []string
	streams := traffic(k, packet, 64<<20)
	for i, s := range streams {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, s, 0o600); err != nil {
			b.Fatal(err)
		}
		paths = append(paths, path)
	}
	out := filepath.Join(dir, "out")
	run := func(name string, f func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(total(streams))
			b.ReportAllocs()
			for b.Loop() {
				f(b)
			}
		})
	}
	if k == 1 {
		run("copy", func(b *testing.B) { copyFile(b, out, paths[0]) })
	}
	run("pcap", func(b *testing.B) { mergeFiles(b, out, paths, false) })
	run("pcapng", func(b *testing.B) { mergeFiles(b, out, paths, true) })
}

func copyFile(b *testing.B, out, in string) {
	from, err := os.Open(in)
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	to := create(b, out)
	defer to.Close()
	if _, err := io.CopyBuffer(plainWriter{to}, plainReader{from}, make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
}

func create(b *testing.B, path string) *os.File {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

type pcapngSink struct{ w *Pcapng }

func (s pcapngSink) WriteRun(id SourceID, b *Batch, recs []Record) (int, error) {
	return s.w.WriteRun(int(id), b, recs)
}

func mergeFiles(b *testing.B, out string, paths []string, ng bool) {
	to := create(b, out)
	defer to.Close()
	m := NewMerger(MergerConfig{Window: time.Hour})
	var sink Sink
	var flush func() error
	if ng {
		w := NewPcapng(to, Section{})
		for range paths {
			if _, err := w.AddInterface(Interface{Nano: true, LinkType: 1}); err != nil {
				b.Fatal(err)
			}
		}
		sink, flush = pcapngSink{w}, w.Flush
	} else {
		w := NewPcap(to, Header{Nano: true, LinkType: 1})
		sink, flush = pcapSink{w}, w.Flush
	}
	readers := make([]*Reader, len(paths))
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		readers[i] = NewReader(f)
		mustHeader(b, readers[i])
		m.Open(0, start)
	}
	for left := len(readers); left > 0; {
		for i, r := range readers {
			// Read only what the merge waits for.
			if r == nil || !m.sources[i].empty() {
				continue
			}
			batch, err := r.Next()
			if err == io.EOF {
				m.Close(SourceID(i))
				readers[i] = nil
				left--
				continue
			}
			if err != nil {
				b.Fatal(err)
			}
			m.Push(SourceID(i), batch, start)
		}
		if err := m.Advance(start, sink); err != nil {
			b.Fatal(err)
		}
	}
	if err := m.Drain(sink); err != nil {
		b.Fatal(err)
	}
	if err := flush(); err != nil {
		b.Fatal(err)
	}
}
