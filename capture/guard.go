package capture

import (
	"bytes"
	"errors"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshpcap/sshpcap/merge"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// guard notices captures that feed themselves. Each instance leaves out the connection that carries its packets; where
// that looks different on the wire (behind a proxy, in a tunnel), every captured packet makes another one, without end.
//
// The proof is in the bytes: now and then a few that a connection brings are remembered, as they were enciphered, and
// looked for in what is captured a moment later. Nothing else can hold them, however busy an instance is. A connection
// whose packets are captured by a stream that another connection carries is in nobody's way, as long as that one's are
// not captured in turn.
//
// What is searched is bounded, so that it takes no time that could be measured.
type guard struct {
	budget   atomic.Int64 // bytes that may be searched
	refilled atomic.Int64 // when it was made up last, in time since the run began

	mu    sync.Mutex
	lines []line
	next  int                        // index in lines of the connection to look for next
	seen  map[[2]*sshx.Tracer]int    // how often a stream on the first had packets of the second
	owner map[*sshx.Tracer]*instance // of those in lines
}

// line is a connection that carries packets.
type line struct {
	tracer *sshx.Tracer
	uses   int // streams
}

// How much is searched. A probe looks for one trace.
const (
	searchRate  = 8 << 20     // bytes a second, by all streams
	searchBurst = 4 << 20     // bytes at once
	probeBytes  = 2 << 20     // bytes in a probe
	closeBytes  = 64 << 20    // bytes in a probe when some have succeeded
	probeTime   = time.Second // a packet takes no longer to arrive, unless others are before it
	othersTime  = probeTime / 4
	enoughHits  = 4 // by the connection that carries the stream itself
	eachHits    = 2 // by each in a circle of several
)

func newGuard() *guard {
	g := &guard{seen: make(map[[2]*sshx.Tracer]int), owner: make(map[*sshx.Tracer]*instance)}
	g.budget.Store(searchBurst)
	return g
}

// watch begins to look at what a stream captures, which comes over the process's connection.
func (g *guard) watch(s *stream, process *sshx.Process, link merge.LinkType) *watcher {
	if g == nil {
		return nil
	}
	on := process.Tracer()
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.index(on)
	if i < 0 {
		i = len(g.lines)
		g.lines = append(g.lines, line{tracer: on})
		g.owner[on] = s.instance
	}
	g.lines[i].uses++
	pad := func(sizes []int) bool { return process.Pad(sizes, patternPause) }
	return &watcher{guard: g, stream: s, link: link, on: on, own: probe{of: on}, shape: shape{link: link, send: pad}}
}

func (g *guard) index(t *sshx.Tracer) int {
	return slices.IndexFunc(g.lines, func(l line) bool { return l.tracer == t })
}

// end ends that.
func (w *watcher) end() {
	if w == nil {
		return
	}
	g := w.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.index(w.on)
	if g.lines[i].uses--; g.lines[i].uses > 0 {
		return
	}
	g.lines = slices.Delete(g.lines, i, i+1)
	delete(g.owner, w.on)
	g.forget(func(e [2]*sshx.Tracer) bool { return e[0] == w.on || e[1] == w.on })
}

func (g *guard) forget(edges func([2]*sshx.Tracer) bool) {
	maps.DeleteFunc(g.seen, func(e [2]*sshx.Tracer, _ int) bool { return edges(e) })
}

// another is a connection to look for beside t; nil if there is none.
func (g *guard) another(t *sshx.Tracer) *sshx.Tracer {
	g.mu.Lock()
	defer g.mu.Unlock()
	for range g.lines {
		g.next = (g.next + 1) % len(g.lines)
		if other := g.lines[g.next].tracer; other != t {
			return other
		}
	}
	return nil
}

// saw records that a stream on one connection has captured a packet of another. It gives the other's instance when that leads back.
func (g *guard) saw(on, of *sshx.Tracer) *instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	edge := [2]*sshx.Tracer{on, of}
	g.seen[edge]++
	if g.seen[edge] < eachHits || !g.leads(of, on, nil) {
		return nil
	}
	g.forget(func(e [2]*sshx.Tracer) bool { return e[0] == on }) // it ends: others of the circle need not
	return g.owner[of]
}

// leads reports whether packets of a connection make packets of another.
func (g *guard) leads(to, from *sshx.Tracer, past []*sshx.Tracer) bool {
	for edge, hits := range g.seen {
		if edge[0] != to || hits < eachHits || slices.Contains(past, edge[1]) {
			continue
		}
		if edge[1] == from || g.leads(edge[1], from, append(past, to)) {
			return true
		}
	}
	return false
}

// afford takes n bytes from the budget, and reports whether they were there.
func (g *guard) afford(n int, now time.Duration) bool {
	since := g.refilled.Load()
	if passed := int64(now) - since; passed > int64(time.Second/50) && g.refilled.CompareAndSwap(since, int64(now)) {
		more := min(passed, int64(time.Second)) * searchRate / int64(time.Second)
		if have := g.budget.Load(); have < searchBurst {
			g.budget.Add(min(more, searchBurst-have))
		}
	}
	if g.budget.Load() < int64(n) {
		return false
	}
	g.budget.Add(-int64(n))
	return true
}

