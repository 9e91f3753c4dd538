package capture

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// pump takes what the streams deliver, merges it and writes it out. All of it runs on one goroutine.
type pump struct {
	run     *run
	merger  *merge.Merger
	output  *output             // nil until there is something to write and it is known how
	sources []*source           // by merge.SourceID
	of      map[*stream]*source // what its packets belong to now: its newest
	ready   bool                // every stream captures or has ended
	full    bool                // nothing more is written: a limit is reached or the output broke
	written int64               // records
	err     error               // how the output broke
	others  outputs             // beside the one that is being written

	unordered error // why late packets could not be put in their place

	flushBy    time.Time // when what is written must leave the buffer; zero: nothing to flush
	statistics time.Time // when they are due in the file
}

// How long things may wait: each is below what a person or Wireshark notices, and costs next to nothing.
const (
	flushDelay      = 20 * time.Millisecond
	statisticsEvery = 5 * time.Second
	lookAtReader    = 250 * time.Millisecond
)

// errLimit ends the writing because a limit of the configuration is reached.
var errLimit = errors.New("limit reached")

func newPump(r *run) *pump {
	p := &pump{run: r, merger: merge.NewMerger(r.cfg.mergerConfig()), of: make(map[*stream]*source)}
	p.others.parts = make(map[*instance]*output)
	now := timeNow()
	for _, in := range r.all() {
		for _, s := range in.streams {
			p.join(s, now)
		}
	}
	return p
}

// work goes on until the streams have all ended, and then closes the output. The error is the output's.
func (p *pump) work() error {
	r := p.run
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	look := time.NewTicker(lookAtReader)
	defer look.Stop()
	duration := time.AfterFunc(time.Hour, func() { r.stop(EndDuration) }) // also while the output takes nothing
	duration.Stop()
	defer duration.Stop()
	for open := true; open; {
		select {
		case m, ok := <-r.messages:
			open = ok && p.take(m)
		case <-alarm.C:
		case <-look.C:
			p.look()
		}
		if !p.ready && p.settled() {
			p.start(duration)
		}
		alarm.Reset(p.step(timeNow()))
	}
	return p.finish()
}

// take handles a message and all that have come with it, since a stream that seems to have given nothing is not waited
// for: those in the channel, and one that each stream has for it. false = the streams have all ended.
func (p *pump) take(m message) bool {
	now := timeNow()
	p.handle(m, now)
	for range cap(p.run.messages) + len(p.sources) {
		select {
		case m, ok := <-p.run.messages:
			if !ok {
				return false
			}
			p.handle(m, now)
		default:
			return true
		}
	}
	return true
}

func (p *pump) handle(m message, now time.Time) {
	src := p.of[m.stream]
	switch {
	case m.kind == joining:
		p.join(m.stream, now)
	case m.kind == opened:
		m.answer <- p.admit(src, m)
	case m.kind == packets && (p.full || !src.opened):
		m.batch.Release()
	case m.kind == packets:
		p.merger.Push(src.id, m.batch, now)
	case m.kind == timed:
		p.merger.SetOffset(src.id, src.stream.mergeOffset())
	case m.kind == ended:
		src.ended = true
		p.merger.Close(src.id)
	}
}

// settled reports whether each stream captures, or has ended without.
func (p *pump) settled() bool {
	for _, src := range p.sources { // by what the pump has been told: a stream opens a moment before its message comes
		if (!src.opened || src.stream.unproven.Load()) && !src.ended && !src.stream.isTried() {
			return false
		}
	}
	return true
}

// start is the moment from which everything that can be captured is captured.
func (p *pump) start(duration *time.Timer) {
	r := p.run
	p.ready = true
	capturing := p.capturing()
	if capturing == 0 || r.active.Err() != nil {
		return
	}
	r.ready = timeNow()
	p.begin()
	p.warnOfClocks(p.openSources())
	r.emit(Event{Kind: Ready, Ready: capturing})
	if r.cfg.Duration > 0 {
		duration.Reset(r.cfg.Duration)
	}
}

