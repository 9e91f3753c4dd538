package files

import "github.com/sshpcap/sshpcap/merge"

// round is what is merged at once: of each input all packets up to the same place. Rounds follow each other in the
// output.
type round struct {
	number  int
	parts   [][]part // of each input that has packets in it, in their order
	inputs  [][]part // memory of these
	packets int
	bytes   int
	newest  int64 // of their times, if they are ordered
	ordered bool  // each input's packets are, and are not before those of earlier rounds

	tree   tree
	times  []int64
	framed []byte // as they go into the file, if that could be done already
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
	r.newest = max(r.newest, last.Time)
	r.bytes += int(last.Off + last.CapLen - first.Off)
}

// merge gives the packets in order, in runs of one part.
func (r *round) merge(run func(p *part, from, to int) error) error {
	r.times = r.times[:0]
	for _, parts := range r.parts {
		r.times = append(r.times, min(parts[0].records[0].Time, never-1))
	}
	t := &r.tree
	t.start(r.times)
	for t.winner.time != never {
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

// aroundPacket is how many bytes more than a packet in its input one in the output takes, at most, without options.
const aroundPacket = 36

// frame merges the packets as they go into the file. Nothing of the sink is changed by it.
func (r *round) frame(s *sink) {
	if size := r.bytes + r.packets*aroundPacket; cap(r.framed) < size {
		r.framed = make([]byte, 0, size+size/4)
	}
	framed := r.framed[:0]
	_ = r.merge(func(p *part, from, to int) error {
		framed = s.append(framed, p, from, to)
		return nil
	})
	r.framed = framed
}

// release gives back what the packets were in.
func (r *round) release() {
	for i, parts := range r.inputs {
		for j := range parts {
			parts[j].chunk.drop()
		}
		clear(parts)
		r.inputs[i] = parts[:0]
	}
	clear(r.parts)
	r.parts, r.framed, r.packets, r.bytes = r.parts[:0], r.framed[:0], 0, 0
}
