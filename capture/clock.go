package capture

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/remote"
)

// Clock is how far an instance's clock is ahead of ours. The true offset is within Error of Offset.
type Clock struct {
	Known  bool
	Offset time.Duration
	Error  time.Duration
	Shift  time.Duration // what was added to the timestamps, with Config.AlignClocks

	ours time.Duration // how far our own had been set ahead by then, or stood still: see run.drift
}

// certain is the offset where the clocks differ for sure, and 0 where they may agree.
func (c Clock) certain() time.Duration {
	if c.Offset.Abs() <= c.Error {
		return 0
	}
	return c.Offset
}

// isOff reports whether the clock is so far off that people should know.
func (c Clock) isOff() bool { return c.Known && c.Offset.Abs() > farOff+c.Error }

// farOff is an offset that puts packets of two instances in an order that misleads: of the size of a round trip.
const farOff = 10 * time.Millisecond

// String says so, with a sign; it is empty when nothing is known.
func (c Clock) String() string {
	if !c.Known {
		return ""
	}
	text := fmt.Sprintf("clock %+.1f ms ± %.1f ms", milliseconds(c.Offset), milliseconds(c.Error))
	if c.Shift != 0 {
		text += fmt.Sprintf("; %+d ns were added to the timestamps", c.Shift.Nanoseconds())
	}
	return text
}

// MarshalJSON gives offset and error in milliseconds, and the shift in nanoseconds: it is to be undone exactly.
func (c Clock) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Offset float64 `json:"offset_ms"`
		Error  float64 `json:"error_ms"`
		Shift  int64   `json:"shift_ns"`
	}{milliseconds(c.Offset), milliseconds(c.Error), c.Shift.Nanoseconds()})
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// reading is what an instance's clock showed at some time between two of ours. Both of these have Go's monotonic clock.
type reading struct {
	asked, came time.Time
	shows       time.Time
}

// absurd is an offset that says that the clock is not set at all, or that somebody jokes.
const absurd = 100 * 365 * 24 * time.Hour

// clock is what a reading tells: half of the round trip is what it does not.
func (r reading) clock() (c Clock, ok bool) {
	half := (r.came.Sub(r.asked) + 1) / 2
	if r.shows.IsZero() || half < 0 || r.asked.Sub(r.shows).Abs() > absurd {
		return Clock{}, false
	}
	return Clock{Known: true, Offset: r.shows.Sub(r.asked.Round(0).Add(half)), Error: half}, true
}

// drift is how fast two clocks may go apart: quartz is off by 20 to 50 millionths.
const drift = 50e-6

// estimate is the best that is known of an instance's clock.
type estimate struct {
	clock Clock
	at    time.Time // when it was measured
}

// take takes in another measurement: a better one, or one that tells that the clock has been set since.
func (e *estimate) take(c Clock, now time.Time) (changed bool) {
	aged := e.clock.Error + time.Duration(drift*float64(now.Sub(e.at)))
	stepped := (c.Offset + c.ours - e.clock.Offset - e.clock.ours).Abs() > c.Error+aged
	if e.clock.Known && !stepped && c.Error > aged {
		return false
	}
	c.Shift = e.clock.Shift
	e.clock, e.at = c, now
	return true
}

// stderr is what an instance says beside the packets, with the times at which it tells its clock.
type stderr struct {
	remote.Log
	introduced chan struct{} // closed by Write when all has been said that comes before the helper's own words
	watched    chan struct{} // closed by Write when the instance has told that what ends the helper there is running
	read       chan reading  // of the clock; Write never waits for who takes them

	mu    sync.Mutex
	began time.Time // when the command was sent
	named time.Time // when the instance had told which host it is; zero where it has not
	asked time.Time // when the question was sent that is not answered yet; at first, when the command was
	told  int       // how often it told its clock
	done  bool      // introduced is closed
	safe  bool      // watched is closed
}

func newStderr(asked time.Time) *stderr {
	return &stderr{introduced: make(chan struct{}), watched: make(chan struct{}), read: make(chan reading, 1), began: asked, asked: asked}
}

func (l *stderr) Write(p []byte) (int, error) {
	now := timeNow()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Log.Write(p)
	if n, shows := l.Log.Clock(); n > l.told {
		l.told = n
		if !l.asked.IsZero() { // else nobody wanted to know
			select {
			case l.read <- reading{l.asked, now, shows}:
			default:
			}
		}
		l.asked = time.Time{}
	}
	if l.done && l.safe {
		return len(p), nil
	}
	report := l.Report()
	if l.named.IsZero() && report.Host != "" {
		l.named = now
	}
	if !l.done && report.Started {
		l.done = true
		close(l.introduced)
	}
	if !l.safe && report.Watched {
		l.safe = true
		close(l.watched)
	}
	return len(p), nil
}

