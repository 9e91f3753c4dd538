package merge

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// What is put into places is what is appended, whichever headers the records have already.
func TestPutRun(t *testing.T) {
	ng := NewPcapng(io.Discard, Section{})
	if _, err := ng.AddInterface(Interface{}); err != nil {
		t.Fatal(err)
	}
	type format struct {
		size func(Record) int
		run  func([]byte, *Batch, []Record) []byte
		put  func([]byte, []uint32, *Batch, []Record)
	}
	ofPcap := func(nano bool) format {
		p := NewPcap(io.Discard, Header{Nano: nano})
		return format{func(r Record) int { return PcapSize(r.CapLen) }, p.AppendRun, p.PutRun}
	}
	formats := map[string]format{"pcap": ofPcap(false), "pcap ns": ofPcap(true), "pcapng": {
		func(r Record) int { return PcapngSize(r.CapLen, 0) },
		func(to []byte, b *Batch, recs []Record) []byte { return ng.AppendRun(to, 0, b, recs) },
		func(room []byte, places []uint32, b *Batch, recs []Record) { ng.PutRun(room, places, 0, b, recs) },
	}}
	random := rand.New(rand.NewPCG(1, 2))
	for name, f := range formats {
		for _, from := range forms {
			for _, b := range batchesOf(t, from.stream(samples(300))) {
				var want []byte
				order, places := random.Perm(len(b.Records)), make([]uint32, len(b.Records))
				for _, i := range order {
					places[i] = uint32(len(want))
					want = f.run(want, b, b.Records[i:i+1])
					if n := len(want) - int(places[i]); n != f.size(b.Records[i]) {
						t.Fatalf("%s: %d bytes, said %d", name, n, f.size(b.Records[i]))
					}
				}
				got := bytes.Repeat([]byte{0xa5}, len(want))
				f.put(got, places, b, b.Records)
				if !bytes.Equal(got, want) {
					t.Fatalf("%s from %+v: not the same", name, from)
				}
			}
		}
	}
}
