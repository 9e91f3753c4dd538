package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/merge"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// batch is what goes from a stream to the pump; sending it gives it away.
type batch = *merge.Batch

// stream is one helper on one network interface of one instance, from its start to its end.
type stream struct {
	instance *instance
	iface    string

	nameless bool      // its helper does not know the names of hosts that the instance makes connections to for us
	deadline time.Time // when the time of its helpers is up; zero until it has opened, and without a limit

	overdue  atomic.Bool  // the helper did not start in time
	unproven atomic.Bool  // it captures, and has not told yet that it will be ended there
	newest   atomic.Int64 // time of the record that came last, ns since the epoch
	arrival  atomic.Int64 // when it came
	heard    atomic.Int64 // the same in what had passed since the run began
	asleep   atomic.Int64 // when we gave no sign of life for long, the end of that, ns since the epoch
	behind   atomic.Bool  // packets of before the stop were still coming when the helper was ended
	early    atomic.Bool  // the helper's closing report had come when the capture was stopped

	mu       sync.Mutex
	estimate estimate // of the instance's clock
	open     bool     // a header has come, ever
	tried    bool     // an attempt has failed; there may be others
	done     bool
	err      error // a problem; nil when it ended as it should
	latest   error // how the last attempt failed, while there may be others
	cause    error // how the first of these failed, with which the gap began
	sudo     bool
	doas     bool           // sudo does not do it, but doas does
	without  []remote.Extra // what its helpers are not asked for, since the interface does not take it
	choice                  // of the helper
	report   remote.Report
	host     host
	received int64          // records framed
	odd      merge.Oddities // of them and of those that were skipped
	claims                  // of all its helpers
	current  *claims        // of those whose packets stand under the same interface of the file as the attempt's
	gaps     int64          // times that it was lost and came back
	cutShort bool           // the last record was not whole
	ending   string
}

// errNotCapturing is how an instance ends that was not capturing yet when the capture was stopped.
var errNotCapturing = errors.New("stopped before it was capturing")

// capture runs the helper until it is told to end, and when following starts it again while the connection lives.
func (s *stream) capture(conn *sshx.Conn) {
	r := s.instance.run
	var wait backoff
	for !s.expire() {
		before := time.Now()
		err := s.helper(conn)
		if err == errTimeUp {
			r.emit(Event{Kind: Note, Instance: s.instance.Name, Text: s.named(err).Error()})
			s.finish(err)
			return
		}
		if !r.cfg.Follow || r.active.Err() != nil || s.isDone() || hopeless(err) && !s.hasOpened() || errors.Is(err, errFeedback) {
			s.finish(err)
			return
		}
		if err == nil {
			err = errEnded
		}
		s.failedOnce(err)
		s.instance.leave(s.named(err))
		if time.Since(before) > mostPause {
			wait.reset()
		}
		if conn.Err() != nil || !wait.pause(r.active) {
			return // the instance connects again, or ends the stream
		}
	}
}

var errEnded = errors.New("its helper ended")

// attempt starts the helper once and delivers what it gives until its end. The error is nil when it ended because it
// was asked to and gave all it had.
func (s *stream) attempt(conn *sshx.Conn, sudo bool) error {
	r := s.instance.run
	log := s.instance.newLog()
	process, err := s.launch(conn, sudo)
	if err != nil {
		return err
	}
	s.begin(sudo)
	uncut := context.AfterFunc(r.alive, func() { process.Close() })
	defer uncut()

	var beside sync.WaitGroup
	over, said := make(chan struct{}), make(chan struct{}) // closed when stdout has ended, and when stderr has
	measured := make(chan struct{})                        // closed when the clock has been measured, or cannot be
	beside.Go(func() { io.Copy(log, process.Stderr); close(said) })
	beside.Go(func() { s.beat(process, log, measured, over) })
	beside.Add(1)
	untended := context.AfterFunc(r.active, func() { s.tend(process, log, over); beside.Done() })
	readErr, opened := s.read(process, log, said, measured)
	close(over)
	process.Stdin.Close() // also when the helper ended by itself, for a wrapper that has not noticed
	waitErr := wait(process, said, r.cfg.Grace)
	process.Close()
	if untended() {
		beside.Done()
	}
	beside.Wait()

	if opened {
		s.instance.part()
	}
	s.account(log, opened)
	return s.end(conn, log, readErr, waitErr, opened).verdict()
}