// ask sends the question.
func (l *stderr) ask(to io.Writer) error {
	l.mu.Lock()
	l.asked = timeNow()
	l.mu.Unlock()
	_, err := to.Write(remote.ClockQuestion())
	return err
}

// How often the clock is read. Of the readings of a series the one with the shortest round trip counts.
const (
	firstReadings = 5
	laterReadings = 3
	beatsBetween  = 10              // two series
	mostPatience  = 2 * time.Second // with an answer
)

// manyClocks is the number of instances from which on their clocks are read once while they are connected to, and the
// others of the first series some seconds later: what comes and goes meanwhile makes round trips long, and these longer.
const manyClocks = 64

// readClock is one series. The first reading may be one that was asked for already: the script's own, when it begins. It
// reports whether the instance answers.
func (s *stream) readClock(log *stderr, over <-chan struct{}, n int, stdin io.Writer, asked bool) (answers bool) {
	patience := time.NewTimer(mostPatience)
	defer patience.Stop()
	for i := range n {
		if !asked && log.ask(stdin) != nil {
			return false
		}
		asked = false
		select {
		case r := <-log.read:
			if c, ok := r.clock(); ok {
				s.learnClock(c, r.came)
			}
		case <-patience.C:
			return i > 1
		case <-over:
			return false
		}
	}
	return true
}

// clock is what is known of the instance's clock.
func (s *stream) clock() Clock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.estimate.clock
}

// learnClock takes in a measurement, and tells the pump of it.
func (s *stream) learnClock(c Clock, at time.Time) {
	s.mu.Lock()
	before := s.estimate.clock
	c.ours = s.instance.run.drift()
	changed := s.estimate.take(c, at)
	after, open := s.estimate.clock, s.open
	s.mu.Unlock()
	if !changed || !open {
		return
	}
	s.instance.run.messages <- message{stream: s, kind: timed}
	step, most := after.Offset-before.Offset, farOff+after.Error+before.Error
	// Where only one of these is large it was our clock that was set, or slept.
	if before.Known && step.Abs() > most && (step+after.ours-before.ours).Abs() > most {
		s.instance.run.emit(Event{Kind: Note, Instance: s.instance.Name, Text: "its clock was set, by " + aheadOrBehind(step)})
	}
}

// clockPatience is how long a stream that can open waits for its clock to be measured. With --align-clocks the timestamps
// hang on it.
func (r *run) clockPatience() time.Duration {
	if r.cfg.AlignClocks {
		return mostPatience
	}
	return 100 * time.Millisecond
}

// awaitClock waits a moment for what the instance says of itself, and for its clock: that was sent before the packets,
// but a server may forward it behind them.
func (s *stream) awaitClock(log *stderr, measured <-chan struct{}) {
	if waitFor(log.introduced, 250*time.Millisecond) {
		waitFor(measured, s.instance.run.clockPatience())
	}
}

// waitFor waits for a channel to be closed, and tells whether it is. Where it is already no timer is made: there may be
// many instances.
func waitFor(done <-chan struct{}, d time.Duration) bool {
	select {
	case <-done:
		return true
	default:
	}
	patience := time.NewTimer(d)
	defer patience.Stop()
	select {
	case <-done:
		return true
	case <-patience.C:
		return false
	}
}

// warnOfClocks tells, in one line, of clocks that are so far off that packets stand in an order that misleads.
func (p *pump) warnOfClocks(sources []*source) {
	off := slices.DeleteFunc(slices.Clone(sources), func(src *source) bool { return !src.stream.clock().isOff() })
	if len(off) == 0 || p.run.cfg.AlignClocks {
		return
	}
	worst := slices.MaxFunc(off, func(a, b *source) int {
		return cmp.Compare(a.stream.clock().Offset.Abs(), b.stream.clock().Offset.Abs())
	})
	c := worst.stream.clock()
	what := fmt.Sprintf("its clock is %s (± %v)", aheadOrBehind(c.Offset), rounded(c.Error))
	switch n := len(off) - 1; n {
	case 0:
	case 1:
		what += ", and another one is off, too"
	default:
		what += fmt.Sprintf(", and %d others are off, too", n)
	}
	p.run.emit(Event{Kind: Note, Instance: worst.stream.instance.Name, Text: what + "; packets stand where their clock says; hint: --align-clocks"})
}

func aheadOrBehind(d time.Duration) string {
	if d < 0 {
		return rounded(-d).String() + " behind"
	}
	return rounded(d).String() + " ahead"
}

// rounded is a time as people read it.
func rounded(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
