package demo

import (
	"container/heap"
	"math/rand/v2"
	"net"
	"time"
)

// Packet is a frame as a capture on one instance sees it.
type Packet struct {
	Time time.Time
	Data []byte // from the Ethernet header on
}

// host is a machine of the story.
type host struct {
	role string // of an instance; "" is a client, which nobody captures on
	ip   net.IP
	mac  net.HardwareAddr // as seen in the instances' network: that of the router for a client
	ttl  uint8            // as seen there

	delay  time.Duration // one way to any other host
	jitter time.Duration // at most that much more

	nextPort uint16 // for connections it opens
}

// network lets events happen in time order and keeps what each instance sees. It depends on its seed alone.
type network struct {
	now    time.Time
	events events
	count  int
	random *rand.Rand
	seen   map[string][]Packet
}

func newNetwork(start time.Time, seed uint64) *network {
	return &network{now: start, random: rand.New(rand.NewPCG(seed, 0)), seen: make(map[string][]Packet)}
}

// after has f called d from now.
func (n *network) after(d time.Duration, f func()) {
	n.count++
	heap.Push(&n.events, event{at: n.now.Add(d), order: n.count, do: f})
}

// run lets everything happen.
func (n *network) run() {
	for n.events.Len() > 0 {
		e := heap.Pop(&n.events).(event)
		n.now = e.at
		e.do()
	}
}

// capture has h see a frame now.
func (n *network) capture(h *host, data []byte) {
	if h.role != "" {
		n.seen[h.role] = append(n.seen[h.role], Packet{Time: n.now, Data: data})
	}
}

// between is a random duration of at least low and less than high.
func (n *network) between(low, high time.Duration) time.Duration {
	return low + time.Duration(n.random.Int64N(int64(high-low)))
}

type event struct {
	at    time.Time
	order int // among those at the same time
	do    func()
}

type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }

func (e events) Less(i, j int) bool {
	if e[i].at.Equal(e[j].at) {
		return e[i].order < e[j].order
	}
	return e[i].at.Before(e[j].at)
}

func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
