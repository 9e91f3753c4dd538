package files

import "math"

// never is the time of the next packet of an input that has none.
const never = math.MaxInt64

// tree finds the input whose next packet is the earliest: a winner tree, in which the left one wins of equals, so that
// these come in the order of the inputs.
type tree struct {
	size int // leaves, a power of two
	keys []int64
	who  []int32 // 1 is the root, the leaves are the second half
}

func newTree(inputs int) *tree {
	size := 1
	for size < inputs {
		size *= 2
	}
	t := &tree{size: size, keys: make([]int64, size), who: make([]int32, 2*size)}
	for i := range size {
		t.keys[i] = never
		t.who[size+i] = int32(i)
	}
	for i := size - 1; i > 0; i-- {
		t.who[i] = t.who[2*i]
	}
	return t
}

// update gives an input another key, and tells whether it is the first then.
func (t *tree) update(input int, key int64) bool {
	keys, who := t.keys, t.who
	keys[input] = key
	best := int32(input)
	for i := t.size + input; i > 1; i >>= 1 {
		if other := who[i^1]; keys[other] < key || keys[other] == key && other < best {
			best, key = other, keys[other]
		}
		who[i>>1] = best
	}
	return best == int32(input)
}

func (t *tree) first() int { return int(t.who[1]) }

// limit is the time up to which the first input may go on: others come behind it.
func (t *tree) limit() int64 {
	first := t.who[1]
	second, who := int64(never), int32(math.MaxInt32)
	for i := t.size + int(first); i > 1; i >>= 1 {
		if other := t.who[i^1]; t.keys[other] < second || t.keys[other] == second && other < who {
			second, who = t.keys[other], other
		}
	}
	if who < first {
		return second - 1
	}
	return second
}
