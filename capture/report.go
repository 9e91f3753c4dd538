package capture

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// End is why a capture ended. It is an error only so that it can be the cause of a context.
type End string

const (
	EndInterrupted End = "interrupted" // the caller's ctx ended: ^C
	EndDuration    End = "duration"
	EndCount       End = "count"
	EndMaxSize     End = "max-size"
	EndAll         End = "ended"    // no instance was left
	EndRequired    End = "required" // an instance failed, and all were required
	EndOutput      End = "output"   // the output broke
	EndCut         End = "cut"      // the caller did not want to wait
)

func (e End) Error() string { return string(e) }

// wantsAll reports whether what the instances still have when they are stopped belongs into the output.
func (e End) wantsAll() bool { return e == EndInterrupted || e == EndDuration }

// State is how an instance came out of a capture.
type State string

const (
	OK        State = "ok"       // captured to the end, every packet that came is accounted for
	NotOpened State = "failed"   // could not be captured on
	LostState State = "lost"     // broke off in the middle
	CutState  State = "cut"      // did not end in time
	Gone      State = "gone"     // ceased to be, while following
	Unneeded  State = "unneeded" // the capture was over before this instance was connected
)

// Report is what a capture did. Its JSON form is documented in docs/report.md; Version counts its changes.
type Report struct {
	Version   int              `json:"version"`
	Program   string           `json:"program"`
	Started   time.Time        `json:"started"`
	Ready     *time.Time       `json:"ready"` // all instances were capturing, or had failed; null = never
	Ended     time.Time        `json:"ended"`
	End       End              `json:"end"`
	Output    OutputReport     `json:"output"`
	Packets   int64            `json:"packets"`
	Bytes     int64            `json:"bytes"` // of the packets
	Instances []InstanceReport `json:"instances"`
	LeftOut   []LeftOut        `json:"left_out"` // those of Config.LeftOut that have not come since
}

// OutputReport is what was written.
type OutputReport struct {
	Path    string   `json:"path"`    // "-" = standard output; "" = nothing was written
	Files   []string `json:"files"`   // of a rotated output, and of single instances
	Removed int      `json:"removed"` // files of a rotated output that were not kept
	Format  string   `json:"format"`
	Packets int64    `json:"packets"`
	Bytes   int64    `json:"bytes"`    // of the whole file
	InOrder bool     `json:"in_order"` // strict time order: nothing was late, or it has been put in its place
	Problem string   `json:"problem"`  // why late packets were not put in their place

	Accounts []FileReport `json:"accounts"` // of each file that there is
}

// FileReport is what a file of the output holds.
type FileReport struct {
	Path    string `json:"path"` // "-" = standard output
	Packets int64  `json:"packets"`
	Bytes   int64  `json:"bytes"` // of the whole file
}

// InstanceReport is one instance's part.
type InstanceReport struct {
	Name       string            `json:"name"`
	Target     string            `json:"target"`
	Address    string            `json:"address"` // of its SSH server, as we see it, or as it sees itself behind a jump host; of a Container its own; "" = not known
	State      State             `json:"state"`
	Problem    string            `json:"problem"`
	Hint       string            `json:"hint"`
	Helper     string            `json:"helper"` // path on the instance
	Sudo       bool              `json:"sudo"`
	Clock      *Clock            `json:"clock"` // null = not known
	Notes      []string          `json:"notes"` // about its helper
	Interfaces []InterfaceReport `json:"interfaces"`
}

// InterfaceReport is what came of one network interface. Received = Written + Discarded, always.
type InterfaceReport struct {
	Name      string         `json:"name"`
	LinkType  string         `json:"link_type"`
	Received  int64          `json:"received"`  // packets that reached us whole
	Written   int64          `json:"written"`   // of those, in the output
	Discarded int64          `json:"discarded"` // of those, beyond a limit, not writable, or skipped
	Late      int64          `json:"late"`      // of those written, behind a later packet at first
	Gaps      int64          `json:"gaps"`      // times that it was lost and came back
	Truncated int64          `json:"truncated"` // records that were cut off by the end of the stream
	Oddities  []merge.Oddity `json:"oddities"`  // of those received, what makes no sense; Discarded has those that were skipped
	Bytes     int64          `json:"bytes"`     // of the packets written
	Captured  *int64         `json:"captured"`  // by the helper, as it says; null = it did not say
	Filtered  *int64         `json:"filtered"`  // passed the filter, as the kernel says
	Dropped   *int64         `json:"dropped"`   // by the kernel, for want of buffer space
	Unread    *int64         `json:"unread"`    // passed the filter in the helper's last moments, and not read by it; those that came before the stop are lost
	Without   []string       `json:"without"`   // what the interface does not take although it is asked for by itself; names of remote.Extra
	Behind    bool           `json:"behind"`    // packets of before the stop were still coming when the helper was ended
	First     *time.Time     `json:"first"`     // time of the first packet
	Last      *time.Time     `json:"last"`
	End       string         `json:"end"`
}

