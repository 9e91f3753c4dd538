package files

import (
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