// launch has a helper started.
func (s *stream) launch(conn *sshx.Conn, sudo bool) (*sshx.Process, error) {
	r := s.instance.run
	starting, started := context.WithTimeout(r.active, r.cfg.ConnectTimeout)
	defer started()
	process, err := conn.Start(starting, s.line(conn, sudo))
	switch {
	case err != nil && r.active.Err() != nil:
		return nil, errNotCapturing
	case err != nil && starting.Err() != nil:
		return nil, s.tooSlow()
	}
	return process, err
}

// line is the command line of a helper.
func (s *stream) line(conn *sshx.Conn, sudo bool) string {
	in := s.instance.settings()
	command := s.instance.run.cfg.command(in, s.iface, sudo)
	command.Helper = s.helperOf(command, in)
	command.Doas = s.doas
	command.ServerPort = s.instance.port()
	command.Siblings = in.Server != "" || len(s.instance.streams) > 1
	command.Beside = s.instance.beside(conn, command.Siblings, !s.nameless)
	for _, extra := range s.lacks() {
		command, _ = command.Without(extra)
	}
	if !s.deadline.IsZero() { // it is not the first one
		command.MaxTime = max(time.Until(s.deadline), 1)
	}
	return command.Line()
}

// account takes note of what a helper reported in its end.
func (s *stream) account(log *stderr, opened bool) {
	report := log.Report()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report, s.choice.opened = report, opened
	if opened {
		s.add(report)
		s.current.add(report)
	}
	if report.Known {
		s.instance.run.cfg.Progress.drop(report.Dropped)
		s.instance.run.cfg.Progress.Reported.Add(1)
	}
}

// claims are the sums of what helpers reported in their ends.
type claims struct {
	captured, filtered, dropped int64
	silent                      bool // one of them reported nothing
}

func (c *claims) add(report remote.Report) {
	c.silent = c.silent || !report.Known
	addClaim(&c.captured, report.Captured)
	addClaim(&c.filtered, report.Filtered)
	addClaim(&c.dropped, report.Dropped)
}

// mostClaimed is where sums of what instances claim end, so that none overflows, whatever they say and however often.
const mostClaimed = 1 << 52

func addClaim(sum *int64, n uint64) { *sum = min(*sum+int64(min(n, mostClaimed)), mostClaimed) }

// complete reports whether all has come that its helpers say they have captured.
func (s *stream) complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open && !s.silent && s.captured == s.received+s.odd.SkippedPackets()
}

