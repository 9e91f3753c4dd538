package files

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
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

// The first bytes come by themselves, in one read or in several, those behind them as they come.
func TestBeginning(t *testing.T) {
	for _, c := range []struct {
		first int
		parts []string
		want  []int
	}{
		{0, []string{"0123456789"}, []int{10}},
		{1, []string{"0123456789"}, []int{1, 9}},
		{7, []string{"0123", "456789"}, []int{4, 3, 3}},
		{4, []string{"0123", "456789"}, []int{4, 6}},
		{100, []string{"0123", "456789"}, []int{4, 6}},
	} {
		var parts []io.Reader
		for _, p := range c.parts {
			parts = append(parts, strings.NewReader(p))
		}
		b := &beginning{io.MultiReader(parts...), c.first}
		var got []int
		for p := make([]byte, 20); ; {
			n, err := b.Read(p)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v, the first %d: reads %d, want %d", c.parts, c.first, got, c.want)
		}
	}
}
