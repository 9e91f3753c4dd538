package capture

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// shape looks for the connection that carries a stream by the sizes of packets, where its bytes cannot be found: another
// layer may encipher it once more, and packets may be cut off before them. It costs nothing while a stream gives little.
// When it gives much, a few messages of random sizes are sent on the connection. A flow of which hardly anything else
// is captured than packets that differ in size as those do, in their order, several times, carries the connection. That
// alone does no harm: what answers it must be much of what is captured, too.
//
// Sizes are those on the wire, of which a stream tells whatever it cuts off. What pads packets to a multiple of 4, 8 or 16 bytes
// leaves the differences of the messages as they are, since they are multiples of 16.
type shape struct {
	link merge.LinkType
	send func(sizes []int) bool // on the connection; false = not now

	began   time.Duration // when the counting of these began, in the run's time
	bytes   int
	packets int
	next    time.Duration // no probe before
	pause   time.Duration // after the next one that fails

	wait     time.Duration // for one to succeed
	pattern  *pattern      // what is looked for; nil = nothing
	until    time.Duration
	looked   int // packets
	best     int // of the pattern, in one flow
	bestFlow flow
	flows    map[flow]*sizes

	found  flow // what has shown a pattern, and shall again
	hits   int
	misses int // in a row
	all    volume
	back   volume // of it, what answers
}

// volume is how much there is of some packets.
type volume struct{ packets, bytes int }

func (v *volume) add(r merge.Record) {
	v.packets++
	v.bytes += int(r.OrigLen)
}

// When a stream is suspected, and how it is looked at.
const (
	suspectTime    = 8 * time.Second
	suspectBytes   = 1 << 20 // within that
	suspectPackets = 2000    // or so many

	shapeRest    = 15 * time.Millisecond  // for the last ones of a pattern
	minShapeTime = 150 * time.Millisecond // for a pattern to come back, at first: where that takes longer, less is lost by waiting
	maxShapeTime = 2 * time.Second
	shapeLooked  = 1 << 16 // packets in that time
	shapeFlows   = 512
	shapeHits    = 4
	shapeMisses  = 3   // in a row, before there is a pause
	shapeSampled = 32  // packets of a batch, to know how much answers
	shapeEnough  = 100 // packets, to judge by
	shapeShare   = 4   // one in so many must answer

	minShapePause = 100 * time.Millisecond
	maxShapePause = 16 * time.Second
)

// look reports whether the batch completes the proof that the stream feeds itself.
func (s *shape) look(b *merge.Batch, now time.Duration) bool {
	if s.pattern == nil && !s.begin(b, now) {
		return false
	}
	s.sample(b)
	for _, r := range b.Records {
		if r.OrigLen < minPadding || r.OrigLen > maxPadding+maxAround {
			continue
		}
		if s.looked++; s.looked > shapeLooked {
			s.until = 0
			break
		}
		if f, ok := packetFlow(s.link, b.Packet(r)); ok {
			s.add(f, int(r.OrigLen), now)
		}
	}
	switch {
	case now <= s.until && s.best < patternStrong:
		return false
	case s.best >= patternMatch:
		return s.hit(now)
	}
	s.miss(now)
	return false
}

// begin sends a pattern when it is time, and reports whether it did.
func (s *shape) begin(b *merge.Batch, now time.Duration) bool {
	if now-s.began > suspectTime {
		s.began, s.bytes, s.packets = now, 0, 0
	}
	s.bytes += len(b.Data)
	s.packets += len(b.Records)
	if now < s.next || s.hits == 0 && s.bytes < suspectBytes && s.packets < suspectPackets {
		return false
	}
	p := newPattern()
	if !s.send(p.sizes[:]) {
		return false
	}
	s.wait = max(s.wait, minShapeTime)
	s.pattern, s.until, s.looked, s.flows = p, now+s.wait, 0, make(map[flow]*sizes)
	s.best = 0
	return true
}

// add adds a packet to its flow, and looks whether the flow shows the pattern now.
func (s *shape) add(f flow, size int, now time.Duration) {
	if s.hits > 0 && f != s.found {
		return
	}
	of := s.flows[f]
	if of == nil {
		if len(s.flows) == shapeFlows {
			return
		}
		of = new(sizes)
		s.flows[f] = of
	}
	if !of.add(size) {
		return
	}
	if n := s.pattern.in(of.list[:of.n]); n >= patternMatch && n > s.best {
		s.best, s.bestFlow = n, f
		s.until = min(s.until, now+shapeRest)
	}
}