// begin notes how a new attempt is made.
func (s *stream) begin(sudo bool) {
	s.early.Store(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sudo = sudo
}

// beat gives the helper signs of life until the capture stops: some of them are questions what its clock shows. It closes
// measured when these have been answered for the first time, or will not be. A server that does not take them holds up
// nothing else.
func (s *stream) beat(process *sshx.Process, log *stderr, measured chan<- struct{}, over <-chan struct{}) {
	r := s.instance.run
	first := firstReadings
	if len(r.cfg.Instances) > manyClocks && !r.cfg.AlignClocks {
		first = 1
	}
	answers := s.readClock(log, over, first, process.Stdin, true)
	close(measured)
	beat := time.NewTicker(remote.HeartbeatInterval)
	defer beat.Stop()
	last := timeNow()
	awake := func() {
		now := timeNow()
		if now.Round(0).Sub(last.Round(0)) > 3*remote.HeartbeatInterval { // by the wall clock: the other one sleeps with us
			s.asleep.Store(now.UnixNano())
		}
		last = now
	}
	defer awake()
	for n := 1; ; n++ {
		select {
		case <-beat.C:
		case <-over:
			return
		case <-r.active.Done():
			return
		}
		awake()
		if answers && n == 1 && first < firstReadings {
			answers = s.readClock(log, over, firstReadings, process.Stdin, false)
		} else if answers && n%beatsBetween == 0 {
			answers = s.readClock(log, over, laterReadings, process.Stdin, false)
		} else if _, err := process.Stdin.Write(remote.Heartbeat()); err != nil {
			return // the reader notices, and knows why
		}
	}
}

// tend ends the helper when the capture stops: by the end of its input, which the wrapper on the instance understands, and
// when half the grace has passed by a signal to whoever takes it.
func (s *stream) tend(process *sshx.Process, log *stderr, over <-chan struct{}) {
	r := s.instance.run
	s.early.Store(log.Report().Known)
	s.catchUp(over)
	process.Stdin.Close()
	patience := time.NewTimer(r.cfg.Grace / 2)
	defer patience.Stop()
	select {
	case <-patience.C:
		process.Signal(ssh.SIGTERM)
	case <-over:
	}
}

// How long a helper may take to read what its kernel already had for it when the capture was stopped: packets that it
// has not read when it ends are lost.
const (
	catchUpQuiet = 100 * time.Millisecond // nothing has come for so long: there is nothing to read
	catchUpMost  = time.Second
)

// catchUp waits until all packets of the time before the stop have come, or none comes any more.
func (s *stream) catchUp(over <-chan struct{}) {
	r := s.instance.run
	s.mu.Lock()
	opened := s.open
	s.mu.Unlock()
	clock := s.clock()
	if !opened || !r.end().wantsAll() {
		return
	}
	target := r.now().Add(s.ahead() + clock.Error).UnixNano()
	s.heard.Store(int64(time.Since(r.started)))
	most := time.NewTimer(min(catchUpMost, r.cfg.Grace/4))
	defer most.Stop()
	look := time.NewTicker(catchUpQuiet / 10)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			quiet := time.Since(r.started)-time.Duration(s.heard.Load()) > catchUpQuiet
			if quiet || s.newest.Load() > target {
				return
			}
		case <-most.C:
			// Our clock may have been set ahead, or we have slept: who knows?
			s.behind.Store(s.newest.Load() < target-int64(max(r.drift()-clock.ours, 0)))
			return
		case <-over:
			return
		case <-r.alive.Done():
			return
		}
	}
}

// read delivers the header and all packets to the pump. A nil error means that the stream ended between two records. said
// is closed when the instance has nothing more to say.
func (s *stream) read(process *sshx.Process, log *stderr, said, measured <-chan struct{}) (err error, opened bool) {
	r := s.instance.run
	stop := afterTimeout(r.cfg.ConnectTimeout, func() { s.overdue.Store(true); process.Close() })
	reader := merge.NewReader(stdout{process})
	reader.Limit(r.arena)
	header, err := reader.ReadHeader()
	watched := &proof{stream: s, log: log, said: said, over: make(chan struct{})}
	if err == nil {
		if err := watched.await(process); err != nil {
			stop()
			return err, false
		}
	}
	if watched.known || err != nil {
		stop()
	}
	if err != nil {
		return s.unreadable(err, process), false
	}
	header.Snaplen = r.cfg.snaplen(header.Snaplen)
	reader.CutTo(header.Snaplen)
	defer s.countOdd(reader)
	s.awaitClock(log, measured)
	if err := s.opening(header, log, reader); err != nil {
		stop()
		process.Close()
		return err, false
	}
	watched.follow(process, stop)
	watch := r.guard.watch(s, process, header.LinkType)
	defer watch.end()
	err = s.deliver(reader, process, watch)
	failure := watched.end()
	switch {
	case failure != nil:
		return failure, true
	case watch.why() != nil:
		return watch.why(), true
	case errors.Is(err, io.EOF):
		return nil, true
	case err == merge.ErrTruncated: // it is at its end: what the helper says of it still comes
		return err, true
	}
	process.Close() // whatever else comes has no meaning
	return err, true
}

// unreadable is the problem of a stream that has no header.
func (s *stream) unreadable(err error, process *sshx.Process) error {
	if s.overdue.Load() {
		return s.tooSlow()
	}
	var format *merge.FormatError
	if errors.As(err, &format) {
		format.Head = append(format.Head, readOn(process)...)
	}
	return err
}

