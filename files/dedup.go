package files

import (
	"fmt"
	"hash/maphash"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// dedup finds packets that another interface has, too.
type dedup struct {
	window int64
	seed   [2]maphash.Seed
	recent map[print][]sighting
	queue  []expiry // in the order of their times, as long as the packets come in it
	found  int64
}

// print tells packets apart: two hashes of their bytes with seeds that nobody knows, and their lengths.
type print struct {
	a, b      uint64
	cap, orig uint32
	link      merge.LinkType
}

type sighting struct {
	time  int64
	iface int
}

type expiry struct {
	time int64
	of   print
}

// mostRecent bounds the memory of a dense capture with a long window.
const mostRecent = 1 << 20

func newDedup(window time.Duration) *dedup {
	return &dedup{window: int64(window), seed: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, recent: make(map[print][]sighting)}
}

// seen returns what to say of a packet that another interface had before; "" = none had.
func (d *dedup) seen(b *merge.Batch, r merge.Record, number int, links []merge.LinkType) (comment string) {
	d.forget(r.Time)
	data := b.Packet(r)
	p := print{maphash.Bytes(d.seed[0], data), maphash.Bytes(d.seed[1], data), r.CapLen, r.OrigLen, links[number]}
	for _, s := range d.recent[p] {
		if s.iface != number {
			comment = fmt.Sprintf("duplicate of a packet of interface %d, %v before", s.iface, time.Duration(r.Time-s.time))
			d.found++
			break
		}
	}
	d.recent[p] = append(d.recent[p], sighting{r.Time, number})
	d.queue = append(d.queue, expiry{r.Time, p})
	return comment
}

// forget drops what is too long ago.
func (d *dedup) forget(now int64) {
	n := 0
	for n < len(d.queue) && (d.queue[n].time < now-d.window || len(d.queue)-n > mostRecent) {
		e := d.queue[n]
		if rest := d.recent[e.of][1:]; len(rest) > 0 {
			d.recent[e.of] = rest
		} else {
			delete(d.recent, e.of)
		}
		n++
	}
	d.queue = d.queue[n:]
}
