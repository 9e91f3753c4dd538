package merge

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func FuzzReader(f *testing.F) {
	seeds := readerSeeds()
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s, []byte{255, 0, 15})
	}
	f.Fuzz(func(t *testing.T, in, sizes []byte) {
		r := NewReader(&cutReader{p: in, sizes: sizes})
		h, err := r.ReadHeader()
		want, wantErr := reference(in)
		if err != nil {
			if wantErr == nil || wantErr == errNonsense && !errors.As(err, new(*FormatError)) {
				t.Fatalf("header: %v, want %v", err, wantErr)
			}
			return
		}
		var out bytes.Buffer
		w := NewPcap(&out, h)
		var got []sample
		for {
			b, err := r.Next()
			if err != nil {
				checkEnd(t, err, wantErr)
				break
			}
			if len(b.Records) == 0 || len(b.arena.buf) > arenaSizes[len(arenaSizes)-1] {
				t.Fatalf("%d records in %d bytes", len(b.Records), len(b.arena.buf))
			}
			for _, rec := range b.Records {
				got = append(got, sample{rec.Time, bytes.Clone(b.Packet(rec)), rec.OrigLen})
			}
			if n, err := w.WriteRun(b, b.Records); n != len(b.Records) || err != nil {
				t.Fatalf("wrote %d: %v", n, err)
			}
			b.Release()
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		equalSamples(t, got, want)
		le := form{order: forms[0].order, nano: h.Nano}
		snaplen := h.Snaplen
		if snaplen == 0 || snaplen > MaxRecord {
			snaplen = MaxRecord
		}
		back := le.header(uint32(h.LinkType), snaplen)
		for _, s := range want {
			s.origLen = max(s.origLen, uint32(len(s.data)))
			back = le.record(back, s)
		}
		if !bytes.Equal(out.Bytes(), back) {
			t.Fatalf("writes %x, want %x", out.Bytes(), back)
		}
	})
}

func readerSeeds() [][]byte {
	var seeds [][]byte
	for _, f := range forms {
		all := f.stream(samples(5))
		seeds = append(seeds, all, all[:len(all)-3], append(bytes.Clone(all), bytes.Repeat([]byte{255}, 20)...))
	}
	for _, link := range []byte{123, 144, 177, 196, 197, 201, 204, 209, 245, 254} {
		p := forms[0].header(uint32(link), 262144)
		for _, s := range []sample{{1, make([]byte, 40), 40}, {2, []byte{1}, 0}} {
			p = forms[0].record(p, s)
		}
		seeds = append(seeds, p)
	}
	return append(seeds, nil, []byte("Last login: Mon"), []byte("\x0a\x0d\x0d\x0a\x1c\x00\x00\x00"))
}

var errNonsense = errors.New("nonsense")

func checkEnd(t *testing.T, err, want error) {
	t.Helper()
	switch want {
	case nil:
		if err != io.EOF {
			t.Fatalf("ended with %v", err)
		}
	case errNonsense:
		if !errors.As(err, new(*FormatError)) {
			t.Fatalf("nonsense ended with %v", err)
		}
	default:
		if !errors.Is(err, want) {
			t.Fatalf("ended with %v, want %v", err, want)
		}
	}
}

// reference reads a whole stream in the plainest way.
func reference(in []byte) ([]sample, error) {
	if len(in) == 0 {
		return nil, io.EOF
	}
	var f *form
	for i := range forms {
		magic := forms[i].header(0, 0)[:4]
		if bytes.HasPrefix(magic, in[:min(4, len(in))]) {
			f = &forms[i]
			break
		}
	}
	if f == nil {
		return nil, errNonsense
	}
	if len(in) < fileHeader {
		return nil, ErrTruncated
	}
	if !bytes.Equal(in[4:8], f.header(0, 0)[4:8]) {
		return nil, errNonsense
	}
	order, unit := f.order.(interface{ Uint32([]byte) uint32 }), int64(1000)
	link := LinkType(order.Uint32(in[20:]))
	if f.nano {
		unit = 1
	}
	var out []sample
	for in = in[fileHeader:]; len(in) > 0; {
		if len(in) < recordHeader {
			return out, ErrTruncated
		}
		sec, sub, n := order.Uint32(in), order.Uint32(in[4:]), order.Uint32(in[8:])
		if n > MaxRecord || int64(sub)*unit > 999999999 {
			return out, errNonsense
		}
		if int(n) > len(in)-recordHeader {
			return out, ErrTruncated
		}
		if !link.Fits(in[recordHeader : recordHeader+n]) {
			return out, errNonsense
		}
		out = append(out, sample{int64(sec)*1e9 + int64(sub)*unit, in[recordHeader : recordHeader+n], order.Uint32(in[12:])})
		in = in[recordHeader+n:]
	}
	return out, nil
}
