package files

import (
	"math"
	"slices"

	"github.com/sshpcap/sshpcap/merge"
)

// round is what is merged at once: of each input all packets up to the same place. Rounds follow each other in the
// output.
type round struct {
	number  int
	owner   *worker  // who gathered it, and has its memory
	parts   [][]part // of each input that has packets in it, in their order
	inputs  [][]part // memory of these
	packets int      // with other blocks among them
	blocks  int      // of these
	bytes   int
	newest  int64 // of their times, if they are ordered
	ordered bool  // each input's packets are, and are not before those of earlier rounds

	tree   tree
	times  []int64
	framed []byte // as they go into the file, if that could be done already

	// Where they are sorted they have numbers, input by input.
	sorted []*part
	starts []uint32 // of each of these parts the number of its first packet
	keys   []uint64 // in order: of each packet its time, since the first one of all, and its number
	room   []uint64 // as long
	places []uint32 // of each packet in framed, by its number
}

// part is some of a chunk's packets.
type part struct {
	in      *input
	chunk   *chunk
	records []merge.Record
	from    int             // of the chunk's records, the first one
	pos     int             // of records, the next one
	options []packetOptions // of these, and of the chunk's behind them
}

func (r *round) add(number int, p part, ordered bool) {
	of := &r.inputs[number]
	if len(*of) == 0 {
		r.parts = append(r.parts, nil)
	}
	*of = append(*of, p)
	r.parts[len(r.parts)-1] = *of
	first, last := &p.records[0], &p.records[len(p.records)-1]
	if r.packets == 0 {
		r.ordered, r.newest = true, last.Time
	}
	r.ordered = r.ordered && ordered
	r.packets += len(p.records)
	if p.chunk.blocks > 0 {
		r.blocks += p.blocks(0, len(p.records))
	}
	r.newest = max(r.newest, last.Time)
	r.bytes += int(last.Off + last.CapLen - first.Off)
}

// merge gives the packets in order, in runs of one part.
func (r *round) merge(run func(p *part, from, to int) error) error {
	if r.sort() {
		return r.inOrder(run)
	}
	r.times = r.times[:0]
	for _, parts := range r.parts {
		r.times = append(r.times, min(parts[0].records[0].Time, never-1))
	}
	t := &r.tree
	t.start(r.times)
	for t.winner.at() != never {
		parts := r.parts[t.winner.input]
		p := &parts[0]
		from := p.pos
		p.pos = t.run(p.records, from)
		if err := run(p, from, p.pos); err != nil {
			return err
		}
		if p.pos < len(p.records) {
			continue
		}
		next := int64(never)
		if len(parts) > 1 {
			next = min(parts[1].records[0].Time, never-1)
		}
		r.parts[t.winner.input] = parts[1:]
		t.replace(next)
	}
	return nil
}

// From so many inputs on packets are sorted, which takes the same time however many there are. With fewer, of which runs
// are long, and where times are far from each other, they are merged.
const manyInputs = 3

// sort puts the keys of all packets in order, once, if that is to be done.
func (r *round) sort() bool {
	if !r.ordered {
		return false
	}
	if len(r.sorted) > 0 {
		return true // they are
	}
	first := int64(never)
	for _, parts := range r.parts {
		first = min(first, parts[0].records[0].Time)
	}
	span := r.newest - first
	if len(r.parts) < manyInputs || span < 0 || span > math.MaxUint32 || r.packets > math.MaxInt32 {
		return false
	}
	r.starts = r.starts[:0]
	keys := slices.Grow(r.keys[:0], r.packets)[:r.packets]
	n := 0
	for _, parts := range r.parts {
		for j := range parts {
			p := &parts[j]
			r.sorted = append(r.sorted, p)
			r.starts = append(r.starts, uint32(n))
			of := keys[n:][:len(p.records)]
			for i := range p.records {
				of[i] = uint64(p.records[i].Time-first)<<32 | uint64(n+i)
			}
			n += len(of)
		}
	}
	r.room = slices.Grow(r.room[:0], len(keys))[:len(keys)]
	r.keys, r.room = sortKeys(keys, r.room, uint32(span))
	return true
}

// inOrder gives the packets in the order of their keys: those that follow each other in their input together.
func (r *round) inOrder(run func(p *part, from, to int) error) error {
	for keys := r.keys; len(keys) > 0; {
		number := uint32(keys[0])
		i, _ := slices.BinarySearch(r.starts, number+1) // the next part's
		of := r.sorted[i-1]
		from, n := int(number-r.starts[i-1]), 1
		for n < len(keys) && uint32(keys[n]) == number+uint32(n) && from+n < len(of.records) {
			n++
		}
		if err := run(of, from, from+n); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// aroundPacket is how many bytes more than a packet in its input one in the output takes, at most, without options.
const aroundPacket = 36

// frame merges the packets as they go into the file, and gives back what they were in, which is in the processor's
// caches still for what is read next. Nothing of the sink is changed by it.
func (r *round) frame(s *sink) {
	defer r.drop()
	if size := r.bytes + r.packets*aroundPacket; cap(r.framed) < size {
		r.framed = make([]byte, 0, size+size/4)
	}
	if r.sort() && r.put(s) {
		return
	}
	framed := r.framed[:0]
	_ = r.merge(func(p *part, from, to int) error {
		framed = s.append(framed, p, from, to)
		return nil
	})
	r.framed = framed
}

// put puts the packets, which are sorted, in their places, if there are no more bytes than numbers for these. It goes through
// them input by input: so a processor reads stretches of memory, which it fetches ahead, and does not wait for what it
// writes here and there.
func (r *round) put(s *sink) bool {
	r.places = slices.Grow(r.places[:0], r.packets)[:r.packets]
	places := r.places
	for i, p := range r.sorted {
		s.sizes(places[r.starts[i]:], p)
	}
	size := int64(0)
	for _, key := range r.keys {
		place := &places[uint32(key)]
		*place, size = uint32(size), size+int64(*place)
	}
	if size > math.MaxUint32 {
		return false
	}
	r.framed = slices.Grow(r.framed[:0], int(size))[:size]
	for i, p := range r.sorted {
		s.put(r.framed, places[r.starts[i]:], p)
	}
	return true
}

// release empties the round.
func (r *round) release() {
	r.drop()
	r.framed, r.packets, r.blocks, r.bytes = r.framed[:0], 0, 0, 0
}

// drop gives back what the packets were in, unless it has.
func (r *round) drop() {
	if len(r.parts) == 0 {
		return
	}
	for i, parts := range r.inputs {
		for j := range parts {
			parts[j].chunk.drop()
		}
		clear(parts)
		r.inputs[i] = parts[:0]
	}
	clear(r.parts)
	clear(r.sorted)
	r.parts, r.sorted = r.parts[:0], r.sorted[:0]
}