// sample counts what answers the flow that was found.
func (s *shape) sample(b *merge.Batch) {
	if s.hits == 0 {
		return
	}
	for _, r := range b.Records[:min(len(b.Records), shapeSampled)] {
		s.all.add(r)
		if f, ok := packetFlow(s.link, b.Packet(r)); ok && f.answers(s.found) {
			s.back.add(r)
		}
	}
}

// hit ends a probe that has found the pattern.
func (s *shape) hit(now time.Duration) bool {
	if s.hits == 0 {
		s.found, s.all, s.back = s.bestFlow, volume{}, volume{}
	}
	s.hits++
	if s.best >= patternStrong {
		s.hits++
	}
	s.misses, s.pattern, s.flows, s.next = 0, nil, nil, now
	if s.hits < shapeHits || s.all.packets < shapeEnough {
		return false
	}
	if shapeShare*s.back.packets >= s.all.packets || shapeShare*s.back.bytes >= s.all.bytes {
		return true
	}
	s.hits, s.pause = 0, maxShapePause // it is captured, and does not matter
	s.next = now + s.pause
	return false
}

// miss ends a probe that has not.
func (s *shape) miss(now time.Duration) {
	s.pattern, s.flows = nil, nil
	if s.misses++; s.misses <= shapeMisses {
		return
	}
	s.hits, s.misses = 0, 0
	s.wait = min(2*s.wait, maxShapeTime)
	s.pause = min(max(2*s.pause, minShapePause), maxShapePause)
	s.next = now + s.pause
}

// pattern is the sizes of messages, in an order that nothing else follows.
type pattern struct {
	sizes [patternSize]int
	place [paddings]int8 // of each size in the order, from 1 on; 0 = not used
}

// Sizes of messages. Each is one packet with all that is around it, also where packets are small.
const (
	patternSize   = 16
	patternMatch  = 10               // of them: some packets are lost when there are many
	patternStrong = 13               // of them count for two patterns
	patternPause  = time.Millisecond // between two, so that they do not become one packet

	minPadding  = 208
	paddingStep = 48 // a multiple of 16, and above maxOptions
	paddings    = 19 // different ones
	maxPadding  = minPadding + (paddings-1)*paddingStep
	maxAround   = 512 // bytes around a message on its way
	maxOptions  = 32  // bytes of it by which packets of one connection differ: TCP's selective acknowledgements, padded
)

func newPattern() *pattern {
	p := new(pattern)
	for i, n := range rand.Perm(paddings)[:patternSize] {
		p.sizes[i] = minPadding + n*paddingStep
		p.place[n] = int8(i + 1)
	}
	return p
}

// sizes is those of a flow's packets. Of such that follow each other in one size it has the first: a packet may be captured
// on each interface that it passes.
type sizes struct {
	n    int
	list [patternSize + patternSize/2]uint16
}

// add reports whether the size is one to look at. A flow with many other packets shows nothing.
func (s *sizes) add(size int) bool {
	if s.n > len(s.list) || s.n > 0 && int(s.list[s.n-1]) == size {
		return false
	}
	if s.n == len(s.list) {
		s.n++ // for good
		return false
	}
	s.list[s.n] = uint16(size)
	s.n++
	return true
}

// in is how many of the pattern's packets these sizes may be, of which the last one is new. It is exact from patternMatch on.
func (p *pattern) in(list []uint16) int {
	if len(list) < patternMatch {
		return 0
	}
	most, last := 0, int(list[len(list)-1])
	for _, size := range p.sizes[patternMatch-1:] {
		for options := range maxOptions/4 + 1 {
			most = max(most, p.longest(list, last-size-4*options))
		}
	}
	return most
}

// longest is how many of the sizes are in the pattern's order, with so many bytes around each, and options.
func (p *pattern) longest(list []uint16, around int) int {
	var most [patternSize + 1]int // with the one at a place as the last
	longest := 0
	for _, size := range list {
		more := int(size) - around - minPadding
		if more < 0 || more%paddingStep > maxOptions || more/paddingStep >= paddings {
			continue
		}
		place := p.place[more/paddingStep]
		if place == 0 {
			continue
		}
		most[place] = 1 + slices.Max(most[:place])
		longest = max(longest, most[place])
	}
	return longest
}
