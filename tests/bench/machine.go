package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// machine tells what there is, at a moment, of a machine whose processors and caches others have a part of. With it tables of
// different hours can be told apart from tables of different programs.
type machine struct {
	lines  []int64 // ns that a cache line took from one processor to another
	caches []int64 // MiB that stayed in a processor's caches
}

const machineLegend = "The machine, before each run: how long a cache line takes from one processor to another, and how much, of 8 MiB, stays in the caches."

// machineHead is what stands above what String returns.
var machineHead = fmt.Sprintf("%-14s | %-11s", "line", "caches")

// lookEnv makes this program one that looks at the machine once.
const lookEnv = "SSHPCAP_BENCH_LOOK"

// looks is that, if the environment says so.
func looks() bool {
	if os.Getenv(lookEnv) == "" {
		return false
	}
	fmt.Println(handover().Nanoseconds(), cached())
	return true
}

// look takes a few tens of milliseconds. It is done in a process of its own: the memory of one that starts programs counts
// as theirs.
func (m *machine) look() error {
	cmd, err := again(lookEnv, "1")
	if err != nil {
		return err
	}
	said, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("looking at the machine: %w", err)
	}
	var line, cache int64
	if _, err := fmt.Sscan(string(said), &line, &cache); err != nil {
		return fmt.Errorf("looking at the machine: %w", err)
	}
	m.lines, m.caches = append(m.lines, line), append(m.caches, cache)
	return nil
}

// String is, of what was seen, the medians and how far apart it was.
func (m *machine) String() string {
	return fmt.Sprintf("%-14s | %-11s", within(m.lines, "ns"), within(m.caches, "MiB"))
}

func within(all []int64, unit string) string {
	return fmt.Sprintf("%d %s (%d-%d)", median(all), unit, slices.Min(all), slices.Max(all))
}

// usual is the median of some times that f measures: the processor may be somebody else's in the midst of one.
func usual(f func() time.Duration) time.Duration {
	times := make([]time.Duration, 9)
	for i := range times {
		times[i] = f()
	}
	return median(times)
}

// handover has two goroutines answer each other through one cache line. It is 0 if there is one processor only.
func handover() time.Duration {
	if runtime.GOMAXPROCS(0) < 2 {
		return 0
	}
	return usual(func() time.Duration {
		const turns = 2000
		var turn atomic.Int64
		play := func(mine int64) {
			for n := mine; n < 2*turns; n += 2 {
				for turn.Load() != n { // without letting others run: that would be what takes the time
				}
				turn.Store(n + 1)
			}
		}
		var other sync.WaitGroup
		began := make(chan struct{})
		other.Go(func() { close(began); play(1) })
		<-began
		start := time.Now()
		play(0)
		other.Wait()
		return time.Since(start) / (2 * turns)
	})
}

// A load takes less where what is loaded is in a cache, also in the third one, and twice as long or more where it is not.
const cachedLoad = 50 * time.Nanosecond

// cached returns how many MiB can be loaded from, at random, as from a cache. It looks no further than what a merge goes
// through at once.
func cached() (size int64) {
	room := make([]uint32, 8<<20/4)
	for _, mib := range []int{1, 2, 3, 4, 6, 8} {
		if load(chain(room[:mib<<20/4])) > cachedLoad {
			break
		}
		size = int64(mib)
	}
	return size
}

const cacheLine = 64 / 4 // numbers in one

// chain makes each cache line's first number the place of another line's: one circle through all of them.
func chain(of []uint32) []uint32 {
	lines := len(of) / cacheLine
	for i := range lines { // Sattolo's way to make a random circle
		of[i*cacheLine] = uint32(i * cacheLine)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for i := lines - 1; i > 0; i-- {
		j := random.IntN(i)
		of[i*cacheLine], of[j*cacheLine] = of[j*cacheLine], of[i*cacheLine]
	}
	return of
}

// load returns how long a load takes from a chain.
func load(chain []uint32) time.Duration {
	at := uint32(0)
	for range len(chain) / cacheLine { // which brings them to the caches
		at = chain[at]
	}
	took := usual(func() time.Duration {
		const loads = 5000
		start := time.Now()
		for range loads {
			at = chain[at]
		}
		return time.Since(start) / loads
	})
	runtime.KeepAlive(at)
	return took
}
