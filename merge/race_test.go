//go:build race

package merge

// raced: sync.Pool drops things at random under the race detector.
const raced = true