// report puts together what a run that has ended did.
func (r *run) report(p *pump) Report {
	rep := Report{
		Version: 1,
		Program: "sshpcap " + r.cfg.Version,
		Started: r.started,
		Ended:   time.Now(),
		End:     r.end(),
		Output:  OutputReport{Format: r.cfg.Output.Format.String()},
	}
	if !r.ready.IsZero() {
		rep.Ready = &r.ready
	}
	there := make(map[string]bool)
	for _, in := range r.all() {
		there[in.Name] = true
		rep.Instances = append(rep.Instances, p.instance(in))
	}
	rep.LeftOut = []LeftOut{} // null means "not known"
	for _, in := range r.cfg.LeftOut {
		if !there[in.Name] {
			there[in.Name] = true
			rep.LeftOut = append(rep.LeftOut, in)
		}
	}
	for _, in := range rep.Instances {
		for _, iface := range in.Interfaces {
			rep.Packets += iface.Written
			rep.Bytes += iface.Bytes
		}
	}
	if len(p.others.accounts) > 0 {
		slices.SortFunc(p.others.accounts, func(a, b FileReport) int { return strings.Compare(a.Path, b.Path) })
		rep.Output.Path, rep.Output.Accounts = r.out.Path, p.others.accounts
		rep.Output.Files, rep.Output.Removed = p.others.list(r.out.Path), p.others.removed
		if r.out.File != nil {
			rep.Output.Path, rep.Output.Accounts[0].Path = "-", "-"
		}
		rep.Output.Packets = rep.Packets
		rep.Output.Bytes = p.others.size + p.output.whole()
		rep.Output.InOrder = !p.output.order.disordered() && !p.others.messy && !p.others.strayed
		if p.unordered == nil {
			p.unordered = p.others.reason
		}
		if p.unordered == nil && p.others.strayed {
			p.unordered = errStrayed
		}
		if p.unordered != nil {
			rep.Output.Problem = reason(p.unordered)
		}
	}
	return rep
}

// reason is why a file was not put in order.
func reason(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "there was no time left for it"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "there is no space for a second copy"
	}
	return plain(err)
}

func (p *pump) instance(in *instance) InstanceReport {
	rep := InstanceReport{Name: in.Name, Target: in.Target, Address: in.ownAddress(), State: in.state(), Notes: []string{}}
	if err := in.err(); err != nil {
		rep.Problem, rep.Hint = err.Error(), hintOf(err)
	}
	for _, s := range in.streams {
		told := s.remoteReport()
		rep.Helper, rep.Sudo = told.Helper, s.sudo
		if c := s.clock(); c.Known {
			rep.Clock = &c
		}
		if len(rep.Notes) == 0 { // those of further interfaces are the same
			rep.Notes = append(rep.Notes, s.notes()...)
		}
		rep.Interfaces = append(rep.Interfaces, p.stream(s))
	}
	return rep
}

func (p *pump) stream(s *stream) InterfaceReport {
	rep := InterfaceReport{Name: s.iface, Received: s.received + s.odd.SkippedPackets(), Gaps: s.gaps, Without: names(s.lacks()), Behind: s.behind.Load(), End: s.ending}
	rep.Oddities = s.odd.List()
	if s.cutShort {
		rep.Truncated = 1
	}
	for _, src := range p.sourcesOf(s) {
		p.add(&rep, src)
	}
	rep.Discarded = rep.Received - rep.Written
	if captured, filtered, dropped, known := s.sums(); known {
		unread := max(filtered-dropped-captured, 0)
		rep.Captured, rep.Filtered, rep.Dropped, rep.Unread = &captured, &filtered, &dropped, &unread
	}
	return rep
}

// add counts what came of a stream as one interface of the file.
func (p *pump) add(rep *InterfaceReport, src *source) {
	if rep.LinkType != "" {
		rep.LinkType += ", "
	}
	rep.LinkType += src.header.LinkType.String()
	stats := p.merger.Stats(src.id)
	written := stats.Written - src.lost
	rep.Written += written
	rep.Bytes += stats.Bytes - src.lostBytes
	rep.Late += min(stats.Late, written)
	if written == 0 {
		return
	}
	if first := instant(stats.First); rep.First == nil || first.Before(*rep.First) {
		rep.First = first
	}
	if last := instant(stats.Last); rep.Last == nil || last.After(*rep.Last) {
		rep.Last = last
	}
}

// sums are what the helpers reported of a source, if all of them did.
func (src *source) sums() (filtered, dropped int64, known bool) {
	s := src.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	return src.claims.filtered, src.claims.dropped, s.open && !src.claims.silent
}

// sums are what the stream's helpers reported, if all of them did.
func (s *stream) sums() (captured, filtered, dropped int64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.captured, s.filtered, s.dropped, s.open && !s.silent
}

func instant(ns int64) *time.Time {
	t := time.Unix(0, ns).UTC()
	return &t
}

// state sums up the streams of an instance: the worst counts.
func (in *instance) state() State {
	err := in.err()
	switch {
	case errors.Is(err, errCut), errors.Is(err, errCutByHand):
		return CutState
	case in.gone.Load() && in.opened() && err != nil:
		return Gone
	case in.neverOpened():
		return NotOpened
	case err != nil:
		return LostState
	case !in.opened():
		return Unneeded
	}
	return OK
}

// neverOpened reports whether there was a problem with the instance, or with one of its streams from the beginning.
func (in *instance) neverOpened() bool {
	if in.isDown() {
		return true
	}
	for _, s := range in.streams {
		s.mu.Lock()
		never := s.err != nil && !s.open
		s.mu.Unlock()
		if never {
			return true
		}
	}
	return false
}

// mostBehind is how long others wait, beside the window, for an instance whose clock is behind.
const mostBehind = 5 * time.Second

// mergeOffset is how far this stream's clock is ahead of what the merger compares it with, which is our clock when the run
// began and what has passed since.
func (s *stream) mergeOffset() time.Duration {
	c := s.clock()
	c.Offset += c.Shift
	return max(c.certain()+c.ours, -mostBehind)
}

// ahead is how far this stream's times are ahead of run.now.
func (s *stream) ahead() time.Duration {
	c := s.clock()
	c.Offset += c.Shift
	return c.certain() + min(c.ours, 0)
}

var _ merge.Sink = (*pump)(nil)
