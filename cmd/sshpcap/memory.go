package main

import (
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// While many instances are connected to, memory grows and little of it can be had back: looking for that as often as later
// would be a tenth of all the work. The collector begins at so many percent of 4 MiB: what connecting takes.
const (
	growingPercent = 400
	growingEach    = 128 << 10
	growingMost    = 10 * time.Second // for one that does not answer; meanwhile the others give packets
)

// growAtOnce lets memory grow until what it returns is called, at most for a while. It respects what the user says with
// GOGC.
func growAtOnce(instances int) (usual func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(max(growingPercent, instances*growingEach/(4<<20/100)))
	restore := sync.OnceFunc(func() { debug.SetGCPercent(before) })
	timer := time.AfterFunc(growingMost, restore)
	return func() { timer.Stop(); restore() }
}

// What a capture takes beside the packets that wait: for itself, and for each instance, the SSH library's part included. An
// eighth of the buffer more lets the collector rest when that is full.
const (
	memoryForAll  = 14 << 20
	memoryForEach = 256 << 10
)

// limitMemory has memory looked for that can be had back before there is more than a capture needs, however fast packets
// come. It respects what the user says with GOMEMLIMIT.
func limitMemory(buffer int64, instances int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(buffer + buffer/8 + memoryForAll + memoryForEach*int64(instances))
	}
}
