package capture

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// between is a packet of UDP from one host to another, cut off behind its ports, of a size on the wire.
type between struct {
	from, to byte
	port     uint16
	size     int
}

func (p between) packet() []byte {
	return []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, p.from, 10, 0, 0, p.to, byte(p.port >> 8), byte(p.port), 0xca, 0x6c}
}

func batchOf(all ...between) *merge.Batch {
	b := new(merge.Batch)
	for _, p := range all {
		data := p.packet()
		b.Records = append(b.Records, merge.Record{Off: uint32(len(b.Data)), CapLen: uint32(len(data)), OrigLen: uint32(p.size)})
		b.Data = append(b.Data, data...)
	}
	return b
}

// loop lets a shape look at what a stream captures: others, which are enough to be suspected, and what carries makes of the
// messages that are sent. It reports whether there is a proof within some seconds.
func loop(t *testing.T, others func() []between, carries func(sizes []int) []between) bool {
	t.Helper()
	var sent []int
	s := &shape{link: merge.LinkTypeRaw, send: func(sizes []int) bool { sent = sizes; return true }}
	for now := time.Duration(0); now < 20*time.Second; now += 5 * time.Millisecond {
		all := others()
		if sent != nil {
			all, sent = append(all, carries(sent)...), nil
		}
		if s.look(batchOf(all...), now) {
			return true
		}
		if len(s.flows) > shapeFlows || s.looked > shapeLooked+1 {
			t.Fatalf("%d flows, %d packets looked at", len(s.flows), s.looked)
		}
	}
	return false
}

// answering is full packets from the host, as those that carry a capture, and acknowledgements.
func answering() []between {
	var all []between
	for range 50 {
		all = append(all, between{2, 1, 51820, 1484}, between{1, 2, 51820, 124})
	}
	return all
}

// carried is packets to the host in each of which is a message.
func carried(sizes []int, around func(i, size int) int) []between {
	var all []between
	for i, size := range sizes {
		if on := around(i, size); on > 0 {
			all = append(all, between{1, 2, 51820, on})
		}
	}
	return all
}

func TestShape(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for name, around := range map[string]func(i, size int) int{
		"plain":            func(_, size int) int { return size + 120 },
		"padded to 4":      func(_, size int) int { return (size+81+3)/4*4 + 42 },
		"padded to 8":      func(_, size int) int { return (size+81+7)/8*8 + 42 },
		"padded to 16":     func(_, size int) int { return (size+81+15)/16*16 + 42 },
		"more options":     func(i, size int) int { return (size+81+[]int{0, 12, 20, 28}[i%4]+15)/16*16 + 42 },
		"some lost":        func(i, size int) int { return (size + 120) * min(1, i%4) },
		"most lost, often": func(i, size int) int { return (size + 120) * min(1, random.IntN(10)/4) },
	} {
		if !loop(t, answering, func(sizes []int) []between { return carried(sizes, around) }) {
			t.Errorf("%s: not found", name)
		}
	}
	plain := func(_, size int) int { return size + 120 }
	if !loop(t, answering, func(sizes []int) []between {
		var all []between
		for i, p := range carried(sizes, plain) {
			all = append(all, p, p) // on two interfaces
			if i%3 == 0 {
				all = append(all, between{1, 2, 51820, 300 + random.IntN(1000)})
			}
		}
		return all
	}) {
		t.Error("others between them: not found")
	}
}

// What is no proof: sizes in another order, with too many others, or of a flow that nothing answers; and hosts without end.
func TestShapeNot(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	plain := func(_, size int) int { return size + 120 }
	for name, test := range map[string]struct {
		others  func() []between
		carries func(sizes []int) []between
	}{
		"another order": {answering, func(sizes []int) []between {
			all := carried(sizes, plain)
			random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all
		}},
		"among many": {answering, func(sizes []int) []between {
			var all []between
			for _, p := range carried(sizes, plain) {
				all = append(all, between{1, 2, 51820, 300 + random.IntN(1000)}, p, between{1, 2, 51820, 300 + random.IntN(1000)})
			}
			return all
		}},
		"not answered": {func() []between {
			var all []between
			for range 100 {
				all = append(all, between{3, 4, 80, 1484})
			}
			return all
		}, func(sizes []int) []between { return carried(sizes, plain) }},
		"many flows": {func() []between {
			var all []between
			for range 200 {
				all = append(all, between{byte(random.Uint32()), byte(random.Uint32()), uint16(random.Uint32()), 200 + random.IntN(1400)})
			}
			return all
		}, func([]int) []between { return nil }},
	} {
		if loop(t, test.others, test.carries) {
			t.Errorf("%s: taken for ours", name)
		}
	}
}

// Busy flows never show it: as many packets as are looked at, of all sizes, or of those that padding leaves. Of such
// flows, each with as many packets as may be, one in some hundreds shows a pattern by chance at worst. A proof takes four of one
// flow, or two strong ones, and then what answers it must be much of what is captured.
func TestShapeBusy(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, size := range map[string]func() int{
		"all sizes": func() int { return 208 + random.IntN(1400) },
		"likely":    func() int { return 300 + random.IntN(900) },
		"padded":    func() int { return 300 + 16*random.IntN(60) },
	} {
		const flows = 10_000
		found, strong := 0, 0
		for range flows {
			var of sizes
			p, most := newPattern(), 0
			for range 3 * patternSize {
				if of.add(size()) {
					most = max(most, p.in(of.list[:of.n]))
				}
			}
			if most >= patternMatch {
				found++
			}
			if most >= patternStrong {
				strong++
			}
		}
		t.Logf("%s: %d of %d flows", name, found, flows)
		if found > flows/100 || strong > 0 {
			t.Errorf("%s: %d of %d flows, %d of them strong", name, found, flows, strong)
		}
		packets := 0
		if loop(t, func() []between {
			all := answering()
			for range 3 {
				all = append(all, between{1, 2, 51820, size()})
			}
			packets += len(all)
			return all
		}, func([]int) []between { return nil }) {
			t.Errorf("%s: a busy flow is taken for ours", name)
		}
		if loop(t, func() []between { // few enough to be looked at all the time
			all := answering()
			if random.IntN(6) == 0 {
				all = append(all, between{1, 2, 51820, size()})
			}
			packets += len(all)
			return all
		}, func([]int) []between { return nil }) {
			t.Errorf("%s: a flow with some packets is taken for ours", name)
		}
		t.Logf("%s: %d packets", name, packets)
	}
}

// A stream that gives little is not looked at, and nothing is sent for it.
func TestShapeCostsNothing(t *testing.T) {
	t.Parallel()
	s := &shape{link: merge.LinkTypeRaw, send: func([]int) bool { t.Error("a pattern is sent"); return true }}
	for now := time.Duration(0); now < time.Hour; now += 10 * time.Millisecond {
		s.look(batchOf(between{1, 2, 51820, 1484}, between{2, 1, 51820, 124}), now)
	}
}
