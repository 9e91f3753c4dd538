package merge_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/sshpcap/sshpcap/merge"
)

// FuzzTail: a tail of any bytes is put in order or is an error. What is put in order is as long as before, and in order when
// it is looked at again.
func FuzzTail(f *testing.F) {
	var ng, old bytes.Buffer
	w, c := merge.NewPcapng(&ng, merge.Section{Application: "x"}), merge.NewPcap(&old, merge.Header{LinkType: 1})
	for i, at := range []int64{5, 3, 9, 3, 1} {
		if i < 2 {
			if _, err := w.AddInterface(merge.Interface{Name: "a", LinkType: 1, Nano: i == 1}); err != nil {
				f.Fatal(err)
			}
		}
		b := &merge.Batch{Data: []byte("packet"), Records: []merge.Record{{Time: at * 1000, CapLen: 6, OrigLen: 6}}}
		if _, err := w.WriteRun(0, b, b.Records); err != nil {
			f.Fatal(err)
		}
		if _, err := c.WriteRun(b, b.Records); err != nil {
			f.Fatal(err)
		}
	}
	if w.Flush() != nil || c.Flush() != nil {
		f.Fatal("no seeds")
	}
	f.Add(ng.Bytes(), uint16(0), true, 16)
	f.Add(ng.Bytes()[:ng.Len()-3], uint16(0), true, 1<<20)
	f.Add(old.Bytes(), uint16(24), false, 30)
	f.Add(old.Bytes(), uint16(3), false, 1000)
	f.Add([]byte("\x06\x00\x00\x00\xff\xff\xff\x7f\x00\x00\x00\x00\x00\x00\x00\x00"), uint16(0), true, 100)
	f.Add([]byte("\x06\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00"), uint16(0), true, 100)
	f.Fuzz(func(t *testing.T, content []byte, from uint16, isNG bool, memory int) {
		tail := merge.Tail{File: bytes.NewReader(content), From: min(int64(from), int64(len(content))), To: int64(len(content)), Pcapng: isNG,
			Nano: []bool{false, true}, Dir: t.TempDir(), Memory: max(memory, 1)}
		var out bytes.Buffer
		if _, err := tail.WriteOrdered(context.Background(), &out); err != nil {
			return
		}
		if out.Len() != len(content)-int(tail.From) {
			t.Fatalf("%d bytes become %d", len(content)-int(tail.From), out.Len())
		}
		var again bytes.Buffer
		tail.File, tail.From, tail.To = bytes.NewReader(out.Bytes()), 0, int64(out.Len())
		if moved, err := tail.WriteOrdered(context.Background(), &again); err != nil || moved != 0 || !bytes.Equal(again.Bytes(), out.Bytes()) && !isNG {
			t.Fatalf("%d moved again, %v", moved, err)
		}
	})
}
