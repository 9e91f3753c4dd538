package capture_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
)

// Our own clock is set, while the capture runs and before an instance comes back: packets go on to arrive in the file, although
// another instance is silent, and nobody says anything of the instances' clocks, which are right.
func TestOurClockIsSet(t *testing.T) {
	for name, set := range map[string]struct {
		by    time.Duration // our clock
		slept bool          // which is right then: this computer slept
	}{
		"ahead": {by: time.Hour},
		"back":  {by: -time.Hour},
		"slept": {by: time.Hour, slept: true},
	} {
		t.Run(name, func(t *testing.T) {
			defer capture.SetClock(0)
			var theirs, starts atomic.Int64 // what the instances' clocks are ahead of the test's, and how often the silent one was started
			busy := instance(t, "busy", func(s *sshserver.Session) int {
				return tcpdump{give: func(h *helper) {
					for tick := time.NewTicker(5 * time.Millisecond); !h.stopped() && h.Context().Err() == nil; <-tick.C {
						h.packet(time.Now().Add(time.Duration(theirs.Load())), 1)
					}
				}}.run(s)
			})
			silent := instance(t, "silent", func(s *sshserver.Session) int {
				ahead := time.Duration(theirs.Load())
				if starts.Add(1) > 1 {
					return tcpdump{ahead: ahead}.run(s)
				}
				return tcpdump{ahead: ahead, give: func(h *helper) {
					for stepped := false; !stepped && !h.stopped() && h.Context().Err() == nil; time.Sleep(5 * time.Millisecond) {
						stepped = starts.Load() > 100 // it is told to be lost
					}
				}, exit: 1}.run(s)
			})
			f := follow(t, "x.pcapng", busy, silent)
			f.Progress = new(capture.Progress)
			written, stage := int64(0), 0
			wait := func(more int64) bool {
				if now := f.Progress.Packets.Load(); now > written+more {
					written = now
					return true
				}
				return false
			}
			var notes []string
			began := time.Now()
			report, err := f.run(t, func() bool {
				switch stage {
				case 0:
					if wait(50) {
						capture.SetClock(int64(set.by / time.Second))
						if set.slept {
							theirs.Store(int64(set.by))
						}
						stage++
					}
				case 1: // packets that were under way are held until the silent one is lost, when this computer has slept
					if set.slept || wait(300) {
						starts.Add(100)
						stage++
					}
				case 2:
					for len(f.events) > 0 {
						switch e := <-f.events; e.Kind {
						case capture.Joined:
							stage++
							written = f.Progress.Packets.Load()
						case capture.Note:
							notes = append(notes, e.Text)
						}
					}
				case 3:
					if wait(400) {
						stage++
					}
				}
				return stage == 4
			})
			if err != nil || stage != 4 || time.Since(began) > 18*time.Second { // the fixture ends it after 20
				t.Fatalf("error %v, stage %d: packets no longer arrive in the file", err, stage)
			}
			for len(f.events) > 0 {
				if e := <-f.events; e.Kind == capture.Note {
					notes = append(notes, e.Text)
				}
			}
			for _, note := range notes {
				if strings.Contains(note, "jumped") && !set.slept || set.slept && strings.Contains(note, "off by") {
					t.Errorf("it says %q", note)
				}
			}
			for _, in := range report.Instances {
				if in.State != capture.OK || in.Interfaces[0].Behind {
					t.Errorf("%s: %s %s, behind: %v", in.Name, in.State, in.Problem, in.Interfaces[0].Behind)
				}
			}
			if !report.Output.InOrder {
				t.Error("not in order")
			}
			checkSums(t, report)
		})
	}
}
