package merge

import "math"

// tournament finds the lane whose next record comes first. Each inner node holds the winner of its two children (not
// the loser, as a loser tree does): the comparisons are as many, and the key of any leaf can change at any time, which
// live streams do whenever an empty lane gets a batch.
type tournament struct {
	nodes []entrant // 1 is the root, the leaves are the second half
	free  []int     // leaves without a lane, the next to be used last
	// earlier tells which of two lanes of one source has the batch that arrived first.
	earlier func(a, b int32) bool
}

// entrant is a lane in the tournament.
type entrant struct {
	key    int64 // time of its next record, never for none
	source int32
	leaf   int32
}

const never = math.MaxInt64

// less orders by time, then by source, then by arrival.
func (t *tournament) less(a, b entrant) bool {
	if a.key != b.key {
		return a.key < b.key
	}
	return a.key != never && t.before(a, b)
}

// before tells which of two entrants with equal keys goes first.
func (t *tournament) before(a, b entrant) bool {
	if a.source != b.source {
		return a.source < b.source
	}
	return t.earlier(a.leaf, b.leaf)
}

// top returns the lane that is next; its key is never if all are empty.
func (t *tournament) top() entrant {
	if len(t.nodes) == 0 {
		return entrant{key: never}
	}
	return t.nodes[1]
}

// add gives an empty lane of a source its leaf.
func (t *tournament) add(source SourceID) int {
	if len(t.free) == 0 {
		t.grow()
	}
	leaf := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.nodes[t.leaves()+leaf].source = int32(source)
	t.update(leaf, never)
	return leaf
}

// remove takes an empty lane's leaf back.
func (t *tournament) remove(leaf int) {
	t.free = append(t.free, leaf)
}

func (t *tournament) leaves() int { return len(t.nodes) / 2 }

func (t *tournament) grow() {
	old := t.leaves()
	size := max(1, 2*old)
	nodes := make([]entrant, 2*size)
	for i := range size {
		nodes[size+i] = entrant{key: never, leaf: int32(i)}
	}
	copy(nodes[size:], t.nodes[old:])
	t.nodes = nodes
	for i := size - 1; i > 0; i-- {
		nodes[i] = nodes[2*i]
		if t.less(nodes[2*i+1], nodes[2*i]) {
			nodes[i] = nodes[2*i+1]
		}
	}
	for i := size - 1; i >= old; i-- {
		t.free = append(t.free, i)
	}
}

// update gives a leaf another key, and tells whether its lane is next then.
func (t *tournament) update(leaf int, key int64) bool {
	i := t.leaves() + leaf
	best := t.nodes[i]
	best.key = key
	t.nodes[i] = best
	for i > 1 {
		if other := t.nodes[i^1]; t.less(other, best) {
			best = other
		}
		i >>= 1
		t.nodes[i] = best
	}
	return int(best.leaf) == leaf
}

// key returns a leaf's.
func (t *tournament) key(leaf int) int64 { return t.nodes[t.leaves()+leaf].key }

// set gives a leaf another key, if it is another one.
func (t *tournament) set(leaf int, key int64) {
	if t.key(leaf) != key {
		t.update(leaf, key)
	}
}

// second returns the lane that is next but one: the best of those that lost to the one that is next.
func (t *tournament) second() entrant {
	best := entrant{key: never}
	for i := t.leaves() + int(t.nodes[1].leaf); i > 1; i >>= 1 {
		if other := t.nodes[i^1]; t.less(other, best) {
			best = other
		}
	}
	return best
}
