package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/merge"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// Check reports whether Run with the same configuration would capture. It does on each instance what Run does, up to the
// header of the packet stream, with a filter that lets nothing through, and stops it; and it measures the connection.
// Nothing is left running and nothing is written. The output is checked as far as its Path is set.
//
// One instance's problem is in its part of the report. The error is about the configuration (*Error), and the report
// is empty then. A ctx that ends ends the check; the report says what was not looked at.
func Check(ctx context.Context, cfg Config) (CheckReport, error) {
	cfg.Follow, cfg.Discover, cfg.RequireAll = false, nil, false
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return CheckReport{}, err
	}
	if err := cfg.checkPath(); err != nil {
		return CheckReport{}, err
	}
	rep := CheckReport{Version: 1, Program: "sshpcap " + cfg.Version, Started: time.Now()}
	checkups := make([]*checkup, len(cfg.Instances))
	var all sync.WaitGroup
	for i, in := range cfg.Instances {
		checkups[i] = newCheckup(cfg, in)
		all.Go(func() { checkups[i].run(ctx) })
	}
	all.Wait()
	findSameHosts(checkups)
	for _, c := range checkups {
		rep.Instances = append(rep.Instances, c.report())
	}
	if err := oneLinkType(cfg, checkups); err != nil {
		rep.Problem, rep.Hint = err.Error(), hintOf(err)
	}
	rep.Ended = time.Now()
	return rep, nil
}

// checkPath says of the output what Run says before it connects.
func (cfg Config) checkPath() error {
	if cfg.Output.Path == "" {
		return nil
	}
	out, err := newFile(cfg.checkedOutput())
	if err != nil {
		return err
	}
	out.Overwrite = cfg.Output.Overwrite
	return newRun(cfg, out).checkOutputs()
}

// checkup is the check of one instance. Its fields are written by run and read after it.
type checkup struct {
	cfg Config // with that instance only

	address string
	unable  error                    // there is no connection
	streams []*stream                // which have ended
	headers map[*stream]merge.Header // of those that opened
	notes   []string
	ended   bool // by its ctx, before all was looked at

	server  string // SSH version
	about   remote.About
	told    remote.Report
	host    host
	clock   Clock
	room    int // sessions beside none; -1 = not known
	trip    time.Duration
	rate    float64 // bytes a second; 0 = not known
	problem error   // with the instance as a whole
}

func newCheckup(cfg Config, in Instance) *checkup {
	c := &checkup{cfg: cfg, room: -1}
	c.cfg.Instances = []Instance{in}
	c.cfg.OnEvent = func(e Event) {
		if e.Kind == Note && !slices.Contains(c.notes, e.Text) { // a second try may find it again
			c.notes = append(c.notes, e.Text)
		}
	}
	return c
}

func (c *checkup) run(ctx context.Context) {
	defer func() { c.ended = ctx.Err() != nil }()
	idle := c.cfg
	idle.Filter = remote.Nothing(c.cfg.Filter)
	idle.AlignClocks = true // which waits until the clock is measured
	t := newTrial(ctx, idle)
	conn, err := t.in.connect()
	if err != nil {
		t.abandon()
		c.unable, c.streams = err, t.in.streams
		return
	}
	defer conn.Close()
	c.server, c.address = remote.Clean(conn.ServerVersion()), t.in.ownAddress()
	c.trip = c.cfg.roundTrip(ctx, conn)
	c.capture(t, conn)
	if idle.Filter != c.cfg.Filter && slices.ContainsFunc(c.streams, hasBadFilter) {
		c.capture(newTrial(ctx, c.cfg), conn)
	}
	if c.runsCommands() {
		c.ask(ctx, conn)
	}
	c.room = c.cfg.room(ctx, conn)
	if c.runsCommands() {
		c.rate = c.cfg.throughput(ctx, conn, c.command())
	}
}

func hasBadFilter(s *stream) bool { return failureKind(s.err) == remote.BadFilter }

// failureKind is what kind of failure of a helper an error is; 0 when it is none.
func failureKind(err error) remote.Kind {
	var failure *remote.Failure
	if !errors.As(err, &failure) {
		return 0
	}
	return failure.Kind
}

