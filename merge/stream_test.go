package merge

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"
)

// tester is what testing.T and rapid.T share.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// form is a kind of pcap stream.
type form struct {
	name  string
	order binary.AppendByteOrder
	nano  bool
}

var forms = []form{
	{"little-micro", binary.LittleEndian, false},
	{"little-nano", binary.LittleEndian, true},
	{"big-micro", binary.BigEndian, false},
	{"big-nano", binary.BigEndian, true},
}

// sample is a packet of a test.
type sample struct {
	time    int64
	data    []byte
	origLen uint32
}

var start = time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)

// samples makes n packets, 1001 ns apart, of lengths from 0 up.
func samples(n int) []sample {
	out := make([]sample, n)
	for i := range out {
		data := bytes.Repeat([]byte{byte(i)}, i*37%200)
		out[i] = sample{start.UnixNano() + int64(i)*1001, data, uint32(len(data) + i%3)}
	}
	return out
}

func (f form) header(link, snaplen uint32) []byte {
	magic := uint32(magicMicro)
	if f.nano {
		magic = magicNano
	}
	p := f.order.AppendUint32(nil, magic)
	p = f.order.AppendUint16(p, 2)
	p = f.order.AppendUint16(p, 4)
	p = append(p, make([]byte, 8)...)
	p = f.order.AppendUint32(p, snaplen)
	return f.order.AppendUint32(p, link)
}

// record is written apart from what is tested: by appending.
func (f form) record(p []byte, s sample) []byte {
	sub := uint32(s.time % 1e9)
	if !f.nano {
		sub /= 1000
	}
	p = f.order.AppendUint32(p, uint32(s.time/1e9))
	p = f.order.AppendUint32(p, sub)
	p = f.order.AppendUint32(p, uint32(len(s.data)))
	p = f.order.AppendUint32(p, s.origLen)
	return append(p, s.data...)
}

func (f form) stream(list []sample) []byte {
	p := f.header(1, 262144)
	for _, s := range list {
		p = f.record(p, s)
	}
	return p
}

// resolved is the time as the form can say it.
func (f form) resolved(t int64) int64 {
	if f.nano {
		return t
	}
	return t - t%1000
}

// cutReader gives at most the next of sizes bytes a read, round and round.
type cutReader struct {
	p     []byte
	sizes []byte
	reads int
}

func (c *cutReader) Read(p []byte) (int, error) {
	if len(c.p) == 0 {
		return 0, io.EOF
	}
	n := len(p)
	if len(c.sizes) > 0 {
		n = min(n, int(c.sizes[c.reads%len(c.sizes)])+1)
	}
	c.reads++
	n = copy(p[:n], c.p)
	c.p = c.p[n:]
	return n, nil
}

// readAll reads packets to the end of the stream, and what that was.
func readAll(r *Reader) ([]sample, error) {
	var out []sample
	for {
		b, err := r.Next()
		if err != nil {
			return out, err
		}
		for _, rec := range b.Records {
			out = append(out, sample{rec.Time, bytes.Clone(b.Packet(rec)), rec.OrigLen})
		}
		b.Release()
	}
}

// readBatches reads to the stream's end, which must be a clean one. The batches are the test's.
func readBatches(t tester, r *Reader) (out []*Batch) {
	t.Helper()
	for {
		b, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
}

func mustHeader(t tester, r *Reader) Header {
	t.Helper()
	h, err := r.ReadHeader()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func equalSamples(t tester, got, want []sample) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.time != w.time || g.origLen != w.origLen || !bytes.Equal(g.data, w.data) {
			t.Fatalf("packet %d: time %d, %d of %d bytes, %x\nwant time %d, %d of %d bytes, %x",
				i, g.time, len(g.data), g.origLen, g.data, w.time, len(w.data), w.origLen, w.data)
		}
	}
}

// literal makes a batch without a Reader.
func literal(list ...sample) *Batch {
	b := &Batch{}
	for _, s := range list {
		b.Records = append(b.Records, Record{
			Time: s.time, Off: uint32(len(b.Data)), CapLen: uint32(len(s.data)), OrigLen: s.origLen,
		})
		b.Data = append(b.Data, s.data...)
	}
	return b
}