// watcher looks at what a stream captures. It is for one goroutine.
type watcher struct {
	guard  *guard
	stream *stream
	link   merge.LinkType
	on     *sshx.Tracer
	own    probe
	other  probe
	shape  shape
	ends   []string // filters for the packets that were found
	fed    error    // its problem, when that is proven
}

// probe looks for the packets of a connection, for one trace after the other.
type probe struct {
	of       *sshx.Tracer
	asked    bool          // a trace has been asked for
	before   *sshx.Trace   // the last one then
	trace    *sshx.Trace   // what is looked for; nil = nothing
	since    time.Duration // in the run's time
	searched int           // bytes
	recent   uint8         // whether the last probes have succeeded, a bit each
	decided  int           // probes that were brought to an end
}

// look reports, once, whether the batch proves that the stream feeds itself.
func (w *watcher) look(b *merge.Batch, now time.Duration) bool {
	if w == nil || w.fed != nil {
		return false
	}
	if of := w.feeds(b, now); of != nil {
		w.fed = w.feedback(of)
	} else if w.shape.look(b, now) {
		if filter := w.shape.found.filter(); filter != "" {
			w.ends = []string{filter}
		}
		w.fed = w.feedback(w.stream.instance)
	}
	return w.fed != nil
}

// why is the problem of a stream that feeds itself.
func (w *watcher) why() error {
	if w == nil {
		return nil
	}
	return w.fed
}

// feeds is the instance whose connection feeds the stream, mostly its own; nil where that is not proven.
func (w *watcher) feeds(b *merge.Batch, now time.Duration) *instance {
	if w.search(&w.own, b, now, probeTime) && w.own.proven() {
		return w.stream.instance
	}
	if w.other.of == nil || !w.other.busy() && w.other.recent == 0 {
		w.other = probe{of: w.guard.another(w.on)}
	}
	if w.other.of != nil && w.search(&w.other, b, now, othersTime) {
		return w.guard.saw(w.on, w.other.of)
	}
	return nil
}

// busy reports whether the probe goes on.
func (t *probe) busy() bool { return t.asked || t.trace != nil }

// proven reports whether most of the last probes have succeeded, and enough of them.
func (t *probe) proven() bool {
	hits := bits.OnesCount8(t.recent)
	return hits >= enoughHits && 2*hits >= min(t.decided, 8)
}

// search looks for the probe's trace, and gets it one if it has none.
func (w *watcher) search(t *probe, b *merge.Batch, now, most time.Duration) (found bool) {
	if t.trace == nil && !t.begin(now, most) {
		return false
	}
	limit := probeBytes
	if t.recent != 0 {
		limit = closeBytes
	} else if !w.guard.afford(len(b.Data), now) {
		t.drop()
		return false
	}
	at := bytes.Index(b.Data, t.trace[:])
	t.searched += len(b.Data)
	switch {
	case at >= 0:
		w.note(b, t.trace, at)
		t.decide(1)
	case now-t.since > most:
		t.decide(0)
	case t.searched > limit:
		t.drop()
	}
	return at >= 0
}

// begin asks for a trace and reports whether it has come. Older ones may have been captured long ago.
func (t *probe) begin(now, most time.Duration) bool {
	if !t.asked {
		t.asked, t.before, t.since = true, t.of.Last(), now
		t.of.Want()
		return false
	}
	if t.trace = t.of.Last(); t.trace == t.before {
		t.trace = nil
		t.of.Want()
		t.asked = now-t.since < most
		return false
	}
	t.asked, t.since, t.searched = false, now, 0
	return true
}

// drop ends a probe that decides nothing.
func (t *probe) drop() { t.trace, t.asked = nil, false }

func (t *probe) decide(hit uint8) {
	t.recent = t.recent<<1 | hit
	t.decided++
	t.drop()
}

// note takes down what the packet is in which a trace was found, and others of the batch: the same one, captured elsewhere.
func (w *watcher) note(b *merge.Batch, trace *sshx.Trace, at int) {
	for _, r := range b.Records {
		packet := b.Packet(r)
		if int(r.Off)+len(packet) <= at || !bytes.Contains(packet, trace[:]) {
			continue
		}
		if ends := packetEnds(w.link, packet); ends != "" && !slices.Contains(w.ends, ends) && len(w.ends) < 4 {
			w.ends = append(w.ends, ends)
		}
	}
}

// errFeedback marks the end of a stream that would have fed itself.
var errFeedback = errors.New("feedback")

// feedback is the problem of a stream that captures the connection of an instance, which feeds it.
func (w *watcher) feedback(of *instance) error {
	whose := "our own SSH connection, which carries them"
	if of != w.stream.instance {
		whose = "our SSH connection to " + of.Name + ", which in turn carries those of this one"
	}
	tip := "leave it out with --filter"
	if len(w.ends) > 0 {
		filter := "not (" + strings.Join(w.ends, " or ") + ")"
		if given := w.stream.instance.run.cfg.Filter; given != "" {
			filter += " and (" + given + ")"
		}
		tip += " " + remote.Quote(filter)
	}
	return &Error{
		Problem: "ended, since its packets hold " + whose + ": they would have become more and more",
		Tip:     tip + ", or capture it all the same with --no-self-filter",
		Err:     errFeedback,
	}
}
