package capture

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/remote"
)

// Clock is how far an instance's clock is ahead of ours. The true offset is within Error of Offset.
type Clock struct {
	Known  bool
	Offset time.Duration
	Error  time.Duration
}

// certain is the offset where the clocks differ for sure, and 0 where they may agree: most of the way of a measurement
// lies before the instance's clock is read, so that one that is right looks ahead.
func (c Clock) certain() time.Duration {
	if c.Offset.Abs() <= c.Error {
		return 0
	}
	return c.Offset
}

// String says so, with a sign; it is empty when nothing is known.
func (c Clock) String() string {
	if !c.Known {
		return ""
	}
	return fmt.Sprintf("clock %+.1f ms ± %.1f ms", milliseconds(c.Offset), milliseconds(c.Error))
}

// stderr is what an instance says beside the packets, with the time at which it begins to speak. Its first words tell
// its clock: it read it after we asked and before they came here.
type stderr struct {
	remote.Log
	asked time.Time // when the command was sent; set before it is

	introduced chan struct{} // closed by Write when all has been said that comes before the helper's own words

	mu   sync.Mutex
	came time.Time // when the first bytes came
	done bool      // introduced is closed
}

func newStderr() *stderr { return &stderr{introduced: make(chan struct{})} }

func (l *stderr) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.came.IsZero() {
		l.came = time.Now()
	}
	l.Log.Write(p)
	if !l.done && l.Report().Started {
		l.done = true
		close(l.introduced)
	}
	return len(p), nil
}

// absurd is an offset that says that the clock is not set at all, or that somebody jokes.
const absurd = 100 * 365 * 24 * time.Hour

// clock compares the instance's clock with ours. It waits a moment for what the instance says first: it was sent
// before the packets, but a server may forward it behind them.
func (l *stderr) clock() Clock {
	patience := time.NewTimer(250 * time.Millisecond)
	defer patience.Stop()
	select {
	case <-l.introduced:
	case <-patience.C:
	}
	theirs := l.Report().Clock
	l.mu.Lock()
	defer l.mu.Unlock()
	if theirs.IsZero() || l.came.Sub(theirs).Abs() > absurd {
		return Clock{}
	}
	half := l.came.Sub(l.asked) / 2
	return Clock{Known: true, Offset: theirs.Sub(l.asked.Add(half)), Error: half}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// MarshalJSON gives both numbers in milliseconds.
func (c Clock) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Offset float64 `json:"offset_ms"`
		Error  float64 `json:"error_ms"`
	}{milliseconds(c.Offset), milliseconds(c.Error)})
}