// command is that of a helper.
func (c *checkup) command() remote.Command {
	command := c.cfg.command(c.cfg.Instances[0], c.streams[0].iface, false)
	if c.cfg.Instances[0].Fallback != "" && chosenThere(c.cfg.Helper) && c.told.Helper != "" {
		command.Helper = c.told.Helper // not the one that was passed over
	}
	return command
}

// capture does what a capture does on a connection, and stops as soon as it captures.
func (c *checkup) capture(t *trial, conn *sshx.Conn) {
	c.headers = t.capture(conn)
	c.streams = t.in.streams
	for _, s := range c.streams {
		if s.report.Host != "" || s.report.Helper != "" {
			c.told, c.host = s.report, s.host
		}
	}
	c.address = t.in.ownAddress()
	c.clock = clockOf(c.streams)
}

// clockOf is how far an instance's clock is ahead, as its streams have measured it.
func clockOf(streams []*stream) (best Clock) {
	for _, s := range streams {
		if c := s.clock(); c.Known && (!best.Known || c.Error < best.Error) {
			best = c
		}
	}
	best.Shift = 0
	return best
}

// ask asks the instance what nobody needs to know for a capture.
func (c *checkup) ask(ctx context.Context, conn *sshx.Conn) {
	var a answer
	c.about, a = c.cfg.about(ctx, conn, c.command())
	if c.told.Helper == "" {
		c.told.Helper = a.log.Report().Helper
	}
	if !c.clock.Known {
		c.clock = a.clock()
	}
}

// runsCommands reports whether a command of ours has run there.
func (c *checkup) runsCommands() bool {
	return slices.ContainsFunc(c.streams, func(s *stream) bool {
		return s.open || s.report.Started || failureKind(s.err) == remote.NoHelper
	})
}

// trial is a capture of one instance that ends as soon as all its streams have opened or ended, and has no output.
type trial struct {
	run   *run
	in    *instance
	untie func() bool // ctx ends it no longer
}

// endChecked is the end of a trial.
const endChecked End = "checked"

func newTrial(ctx context.Context, cfg Config) *trial {
	r := newRun(cfg, nil)
	return &trial{run: r, in: r.instances[0], untie: context.AfterFunc(ctx, func() { r.stop(EndInterrupted) })}
}

// abandon ends a trial that captures nothing.
func (t *trial) abandon() {
	t.untie()
	t.run.stop(endChecked)
	t.run.cut()
}

// capture returns when all streams have ended, and gives the headers of those that opened.
func (t *trial) capture(conn *sshx.Conn) map[*stream]merge.Header {
	headers := make(map[*stream]merge.Header)
	t.in.reached(conn)
	watching := t.run.watch()
	go func() { t.in.captureOn(conn); close(t.run.messages) }()
	coming := make(map[*stream]bool)
	for _, s := range t.in.streams {
		coming[s] = true
	}
	for m := range t.run.messages {
		switch m.kind {
		case packets: // with the filter as it is
			m.batch.Release()
		case opened:
			headers[m.stream] = m.header
			m.answer <- admission{claims: new(claims)}
			delete(coming, m.stream)
		case ended:
			delete(coming, m.stream)
		}
		if len(coming) == 0 {
			t.run.stop(endChecked)
		}
	}
	t.abandon()
	watching.Wait()
	return headers
}

// oneLinkType is the error of a pcap file that would have to hold several.
func oneLinkType(cfg Config, checkups []*checkup) error {
	if cfg.Output.Format != Pcap {
		return nil
	}
	names := make(map[merge.LinkType][]string)
	for _, c := range checkups {
		for _, s := range c.streams {
			if header, ok := c.headers[s]; ok {
				names[header.LinkType] = append(names[header.LinkType], s.String())
			}
		}
	}
	if len(names) < 2 {
		return nil
	}
	return linkTypesError(names, cfg.Output.Path)
}

func linkTypesError(names map[merge.LinkType][]string, path string) error {
	var groups []string
	for t, streams := range names {
		groups = append(groups, fmt.Sprintf("%v on %s", t, strings.Join(streams, ", ")))
	}
	slices.Sort(groups)
	return &Error{
		Problem: "a pcap file holds one link type only, and there are " + strings.Join(groups, " and "),
		Tip:     "write pcapng: -o " + pcapngName(path) + ", or name one --interface",
	}
}
