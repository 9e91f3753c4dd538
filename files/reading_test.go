package files

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/sshpcap/sshpcap/merge"
)

// A chunk is in order if its packets are, and none is before those that the input had already.
func TestTakeOrdered(t *testing.T) {
	for _, c := range []struct {
		before, then []uint32 // seconds
		ordered      bool
	}{
		{[]uint32{1, 2}, []uint32{2, 3}, true},
		{[]uint32{1, 3}, []uint32{2, 4}, false},
		{[]uint32{1, 2}, []uint32{3, 2, 4}, false},
		{[]uint32{5, 1}, []uint32{4, 6}, false},
	} {
		in := new(input)
		last := int64(0)
		for i, seconds := range [][]uint32{c.before, c.then} {
			stream := append(binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4), 2, 0, 4, 0)
			stream = append(stream, make([]byte, 8)...)
			stream = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(stream, 262144), 1)
			for _, s := range seconds {
				stream = append(binary.LittleEndian.AppendUint32(stream, s), make([]byte, 12)...)
				last = max(last, int64(s)*1e9)
			}
			r := merge.NewReader(bytes.NewReader(stream))
			if _, err := r.ReadHeader(); err != nil {
				t.Fatal(err)
			}
			b, err := r.Next()
			if err != nil || len(b.Records) != len(seconds) {
				t.Fatal(err)
			}
			ch := &chunk{batch: b}
			in.take(ch)
			if i == 1 && ch.ordered != c.ordered || ch.newest != last {
				t.Errorf("%v and %v: in order %v, up to %d, want %v, %d", c.before, c.then, ch.ordered, ch.newest, c.ordered, last)
			}
		}
	}
}

// Whatever the estimate, as many packets are cut as there are up to the limit.
func TestUpTo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		ordered := random.IntN(4) > 0
		records := make([]merge.Record, 1+random.IntN(60))
		at := int64(0)
		for i := range records {
			records[i].Time = at
			at += random.Int64N(3) * random.Int64N(3) * random.Int64N(10)
			if !ordered && random.IntN(10) == 0 {
				at -= random.Int64N(20)
			}
		}
		limit := random.Int64N(max(at, 0)+3) - 1
		want := 0
		for want < len(records) && records[want].Time <= limit {
			want++
		}
		c := &chunk{ordered: ordered, batch: &merge.Batch{Records: records}}
		for about := range len(records) + 1 {
			c.within = about
			if n := c.upTo(records, limit); n != want {
				t.Fatalf("%v up to %d, with an estimate of %d: %d, want %d", records, limit, about, n, want)
			}
		}
		in := &input{queue: []*chunk{c}}
		in.estimate(limit)
		if c.within < 0 || c.within > len(records) {
			t.Fatalf("%v up to %d: the estimate is %d", records, limit, c.within)
		}
	}
}

// Nothing more is copied for a rewriting that is to end.
func TestRewriteStops(t *testing.T) {
	s := &sink{order: newOrder(), pcap: merge.NewPcap(io.Discard, merge.Header{})}
	s.order.places.Note(1<<20, 5)
	s.order.earliest = 10
	ctx, stop := context.WithCancel(context.Background())
	stop()
	var to bytes.Buffer
	if err := s.rewrite(ctx, bytes.NewReader(make([]byte, 2<<20)), &to, t.TempDir()); !errors.Is(err, context.Canceled) || to.Len() > 0 {
		t.Errorf("%d bytes, %v", to.Len(), err)
	}
}

// What is read first of inputs is spread evenly over what is read of each at once, which is no more where they are more.
func TestReadSizes(t *testing.T) {
	before := readSizesOf(0, 1)
	if before.first != before.quick {
		t.Errorf("a single input: %+v", before)
	}
	for _, inputs := range []int{2, 3, 4, 5, 16, 17, 256, 257, 1000} {
		last := 0
		for i := range inputs {
			s := readSizesOf(i, inputs)
			even := s.quick * (i + 1) / inputs
			if s.first < last || s.first != even && (even >= 1<<10 || s.first != 1<<10) {
				t.Errorf("input %d of %d: %+v", i, inputs, s)
			}
			if s.quick > before.quick || s.other > before.other {
				t.Errorf("input %d of %d: %+v is more than %+v", i, inputs, s, before)
			}
			last = s.first
		}
		if before = readSizesOf(0, inputs); last != before.quick {
			t.Errorf("the last of %d inputs: %d, want %d", inputs, last, before.quick)
		}
	}
}
