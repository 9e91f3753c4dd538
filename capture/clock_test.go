package capture

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A reading never tells more than it knows: the true offset is within its error, whatever the way there and back took.
func TestReadingHoldsTheTruth(t *testing.T) {
	now := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		ms := func(name string, least, most int64) time.Duration {
			return time.Duration(rapid.Int64Range(least*1e6, most*1e6).Draw(t, name))
		}
		there, back := ms("there", 0, 5000), ms("back", 0, 5000)
		truth := ms("ahead", -1e8, 1e8)
		r := reading{asked: now, shows: now.Round(0).Add(there + truth), came: now.Add(there + back)}
		c, ok := r.clock()
		if !ok || !c.Known || (c.Offset-truth).Abs() > c.Error || c.Error > (there+back)/2+1 {
			t.Fatalf("%v, %v; the clock is %v ahead", c, ok, truth)
		}
	})
	for name, r := range map[string]reading{
		"shows nothing":          {asked: now, came: now},
		"in another century":     {asked: now, shows: now.Add(101 * 365 * 24 * time.Hour), came: now},
		"comes before it leaves": {asked: now, shows: now, came: now.Add(-time.Second)},
	} {
		if c, ok := r.clock(); ok {
			t.Errorf("%s: %v", name, c)
		}
	}
}

// The best measurement counts, until it is old, or one shows that the clock was set.
func TestEstimate(t *testing.T) {
	now, e := time.Now(), estimate{}
	known := func(offset, error time.Duration) Clock { return Clock{Known: true, Offset: offset, Error: error} }
	const ms = time.Millisecond
	for _, step := range []struct {
		name  string
		after time.Duration
		give  Clock
		takes bool
	}{
		{"the first", 0, known(12*ms, 5*ms), true},
		{"a worse one", 1, known(14*ms, 6*ms), false},
		{"a better one", 2, known(10*ms, 1*ms), true},
		{"a worse one that agrees", 30 * time.Second, known(14*ms, 4*ms), false},
		{"the same after a minute", time.Minute, known(11*ms, 2*ms), true},
		{"a bad one that does not agree", time.Minute + 1, known(500*ms, 50*ms), true},
		{"back", time.Minute + 2, known(11*ms, 60*ms), true},
	} {
		if got := e.take(step.give, now.Add(step.after)); got != step.takes || got && e.clock != step.give {
			t.Errorf("%s: taken %v: %v", step.name, got, e.clock)
		}
	}
}

// A question is answered once; what comes without one is nobody's measurement.
func TestAnswersAreToQuestions(t *testing.T) {
	log := newStderr(time.Now().Add(-time.Second))
	say := func(text string) { log.Write([]byte(text)) }
	answer := func() (reading, bool) {
		select {
		case r := <-log.read:
			return r, true
		default:
			return reading{}, false
		}
	}
	say("@sshpcap clock 1700000000.5")
	if _, ok := answer(); ok {
		t.Error("half a line is an answer")
	}
	say("00000000\n")
	if r, ok := answer(); !ok || !r.shows.Equal(time.Unix(1_700_000_000, 5e8)) || r.came.Sub(r.asked) < time.Second {
		t.Errorf("%v, %+v", ok, r)
	}
	say("@sshpcap start\n@sshpcap clock 1700000001.000000000\n")
	if r, ok := answer(); ok {
		t.Errorf("an answer that nobody asked for: %+v", r)
	}
	var sent strings.Builder
	if err := log.ask(&sent); err != nil || sent.String() != "c\n" {
		t.Errorf("%v, %q", err, &sent)
	}
	say(strings.Repeat("@sshpcap clock 1700000002.000000000\n", 1000)) // more than anybody takes
	if r, ok := answer(); !ok || !r.shows.Equal(time.Unix(1_700_000_002, 0)) {
		t.Errorf("%v, %+v", ok, r)
	}
	if _, ok := answer(); ok {
		t.Error("more answers than questions")
	}
}

func TestClockInWords(t *testing.T) {
	for want, c := range map[string]Clock{
		"":                        {},
		"clock +12.3 ms ± 0.4 ms": {Known: true, Offset: 12_345 * time.Microsecond, Error: 400 * time.Microsecond},
		"clock -3600000.0 ms ± 1.0 ms; +3600000000001 ns were added to the timestamps": {Known: true, Offset: -time.Hour, Error: time.Millisecond, Shift: time.Hour + 1},
	} {
		if got := c.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
