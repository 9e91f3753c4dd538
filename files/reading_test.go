package files

import (
	"bytes"
	"encoding/binary"
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
