package capture

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// source is a stream as the merger and the output know it. There is one for each stream from the beginning, since the
// first packets of one that is still connecting must find those of the others waiting. A stream that comes back with
// another link type has one more for it: it is another interface of the file.
type source struct {
	stream *stream
	id     merge.SourceID
	opened bool         // it has a header
	ended  bool         // nothing more comes
	header merge.Header // of its stream
	before *source      // of the same stream, with another header; nil = this is the first
	change string       // what is other with this one, for people; "" = it is the first
	claims *claims      // what the stream's helpers reported of it
	gap    *gap         // there is one before its next packet
	told   int64        // records that its last statistics counted

	lost, lostBytes int64 // of those written, what the output then lost because it broke
}

// join makes a source of a stream.
func (p *pump) join(s *stream, now time.Time) *source {
	src := &source{stream: s, id: p.merger.Open(0, now), claims: new(claims)}
	p.sources = append(p.sources, src)
	p.of[s] = src
	return src
}

// openSources are those that have a header.
func (p *pump) openSources() (open []*source) {
	for _, src := range p.sources {
		if src.opened {
			open = append(open, src)
		}
	}
	return open
}

// sourcesOf are those of a stream that have a header, the oldest first.
func (p *pump) sourcesOf(s *stream) (all []*source) {
	for src := p.of[s]; src != nil; src = src.before {
		if src.opened {
			all = append(all, src)
		}
	}
	slices.SortFunc(all, func(a, b *source) int { return cmp.Compare(a.id, b.id) })
	return all
}

// awaited are the sources of which packets may still have to be written.
func (p *pump) awaited() (open []*source) {
	for _, src := range p.openSources() {
		stats := p.merger.Stats(src.id)
		if p.of[src.stream] == src || stats.Written < stats.Pushed {
			open = append(open, src)
		}
	}
	return open
}

// capturing counts the instances that have a header.
func (p *pump) capturing() int {
	instances := make(map[*instance]bool)
	for _, src := range p.openSources() {
		instances[src.stream.instance] = true
	}
	return len(instances)
}

// admission is what a stream learns about an attempt of which the header has come.
type admission struct {
	claims *claims // where to count what its helper reports
	err    error   // it is refused: none of its packets may follow
}

// admit lets an attempt's packets into the output, or refuses them. A refusal is over with the attempt.
func (p *pump) admit(src *source, m message) admission {
	if p.full {
		return admission{claims: src.claims}
	}
	now, first := timeNow(), !src.opened
	if !first {
		next, err := p.successor(src, m.header, now)
		if err != nil {
			return admission{err: err}
		}
		src, first = next, !next.opened
	}
	if first {
		src.header = m.header
		if err := p.describe(src); err != nil {
			return admission{claims: src.claims, err: p.unfit(err)}
		}
		src.opened = true
	}
	if m.gap != nil {
		src.gap = m.gap
		if p.output != nil {
			p.outcome(p.output.rename(src))
		}
	}
	if first && p.ready {
		p.warnOfClocks([]*source{src})
	}
	p.merger.SetOffset(src.id, src.stream.mergeOffset())
	return admission{claims: src.claims}
}

// mostHeaders is how many link types a stream may come back with: each is an interface of the file, for ever.
const mostHeaders = 8

// successor is the source for the packets of a stream that has come back: its newest where the header is the same, an
// older one or a new one where it is not. In a pcap file there can be no other.
func (p *pump) successor(src *source, header merge.Header, now time.Time) (*source, error) {
	switch {
	case fits(header, src.header):
		return src, nil
	case p.run.cfg.Output.Format == Pcap && src.header.LinkType == header.LinkType:
		return src, nil // of the rest there is one for the whole file
	case p.run.cfg.Output.Format == Pcap && p.output == nil && p.merger.Stats(src.id).Pushed == 0:
		src.header = header // it has given nothing
		return src, nil
	case p.run.cfg.Output.Format == Pcap:
		return nil, &Error{
			Problem: change(header, src.header) + ", and a pcap file holds one link type only",
			Tip:     "write pcapng: -o " + pcapngName(p.run.cfg.Output.Path),
		}
	}
	headers := 1
	for older := src.before; older != nil; older = older.before {
		if fits(header, older.header) {
			return p.resume(src, older, now), nil
		}
		headers++
	}
	if headers == mostHeaders {
		return nil, &Error{
			Problem: fmt.Sprintf("it came back with link type %v, and has had %d others", header.LinkType, headers),
			Tip:     "its packets up to there are in the file; see what runs there in the place of a helper",
		}
	}
	p.merger.Close(src.id)
	next := p.join(src.stream, now)
	next.before, next.change = src, change(header, src.header)
	return next, nil
}

// change says why a stream that has come back needs another interface.
func change(now, before merge.Header) string {
	switch {
	case now.LinkType != before.LinkType:
		return fmt.Sprintf("it came back with link type %v in place of %v", now.LinkType, before.LinkType)
	case now.Nano && !before.Nano:
		return "it came back with timestamps in nanoseconds in place of microseconds"
	}
	return fmt.Sprintf("it came back with a snapshot length of %d in place of %d", now.Snaplen, before.Snaplen)
}

// fits reports whether packets that come with a header can stand under an interface that was described by another one.
func fits(header, described merge.Header) bool {
	return header.LinkType == described.LinkType && (described.Nano || !header.Nano) &&
		(described.Snaplen == 0 || header.Snaplen != 0 && header.Snaplen <= described.Snaplen)
}

// resume makes an older source of a stream the newest again.
func (p *pump) resume(newest, older *source, now time.Time) *source {
	for src := newest; src != nil; src = src.before {
		if src.before == older {
			src.before = older.before
		}
	}
	older.before = newest
	p.merger.Close(newest.id)
	p.merger.Reopen(older.id, now)
	p.of[older.stream] = older
	return older
}

// unfit is why the output cannot take a stream; anything else that goes wrong is the output's own fault.
func (p *pump) unfit(err error) error {
	var problem *Error
	if !errors.Is(err, errLimit) && errors.As(err, &problem) {
		return err
	}
	p.outcome(err)
	return nil
}

// describe adds a source to the output, which is made for the first one. A pcap output waits for all.
func (p *pump) describe(src *source) error {
	if p.output == nil && p.run.cfg.Output.Format == Pcap {
		return nil
	}
	if p.output == nil {
		p.output = newOutput(p.nextFile(timeNow()), p.run.cfg, src.header)
		p.statistics = timeNow().Add(statisticsEvery)
	}
	if !p.hasRoom(src) {
		return errLimit
	}
	return p.output.add(src)
}

// hasRoom reports whether another interface fits into the size that the output may have: for those that there are in the
// beginning there is a reserve.
func (p *pump) hasRoom(src *source) bool {
	o, limit := p.output, p.run.cfg.MaxSize
	return limit == 0 || o.pcap != nil || o.sources < o.expected || p.size()+o.reserve(src)+leastInterface <= limit
}