// deliver gives the pump all packets up to the end of the stream, which the error tells.
func (s *stream) deliver(reader *merge.Reader, process *sshx.Process, watch *watcher) error {
	r := s.instance.run
	for {
		b, err := reader.Next()
		if b != nil {
			s.mu.Lock()
			s.received += int64(len(b.Records))
			s.mu.Unlock()
			s.newest.Store(b.Records[len(b.Records)-1].Time)
			s.arrival.Store(timeNow().UnixNano())
			now := time.Since(r.started)
			s.heard.Store(int64(now))
			feeds := watch.look(b, now)
			r.messages <- message{stream: s, kind: packets, batch: b}
			if feeds {
				s.starve(process)
			}
		}
		if err != nil {
			return err
		}
	}
}

// starve ends a stream that feeds itself, as any is ended. Meanwhile it is not read, so that it gets less.
func (s *stream) starve(process *sshx.Process) {
	process.Stdin.Close()
	select {
	case <-time.After(starving):
	case <-s.instance.run.alive.Done():
	}
}

// starving is how long the lines of shell around a helper may give it to read what its kernel has for it.
const starving = 500 * time.Millisecond

// snaplen is the snapshot length that packets of a stream are written with: what was asked for, or what the stream claims
// if that is less.
func (cfg Config) snaplen(claimed uint32) uint32 {
	return min(merge.Snaplen(claimed), merge.Snaplen(uint32(cfg.Snaplen)))
}

// countOdd records what in an attempt's packets made no sense.
func (s *stream) countOdd(reader *merge.Reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd.Add(reader.Oddities())
}

// stdout is what a helper writes there, read without a copy.
type stdout struct{ *sshx.Process }

func (s stdout) Read(b []byte) (int, error) { return s.ReadStdout(b) }

// arenaSize bounds the memory that a stream's packets come in, of which each has some: together no more than a sixteenth
// of the buffer.
func (cfg Config) arenaSize() int {
	const least = 16 << 10
	return int(max(cfg.Buffer/int64(16*max(cfg.streams(), 1)), least))
}

func (s *stream) tooSlow() error {
	return &Error{
		Problem: fmt.Sprintf("connected, but no helper was capturing within %v", s.instance.run.cfg.ConnectTimeout),
		Tip:     tipHangs,
	}
}

// readOn reads a little more of what is not a packet stream, to show the user: its first bytes came alone, perhaps. It
// gives it a second to end.
func readOn(process *sshx.Process) []byte {
	defer afterTimeout(time.Second, func() { process.Close() })()
	text, _ := io.ReadAll(io.LimitReader(process.Stdout, 200))
	io.Copy(io.Discard, process.Stdout) // so that it can end, and say why
	return text
}

// opening tells the pump that packets will come.
func (s *stream) opening(header merge.Header, log *stderr, reader *merge.Reader) error {
	r := s.instance.run
	host := log.host()
	if err := r.claim(host, s.instance); err != nil {
		return err
	}
	answer := make(chan admission, 1)
	m := message{stream: s, kind: opened, header: header, answer: answer}
	s.mu.Lock()
	if r.cfg.AlignClocks {
		s.estimate.clock.Shift = -s.estimate.clock.certain()
		reader.Shift(s.estimate.clock.Shift)
	}
	if s.open {
		m.gap = &gap{after: s.newest.Load(), text: s.gapText()}
	}
	s.report, s.host = log.Report(), host // for the name of the instance's address, and what is excluded
	connection := s.report.Connection
	s.mu.Unlock()
	s.instance.learn(connection)
	r.messages <- m
	admission := <-answer // before any packet, so that none of a refused attempt is on its way
	if admission.err != nil {
		return admission.err
	}
	s.admitted(admission)
	s.instance.join()
	s.tellLacks()
	return nil
}

// admitted notes that the attempt captures.
func (s *stream) admitted(a admission) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		s.gaps++
	} else {
		s.arrival.Store(timeNow().UnixNano())
		if limit := s.instance.run.cfg.MaxRemoteTime; limit > 0 {
			s.deadline = time.Now().Add(limit)
		}
	}
	s.open, s.latest, s.cause, s.current = true, nil, nil, a.claims
}

