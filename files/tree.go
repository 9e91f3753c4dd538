package files

import (
	"math"
	"math/bits"
	"slices"

	"github.com/sshpcap/sshpcap/merge"
)

// never is the time of the next packet of an input that has none.
const never = math.MaxInt64

// head is an input's next packet: its time, and whose it is. Of equal times the one of the input that was named first is
// before the other.
type head struct {
	key   uint64 // of its time
	input uint64
}

// at is the time.
func (h head) at() int64 { return int64(h.key ^ sign) }

// keyOf makes of a time a number that is compared without a sign.
func keyOf(time int64) uint64 { return uint64(time) ^ sign }

const (
	sign     = 1 << 63
	neverKey = math.MaxUint64
)

// tree finds the input whose next packet is the earliest: a loser tree (Knuth, The Art of Computer Programming, volume
// 3, section 5.4.1). Every node holds the loser of the match that was played there.
type tree struct {
	size   int    // leaves
	losers []head // 1 is the root
	winner head
}

// newTree makes a tree of as many inputs as there are times.
func newTree(times []int64) *tree {
	t := new(tree)
	t.start(times)
	return t
}

// start makes t a tree of as many inputs as there are times.
func (t *tree) start(times []int64) {
	t.size = 1
	for t.size < len(times) {
		t.size *= 2
	}
	t.losers = slices.Grow(t.losers[:0], t.size)[:t.size]
	t.winner = t.play(1, times)
}

// play plays all matches below a node, and returns who wins.
func (t *tree) play(node int, times []int64) head {
	if input := node - t.size; input >= 0 {
		if input < len(times) {
			return head{keyOf(times[input]), uint64(input)}
		}
		return head{neverKey, uint64(input)}
	}
	a, b := t.play(2*node, times), t.play(2*node+1, times)
	if b.key < a.key {
		a, b = b, a
	}
	t.losers[node] = b
	return a
}

// replace gives the winner's input another time, and finds the new winner. There are no branches in it but the loop's:
// who wins a match cannot be foretold.
func (t *tree) replace(time int64) {
	key, input := keyOf(time), t.winner.input
	losers := t.losers
	for node := (t.size + int(input)) / 2; node > 0 && node < len(losers); node /= 2 {
		at := &losers[node]
		_, less := bits.Sub64(at.input, input, 0)
		_, less = bits.Sub64(at.key, key, less) // 1 if the loser of before wins
		key, at.key = swapIf(less, key, at.key)
		input, at.input = swapIf(less, input, at.input)
	}
	t.winner = head{key, input}
}

func swapIf(yes, a, b uint64) (uint64, uint64) {
	change := (a ^ b) & -yes
	return a ^ change, b ^ change
}

// limit is the time up to which the winner may go on: others come behind it.
func (t *tree) limit() int64 {
	second := head{neverKey, math.MaxUint64}
	for node := (t.size + int(t.winner.input)) / 2; node > 0; node /= 2 {
		if at := t.losers[node]; at.key < second.key || at.key == second.key && at.input < second.input {
			second = at
		}
	}
	if second.input < t.winner.input {
		return second.at() - 1
	}
	return second.at()
}

// run returns where the run ends that begins with the record at from, which is the winner's next one: those in order
// that come before what others have. If there are records behind it, they are in the tree.
func (t *tree) run(records []merge.Record, from int) (to int) {
	input, last := t.winner.input, records[from].Time
	to = from + 1
	if to == len(records) {
		return to
	}
	t.replace(records[to].Time)
	if t.winner.input != input || records[to].Time < last {
		return to
	}
	limit := t.limit()
	for to < len(records) && records[to].Time <= limit && records[to].Time >= last {
		last = records[to].Time
		to++
	}
	if to < len(records) {
		t.replace(records[to].Time)
	}
	return to
}
