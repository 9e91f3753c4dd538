package merge

import (
	"sync"
	"sync/atomic"
)

// Batch is a stretch of a stream's bytes and the records in it. It has one owner, who may hand it over; the last one
// gives it back with Release. A batch made as a literal, with just Data and Records, works as well.
type Batch struct {
	// Data holds the packets. In a batch of a Reader, the 16 bytes before each packet are its pcap record header,
	// little-endian and in the resolution of the stream, whatever byte order it came in.
	Data    []byte
	Records []Record

	arena   *arena
	headers headers
	ordered bool // Records are known to be in time order

	// The Merger's, while it has the batch.
	next  *Batch
	pos   int    // the first record that has not left
	seq   uint64 // order of arrival
	bytes int64  // charged for it, without its arena
}

// headers says what is before each packet in Batch.Data.
type headers uint8

const (
	noHeaders headers = iota
	microHeaders
	nanoHeaders
)

func headersOf(nano bool) headers {
	if nano {
		return nanoHeaders
	}
	return microHeaders
}

// Packet returns the captured bytes of one of the batch's records. They are the batch's.
func (b *Batch) Packet(r Record) []byte {
	return b.Data[r.Off : r.Off+r.CapLen : r.Off+r.CapLen]
}

// InOrder says that the records are known to be in time order.
func (b *Batch) InOrder() bool { return b.ordered }

// Release gives the batch back to be used again. Neither it nor its Data nor its Records may be touched afterwards.
func (b *Batch) Release() {
	a := b.arena
	if a == nil {
		return
	}
	*b = Batch{}
	batches.Put(b)
	a.release()
}

var batches = sync.Pool{New: func() any { return new(Batch) }}

// arena is memory that a Reader reads into and that its batches are cut from, so that a batch of one packet costs no
// more than its bytes. The Reader holds one reference and each batch another.
type arena struct {
	buf     []byte
	records []Record // of all batches; an append that moves them leaves those of earlier batches where they are
	class   int      // index in arenas
	refs    atomic.Int32

	held int // batches of it in the Merger; the Merger's
}

// arenaSizes: small for a stream that trickles, so that 1,024 of them are 4 MiB, and the largest has room for one
// record of any size.
var arenaSizes = [...]int{4 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, MaxRecord + 8<<10}

var arenas [len(arenaSizes)]sync.Pool

// newArena returns an arena of the smallest size that is at least want, or else of the largest.
func newArena(want int) *arena {
	class := arenaClass(want)
	a, ok := arenas[class].Get().(*arena)
	if !ok {
		a = &arena{buf: make([]byte, arenaSizes[class]), class: class}
	}
	a.refs.Store(1)
	return a
}

func arenaClass(want int) int {
	class := 0
	for class < len(arenaSizes)-1 && arenaSizes[class] < want {
		class++
	}
	return class
}

func (a *arena) release() {
	if a.refs.Add(-1) > 0 {
		return
	}
	a.records = a.records[:0]
	arenas[a.class].Put(a)
}

// batch cuts a batch out of the arena.
func (a *arena) batch(data []byte, records []Record) *Batch {
	a.refs.Add(1)
	b := batches.Get().(*Batch)
	b.Data, b.Records, b.arena = data, records, a
	return b
}
