package files

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Sorted keys are in the order of their upper halves, and as they were where these are equal.
func TestSortKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Uint32().Draw(t, "most") >> rapid.IntRange(0, 32).Draw(t, "shift")
		times := rapid.SliceOf(rapid.Uint32Range(0, most)).Draw(t, "times")
		var keys []uint64
		for i, at := range times {
			keys = append(keys, uint64(at)<<32|uint64(i))
		}
		want := slices.Clone(keys)
		slices.SortStableFunc(want, func(a, b uint64) int { return int(int64(a>>32) - int64(b>>32)) })
		sorted, other := sortKeys(keys, make([]uint64, len(keys)), most)
		if !slices.Equal(sorted, want) {
			t.Fatalf("%x, want %x", sorted, want)
		}
		if len(other) != len(keys) || len(keys) > 0 && &other[0] == &sorted[0] {
			t.Fatal("the other one is not of use")
		}
	})
}

// However the times lie: spread, in a heap with one that is far from it, or all the same.
func TestSortKeysSpread(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for _, near := range []uint32{1, 2, 100, 1 << 12, 1 << 20, math.MaxUint32} {
		for _, n := range []int{0, 1, 2, 17, 5000} {
			keys, most := make([]uint64, n), near
			for i := range keys {
				keys[i] = uint64(random.Uint32N(near))<<32 | uint64(i)
			}
			if n > 17 { // far from the others
				keys[n/2] |= 1 << 62
				most = max(most, uint32(keys[n/2]>>32))
			}
			want := slices.Sorted(slices.Values(keys))
			if got, _ := sortKeys(keys, make([]uint64, n), most); !slices.Equal(got, want) {
				t.Errorf("%d numbers below %d: not in order", n, near)
			}
		}
	}
}
