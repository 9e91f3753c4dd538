// Package merge joins packet streams into one in time order, and reads and writes the file formats they come and go in.
// It knows nothing of SSH, has no clock of its own (time is an argument) and starts no goroutines.
//
// A [Reader] frames a pcap stream into a [Batch]: one stretch of bytes and the records in it. A [Merger] takes the
// batches of many sources and gives their records in order to a [Sink], which writes them with a [Pcap] or a [Pcapng].
// Whoever has a batch owns it: Push gives it to the Merger, and a Sink sees it only while WriteRun runs.
package merge

// MaxRecord is the longest captured length of a record that is accepted, whatever a stream's header claims. It is the
// largest snapshot length of tcpdump and libpcap (MAXIMUM_SNAPLEN).
const MaxRecord = 256 << 10

// Header is what a pcap stream says of itself.
type Header struct {
	LinkType LinkType
	Snaplen  uint32 // as the stream claims: 0 and 2^32-1 are seen, and bound nothing
	Nano     bool   // timestamps are in nanoseconds; else in microseconds
}

// Record is one packet of a Batch.
type Record struct {
	Time    int64  // ns since the epoch
	Off     uint32 // of the packet's first byte in Batch.Data
	CapLen  uint32 // bytes captured
	OrigLen uint32 // bytes on the wire, as the stream says: CapLen can be larger, and both are kept
}

// A Sink takes what leaves a Merger.
type Sink interface {
	// WriteRun writes records of one source that follow each other in the merged order. All of them are late (below a
	// time that has left before) or none is. It returns how many were written whole, which is less than len(recs) if and
	// only if it returns an error. It must not keep b or recs, nor change them.
	WriteRun(id SourceID, b *Batch, recs []Record) (n int, err error)
}
