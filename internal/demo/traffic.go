package demo

import (
	"iter"
	"sync"
	"time"
)

const (
	// patience is how long the first helper waits for the others, so that a capture on all three has it all.
	patience = 250 * time.Millisecond
	// preparation is from when that is known until the shop opens: a part has to be made up, and all are to see its
	// first packet in time.
	preparation = 150 * time.Millisecond
	// partLength is how much is made up at once; the shop closes for a moment between parts.
	partLength = 30 * time.Second
)

var roles = []string{Web, App, DB}

// Traffic is a conversation that takes place while somebody captures. It begins when there is a helper for each role,
// or a quarter of a second after the first one; it goes on as long as there is one, and the next capture sees it from
// its beginning again. The zero value works.
type Traffic struct {
	Seed uint64

	mu      sync.Mutex
	helpers map[string]int // that run, by role
	show    *show          // nil while there is none
}

// join adds a helper for a role.
func (t *Traffic) join(role string) *show {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.show == nil {
		t.helpers = make(map[string]int)
		t.show = &show{seed: t.Seed, begun: make(chan struct{})}
	}
	t.helpers[role]++
	if len(t.helpers) == len(roles) {
		t.show.begin()
	}
	return t.show
}

func (t *Traffic) leave(role string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.helpers[role]--; t.helpers[role] == 0 {
		delete(t.helpers, role)
	}
	if len(t.helpers) == 0 {
		t.show = nil
	}
}

// show is the conversation of helpers that capture together.
type show struct {
	seed  uint64
	once  sync.Once
	begun chan struct{} // closed by begin
	start time.Time     // set before that

	mu    sync.Mutex
	parts []map[string][]Packet // nil for those that all have seen
}

func (s *show) begin() {
	s.once.Do(func() {
		s.start = time.Now().Add(preparation)
		close(s.begun)
	})
}

// wait returns when the show begins, at the latest when patience is at its end. It is false when the capture is
// stopped before.
func (s *show) wait(stopped <-chan struct{}, signals <-chan string) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.begun:
	case <-timer.C:
		s.begin()
	case <-stopped:
		return false
	case <-signals:
		return false
	}
	return true
}

// packets are what a role sees from a time on, without end.
func (s *show) packets(role string, since time.Time) iter.Seq[Packet] {
	return func(yield func(Packet) bool) {
		for i := max(0, int(since.Sub(s.start)/partLength)); ; i++ {
			for _, packet := range s.part(i)[role] {
				if !packet.Time.Before(since) && !yield(packet) {
					return
				}
			}
		}
	}
}

// part is the conversation from i times partLength on. Only the last two are kept.
func (s *show) part(i int) map[string][]Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.parts) <= i {
		s.parts = append(s.parts, nil)
	}
	if s.parts[i] == nil {
		offset := time.Duration(i) * partLength
		s.parts[i] = Conversation(s.start.Add(offset), s.seed+uint64(i), partLength)
	}
	if i >= 2 {
		s.parts[i-2] = nil
	}
	return s.parts[i]
}