// begin makes a pcap output, which must know all its sources: it has one link type and one resolution for all.
func (p *pump) begin() {
	sources := p.openSources()
	if p.output != nil || len(sources) == 0 {
		return
	}
	header := sources[0].header
	header.Snaplen = p.run.cfg.snaplen(0) // covers those that come later, too
	for _, src := range sources {
		header.Nano = header.Nano || src.header.Nano
		if src.header.LinkType != header.LinkType {
			p.fail(p.linkTypes(sources))
			return
		}
	}
	p.output = newOutput(p.nextFile(timeNow()), p.run.cfg, header)
}

// linkTypes says which instances have which link type.
func (p *pump) linkTypes(sources []*source) error {
	names := make(map[merge.LinkType][]string)
	for _, src := range sources {
		t := src.header.LinkType
		names[t] = append(names[t], src.stream.String())
	}
	return linkTypesError(names, p.run.cfg.Output.Path)
}

// step writes what may leave, and returns how long it has time until the next step if nothing comes.
func (p *pump) step(now time.Time) time.Duration {
	if !p.full && p.output == nil && p.merger.Waiting() > p.run.cfg.Buffer {
		p.begin() // an instance takes so long to connect that the others cannot wait for it
	}
	if p.full || p.output == nil {
		return time.Hour
	}
	// Until all interfaces are known nothing is written to a file: some programs want them before the first packet.
	if !p.ready && !p.run.out.live() && p.merger.Waiting() <= p.run.cfg.Buffer {
		return lookAtReader
	}
	before := p.written
	p.outcome(p.merger.Advance(now, p))
	if p.written != before && p.flushBy.IsZero() {
		p.flushBy = now.Add(flushDelay)
	}
	p.atStatistics(now)
	p.atFlush(now)
	return p.patience(now)
}

func (p *pump) atFlush(now time.Time) {
	if p.full || p.flushBy.IsZero() && !p.output.urgent() || now.Before(p.flushBy) {
		return
	}
	p.flushBy = time.Time{}
	p.outcome(errors.Join(p.output.flush(), p.flushOthers()))
}

func (p *pump) atStatistics(now time.Time) {
	if now.Before(p.statistics) {
		return
	}
	p.statistics = now.Add(statisticsEvery)
	if p.full || p.written == 0 {
		return
	}
	for _, src := range p.openSources() {
		p.outcome(p.output.interim(src, p.merger.Stats(src.id), now))
	}
	p.flushBy = now
}

// patience is how long nothing has to be done.
func (p *pump) patience(now time.Time) time.Duration {
	next := p.statistics
	if wake, ok := p.merger.Wake(now); ok && wake.Before(next) {
		next = wake
	}
	if !p.flushBy.IsZero() && p.flushBy.Before(next) {
		next = p.flushBy
	}
	return max(next.Sub(now), time.Millisecond)
}

