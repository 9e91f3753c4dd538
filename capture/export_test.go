package capture

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// stepped is how far the tests have set the clock ahead, in whole seconds.
var stepped atomic.Int64

func init() {
	timeNow = func() time.Time { return step(time.Now(), stepped.Load()) }
}

// SetClock sets the clock ahead, as somebody does who sets this computer's clock, or as it looks after it has slept.
// What has passed since something is known all the same. Not for tests that run in parallel.
func SetClock(seconds int64) { stepped.Store(seconds) }

// step moves a time that has both readings of a clock by that of the calendar only. There is no other way: its seconds are
// above the nanoseconds in the first word (package time, type Time).
func step(t time.Time, seconds int64) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) += uint64(seconds) << 30
	return t
}
