package files

import "math/bits"

// mostDigit is how many bits of a key are looked at in one pass, at most: their counters stay in the first cache.
const mostDigit = 12

// sortKeys sorts numbers by their upper 32 bits, of which none is above most, and leaves those that are equal in their
// order: a radix sort, least significant digit first (Knuth, The Art of Computer Programming, volume 3, section 5.2.5).
// It takes a few nanoseconds a number, however many inputs these are from, and does not branch on them. room has the same
// length, and becomes the other one of the two.
func sortKeys(keys, room []uint64, most uint32) (sorted, other []uint64) {
	width := bits.Len32(most)
	passes := (width + mostDigit - 1) / mostDigit
	if passes == 0 {
		return keys, room
	}
	digit := (width + passes - 1) / passes
	mask := uint64(1)<<digit - 1
	for pass := range passes {
		shift := 32 + pass*digit
		var starts [1 << mostDigit]uint32
		for _, k := range keys {
			starts[k>>shift&mask%(1<<mostDigit)]++ // the remainder is for the compiler, which sees that it is within
		}
		sum := uint32(0)
		for i := range starts[:mask+1] {
			starts[i], sum = sum, sum+starts[i]
		}
		for _, k := range keys {
			at := &starts[k>>shift&mask%(1<<mostDigit)]
			room[*at] = k
			*at++
		}
		keys, room = room, keys
	}
	return keys, room
}