// WriteRun is the merger's way out: records of one source, in order. It is a merge.Sink.
func (p *pump) WriteRun(id merge.SourceID, b *merge.Batch, recs []merge.Record) (int, error) {
	src, done := p.sources[id], 0
	for done < len(recs) {
		o, n, err := p.placeOf(recs[done:])
		if err != nil {
			return done, err
		}
		n, err = p.writeTo(o, src, b, recs[done:done+n])
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// writeTo writes records to one of the output's files, and to that of their instance.
func (p *pump) writeTo(o *output, src *source, b *merge.Batch, recs []merge.Record) (int, error) {
	fit := p.fitting(src, recs)
	gap := src.gap
	n, err := o.writeRun(src, b, recs[:fit])
	p.count(recs[:n])
	if err == nil {
		err = p.writePart(src, gap, b, recs[:n])
	}
	if err == nil && n < len(recs) {
		err = errLimit
	}
	return n, err
}

// fitting is how many of the records may be written before a limit is reached.
func (p *pump) fitting(src *source, recs []merge.Record) int {
	cfg := &p.run.cfg
	if cfg.Count > 0 {
		recs = recs[:min(int64(len(recs)), cfg.Count-p.written)]
	}
	if cfg.MaxSize == 0 {
		return len(recs)
	}
	left := cfg.MaxSize - p.size() - p.output.reserve(src)
	for i, rec := range recs {
		if left -= p.output.cost(rec); left < 0 {
			return i
		}
	}
	return len(recs)
}

func (p *pump) count(recs []merge.Record) {
	p.written += int64(len(recs))
	p.run.cfg.Progress.Packets.Add(int64(len(recs)))
	p.run.cfg.Progress.Bytes.Add(bytesOf(recs))
}

// outcome ends the writing when it did not go on.
func (p *pump) outcome(err error) {
	switch {
	case p.full:
	case errors.Is(err, errLimit), err == nil && p.run.cfg.Count > 0 && p.written == p.run.cfg.Count:
		p.full = true
		p.run.stop(p.limit())
	case err != nil:
		p.fail(p.output.explain(err))
	}
}

func (p *pump) limit() End {
	if p.run.cfg.Count > 0 && p.written == p.run.cfg.Count {
		return EndCount
	}
	return EndMaxSize
}

// fail stops the capture because its output broke.
func (p *pump) fail(err error) {
	p.full = true
	p.err = err
	p.run.stop(EndOutput)
}

// look notices that the reader of a pipe has gone, even while there is nothing to write to it, and that somebody has removed a file.
func (p *pump) look() {
	var late int64
	for _, src := range p.sources {
		late += p.merger.Stats(src.id).Late
	}
	p.run.cfg.Progress.Late.Store(late)
	if !p.full && p.run.out.readerGone() {
		p.fail(p.run.out.explain(errReaderGone))
	}
	if !p.full && p.output != nil && p.output.file.removed() {
		p.fail(p.output.explain(errRemoved))
	}
}

// finish writes all that is left and closes the output, which from then on holds whole records only.
func (p *pump) finish() error {
	if p.output == nil && !p.full {
		p.begin()
	}
	if p.output == nil {
		return p.err
	}
	if !p.full {
		p.outcome(p.merger.Drain(p))
	}
	if p.err == nil {
		p.close()
	}
	if p.err == nil {
		p.order()
	} else if p.output.account.pending() {
		_ = p.output.flush() // it may be another file that broke; what does not reach this one is counted
	}
	if err := p.output.file.close(p.output.whole()); err != nil && p.err == nil {
		p.err = p.output.explain(err)
	}
	p.book(p.output)
	if err := p.closeOthers(); err != nil && p.err == nil {
		p.err = err
	}
	return p.err
}

// close writes what is known only now. An output without packets is made only if somebody was capturing to the end:
// a capture that fails before its first packet leaves no file.
func (p *pump) close() {
	if p.written == 0 && !p.endedWell() {
		return // what has not been written yet is forgotten
	}
	if err := p.complete(p.output); err != nil {
		p.fail(p.output.explain(err))
	}
}

// untilCut is a context that ends when the caller wants to wait no longer. What cancel returns must be called.
func (r *run) untilCut() (ctx context.Context, cancel func()) {
	ctx, end := context.WithCancel(context.Background())
	if r.end() == EndCut {
		end() // at once, not when the goroutine gets its turn
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-r.cfg.Cut:
			end()
		case <-ctx.Done():
		}
	})
	return ctx, func() { end(); watching.Wait() }
}

// order puts late packets in their place. That it does not is no failure of the capture: every packet is in the file.
func (p *pump) order() {
	ctx, cancel := p.run.untilCut()
	defer cancel()
	if p.output.order.disordered() && p.output.size() > longRewrite {
		p.run.emit(Event{Kind: Note, Text: "Putting late packets in their place"})
	}
	p.unordered = p.output.putInOrder(ctx)
}

// longRewrite is the size of a file from which on a user may wonder what takes so long.
const longRewrite = 256 << 20

func (p *pump) endedWell() bool {
	return slices.ContainsFunc(p.openSources(), func(src *source) bool { return src.stream.problem() == nil })
}
