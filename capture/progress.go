package capture

import (
	"sync/atomic"
)

// Progress is how far a capture is. Run counts it up; whoever shows it reads it whenever it likes.
type Progress struct {
	Instances atomic.Int64 // asked for
	Connected atomic.Int64 // logged in to, ever
	Capturing atomic.Int64 // at this moment
	Packets   atomic.Int64 // written
	Bytes     atomic.Int64 // of those packets
	Dropped   atomic.Int64 // by the kernels of instances, as far as helpers have reported
	Reported  atomic.Int64 // helpers that have: they do when they end
	Late      atomic.Int64 // written behind a later packet
}

// drop counts packets that an instance says its kernel dropped.
func (p *Progress) drop(n uint64) {
	for {
		before := p.Dropped.Load()
		sum := before
		if addClaim(&sum, n); p.Dropped.CompareAndSwap(before, sum) {
			return
		}
	}
}