// gapText says on the first packet after a gap how long it was, by our clock.
func (s *stream) gapText() string {
	last, now := time.Unix(0, s.arrival.Load()), timeNow()
	if newest := s.newest.Load(); newest > 0 {
		captured := time.Unix(0, newest)
		if !s.instance.run.cfg.AlignClocks { // else it is by our clock already
			captured = captured.Add(-s.estimate.clock.certain())
		}
		if captured.Before(last) {
			last = captured // it came late, and nothing was captured after it
		}
	}
	why := errEnded
	if s.cause != nil {
		why = s.cause
	}
	text := fmt.Sprintf("gap: nothing was captured on %s for up to %v before this packet, from %s on: %v",
		s, now.Sub(last).Round(time.Millisecond), last.UTC().Format(time.RFC3339), why)
	if where := s.instance.settings().Description; where != "" {
		text += "; now: " + where
	}
	if shift := s.estimate.clock.Shift; shift != 0 {
		text += fmt.Sprintf("; from here on %+d ns are added to the timestamps", shift.Nanoseconds())
	}
	return text
}

// wait returns the process's end, after all that it had to say; and after d that it did not come.
func wait(process *sshx.Process, said <-chan struct{}, d time.Duration) error {
	defer afterTimeout(d, func() { process.Close() })()
	err := process.Wait()
	if !errors.Is(err, sshx.ErrLost) {
		<-said
	}
	return err
}

// afterTimeout calls f unless stopped before d has passed.
func afterTimeout(d time.Duration, f func()) (stop func()) {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// expire ends a stream that was lost and whose time is over before it has come back, and reports whether it did.
func (s *stream) expire() bool {
	if s.deadline.IsZero() || time.Now().Before(s.deadline) {
		return false
	}
	s.mu.Lock()
	err := s.latest
	s.mu.Unlock()
	s.finish(err)
	return true
}

// finish records how the stream ended and tells everybody who waits for it. Only its first call counts.
func (s *stream) finish(err error) {
	r := s.instance.run
	s.mu.Lock()
	if s.done {
		s.mu.Unlock()
		return
	}
	s.done = true
	if s.latest != nil && errors.Is(err, errNotCapturing) {
		err = s.latest // it was lost before, and has not come back
	}
	s.ending = ending(err)
	if !errors.Is(err, errNotCapturing) && err != errTimeUp {
		s.err = err
	}
	problem, told := s.err, s.tried || s.instance.isDown()
	s.mu.Unlock()
	if problem != nil && !told {
		r.failed(s.instance, s.named(problem))
	}
	r.messages <- message{stream: s, kind: ended}
}

// failedOnce notes that an attempt failed, which is told elsewhere.
func (s *stream) failedOnce(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried, s.latest = true, err
	if s.cause == nil {
		s.cause = err
	}
}

// named adds the network interface to a problem where the instance has several.
func (s *stream) named(err error) error {
	if len(s.instance.streams) == 1 {
		return err
	}
	return &Error{Problem: s.iface + ": " + err.Error(), Tip: hintOf(err), Err: err}
}

func ending(err error) string {
	if err == nil {
		return "stopped"
	}
	return err.Error()
}

// hintOf is the hint that an error carries, or "".
func hintOf(err error) string {
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		return hinter.Hint()
	}
	return ""
}

// String is the name of the stream's interface in the file.
func (s *stream) String() string { return s.instance.Name + ":" + s.iface }

// describe says where the packets come from, for people.
func (s *stream) describe() string {
	text := "captured on " + s.instance.Name
	if address := hostOf(s.instance.ownAddress()); address != "" && address != s.instance.Name {
		text += " (" + address + ")"
	}
	if helper := s.remoteReport().Helper; helper != "" {
		text += " by " + helper
	}
	if more := s.instance.settings().Description; more != "" {
		text += "; " + more
	}
	if lacks := s.lacks(); len(lacks) > 0 {
		text += "; the interface does not take: " + strings.Join(names(lacks), ", ")
	}
	return text
}

// remoteReport is what the instance has told so far.
func (s *stream) remoteReport() remote.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

func (s *stream) isDone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

// hasOpened reports whether it has ever delivered.
func (s *stream) hasOpened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// isTried reports whether it is known that this stream does not capture, for now.
func (s *stream) isTried() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done || s.tried || s.overdue.Load()
}

func (s *stream) problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
