package files

import (
	"math"
	"math/bits"
	"slices"

	"github.com/sshpcap/sshpcap/merge"
)

// never is the time of the next packet of an input that has none.
const never = math.MaxInt64

// head is an input's next packet: its time, which is not negative, and whose it is. Of equal times the one of the input
// that was named first is before the other.
type head struct {
	time  uint64
	input uint64
}

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
			return head{uint64(times[input]), uint64(input)}
		}
		return head{never, uint64(input)}
	}
	a, b := t.play(2*node, times), t.play(2*node+1, times)
	if b.time < a.time {
		a, b = b, a
	}
	t.losers[node] = b
	return a
}

// replace gives the winner's input another time, and finds the new winner. There are no branches in it but the loop's:
// who wins a match cannot be foretold.
func (t *tree) replace(time int64) {
	key, input := uint64(time), t.winner.input
	losers := t.losers
	for node := (t.size + int(input)) / 2; node > 0 && node < len(losers); node /= 2 {
		at := &losers[node]
		_, less := bits.Sub64(at.input, input, 0)
		_, less = bits.Sub64(at.time, key, less) // 1 if the loser of before wins
		key, at.time = swapIf(less, key, at.time)
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
	second := head{never, math.MaxUint64}
	for node := (t.size + int(t.winner.input)) / 2; node > 0; node /= 2 {
		if at := t.losers[node]; at.time < second.time || at.time == second.time && at.input < second.input {
			second = at
		}
	}
	if second.input < t.winner.input {
		return int64(second.time) - 1
	}
	return int64(second.time)
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
