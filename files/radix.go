package files

import "math/bits"

// keyDigit is how many bits of a key are looked at in one pass: their counters stay in the first cache.
const keyDigit = 12

// mostAlike is how many keys may be alike in their first digit before the others are looked at, too.
const mostAlike = 16

type keyCounts [1 << keyDigit]uint32

// sortKeys sorts numbers by their upper 32 bits, of which none is above most, and by the lower ones where these are equal.
// Of all the lower ones must be in order before. It takes a few nanoseconds a number, however many inputs these are from.
// room has the same length, and becomes the other one of the two.
//
// Where times are spread, as they mostly are, one pass by the first bits that are in use leaves little to be done, which
// insertion does; else each digit has its pass, the last one first (Knuth, The Art of Computer Programming, volume 3,
// sections 5.2.1 and 5.2.5).
func sortKeys(keys, room []uint64, most uint32) (sorted, other []uint64) {
	width := bits.Len32(most)
	var counts keyCounts
	first := 32 + max(width-keyDigit, 0)
	alike := counts.count(keys, first)
	if first == 32 || alike <= mostAlike {
		counts.scatter(keys, room, first)
		insertKeys(room)
		return room, keys
	}
	for shift := 32; shift < 32+width; shift += keyDigit {
		counts = keyCounts{}
		counts.count(keys, shift)
		counts.scatter(keys, room, shift)
		keys, room = room, keys
	}
	return keys, room
}

// count makes of zeros where the keys with each digit begin, and returns how many have the same, at most.
func (c *keyCounts) count(keys []uint64, shift int) (alike uint32) {
	for _, k := range keys {
		c[k>>shift%(1<<keyDigit)]++
	}
	sum := uint32(0)
	for i, n := range c {
		c[i] = sum
		sum += n
		alike = max(alike, n)
	}
	return alike
}

// scatter puts keys where those with their digit begin, one behind the other.
func (c *keyCounts) scatter(keys, room []uint64, shift int) {
	room = room[:len(keys)]
	for _, k := range keys {
		at := &c[k>>shift%(1<<keyDigit)]
		room[*at] = k
		*at++
	}
}

// insertKeys sorts keys that are nearly in order.
func insertKeys(keys []uint64) {
	last := uint64(0)
	for i, k := range keys {
		if k >= last {
			last = k
			continue
		}
		for i > 0 && keys[i-1] > k {
			keys[i] = keys[i-1]
			i--
		}
		keys[i] = k
	}
}
