package merge

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzReader: a Reader gives what the plainest reader finds, and so every soundly framed record behind a senseless one.
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
		want, wantOdd, wantErr := reference(in)
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
		if r.Oddities() != wantOdd {
			t.Fatalf("counts %v, want %v", r.Oddities(), wantOdd)
		}
		le := form{order: forms[0].order, nano: h.Nano}
		written := h.Snaplen
		if written == 0 || written >= 65535 {
			written = MaxRecord
		}
		back := le.header(uint32(h.LinkType), written)
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
	for i, f := range oldForms {
		for _, how := range oddRecords {
			if how.kind == OddTooLong && i > 0 {
				continue // large ones slow it down
			}
			p := append(f.stream(samples(2)), how.bytes(f)...)
			seeds = append(seeds, f.append(p, samples(1)[0]))
		}
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
func reference(in []byte) (out []sample, odd Oddities, err error) {
	if len(in) == 0 {
		return nil, odd, io.EOF
	}
	f, ok := formOf(in)
	if !ok {
		return nil, odd, errNonsense
	}
	if len(in) < fileHeader {
		return nil, odd, ErrTruncated
	}
	order, unit := f.order.(interface {
		Uint16([]byte) uint16
		Uint32([]byte) uint32
	}), int64(1000)
	major, minor := order.Uint16(in[4:]), order.Uint16(in[6:])
	if (major != 2 || minor > 4) && (major != 543 || minor != 0) {
		return nil, odd, errNonsense
	}
	link, limit, head := LinkType(order.Uint32(in[20:])), order.Uint32(in[16:]), 16
	if limit == 0 || limit >= 65535 {
		limit = MaxRecord
	}
	if f.nano {
		unit = 1
	}
	if f.modified {
		head = 24
	}
	for in = in[fileHeader:]; len(in) > 0; {
		if len(in) < head {
			return out, odd, ErrTruncated
		}
		sec, sub, n, orig := int64(order.Uint32(in)), int64(order.Uint32(in[4:]))*unit, order.Uint32(in[8:]), order.Uint32(in[12:])
		if major == 543 || minor < 3 || minor == 3 && n > orig {
			n, orig = orig, n
		}
		if n > 16<<20 {
			return out, odd, errNonsense
		}
		if int(n) > len(in)-head {
			return out, odd, ErrTruncated
		}
		data := in[head : head+int(n)]
		in = in[head+int(n):]
		if n > MaxRecord {
			odd[OddTooLong]++
			continue
		}
		if !link.Fits(data) {
			odd[OddUnfit]++
			continue
		}
		if sub >= 1e9 {
			odd[OddFraction]++
		}
		if sec*1e9+sub > maxTime {
			odd[OddTime]++
		}
		if orig < n {
			odd[OddOriginal]++
		}
		if n > limit {
			odd[OddSnaplen]++
		}
		out = append(out, sample{min(sec*1e9+sub, maxTime), data, orig})
	}
	return out, odd, nil
}

// formOf finds out by its magic number what a stream is, or may be.
func formOf(in []byte) (oldForm, bool) {
	for _, f := range oldForms {
		if bytes.HasPrefix(f.header(0, 0)[:4], in[:min(4, len(in))]) {
			return f, true
		}
	}
	return oldForm{}, false
}
