package capture

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sshpcap/sshpcap/merge"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// end is how an attempt ended: all that is known when it is over.
type end struct {
	opened  bool  // its header had come
	readErr error // of the packets; nil = they ended between two records
	waitErr error // of the process: how it ended

	asked   bool // the capture had been stopped, whether the helper heard of it or not
	early   bool // the helper's closing report had come before
	cut     bool // it was not waited for any more
	byHand  bool // since the user did not want to
	limited bool // its time was, by MaxRemoteTime

	report   remote.Report
	failure  *remote.Failure // what the helper's words and its exit status mean; nil = nothing is wrong
	complete bool            // all has come that the helpers say they have captured

	disconnected bool // the whole connection is lost
	slept        bool // this computer, not long ago
}

// end puts together what is known of an attempt that is over.
func (s *stream) end(conn *sshx.Conn, log *stderr, readErr, waitErr error, opened bool) end {
	r := s.instance.run
	e := end{
		opened: opened, readErr: readErr, waitErr: waitErr,
		asked: r.active.Err() != nil, early: s.early.Load(), cut: r.alive.Err() != nil, limited: r.cfg.MaxRemoteTime > 0,
		report: log.Report(), failure: log.Failure(exitStatus(waitErr)), complete: s.complete(),
		disconnected: conn.Err() != nil, slept: time.Since(time.Unix(0, s.asleep.Load())) < time.Minute,
	}
	e.byHand = e.cut && r.end() == EndCut
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutShort = s.cutShort || e.truncated()
	return e
}

func (e end) status() int     { return exitStatus(e.waitErr) }
func (e end) lost() bool      { return errors.Is(e.waitErr, sshx.ErrLost) }
func (e end) truncated() bool { return errors.Is(e.readErr, merge.ErrTruncated) }

// whole reports whether its packets came to their end: those that are missing are counted by the helper, or one is cut
// off, which is counted here.
func (e end) whole() bool { return e.readErr == nil || e.truncated() && e.report.Known }

// verdict is why it ended: nil where it was asked to and all that was there has come, or is counted. That we have asked
// proves little: the helper may have ended long before, and nothing was captured from then on. How it ended decides.
func (e end) verdict() error {
	var own *Error
	switch {
	case e.opened && e.status() == remote.Unheard:
		return e.unheard()
	case e.limited && e.status() == remote.TimeUp && (e.opened || !e.asked):
		return e.timeUp()
	case e.obeyed() && e.readErr == nil && e.complete:
		return nil // it lacks the exit status at most
	case e.cut:
		return e.cutOff()
	case errors.As(e.readErr, &own):
		return own
	case e.asked && !e.opened:
		return errNotCapturing
	case e.obeyed() && !e.lost() && e.whole():
		return e.killed()
	}
	return e.why()
}

// obeyed reports whether the helper ended since it was asked to, as far as is known.
func (e end) obeyed() bool {
	if !e.asked || !e.opened || e.early || e.report.Unasked {
		return false
	}
	switch status := e.status(); {
	case status == killed:
		return true // by the script, when it had not ended
	case status > 128:
		return politely[status-128]
	}
	return e.failure == nil || e.failure.Kind != remote.InterfaceGone && e.failure.Kind != remote.InterfaceDown
}

// politely are the signals that a helper is asked with, by the script, by an SSH server and by a reader that goes away.
var politely = map[int]bool{1: true, 2: true, 13: true, 15: true}

// killed is the end of a helper that was asked to end and gave all it had, unless it had to be killed.
func (e end) killed() error {
	if e.status() == killed && !e.report.Known {
		return errKilled
	}
	return nil // also when another signal ended it: its packets have all come
}

// timeUp is the end of a helper that has run as long as it may.
func (e end) timeUp() error {
	switch {
	case !e.opened:
		return &Error{Problem: "its time was over before it was capturing", Tip: "allow more with --max-remote-time"}
	case e.report.Counts() && !e.report.Known:
		return errKilled
	case e.whole():
		return errTimeUp
	}
	return e.why()
}

// cutOff is the end of what was not waited for.
func (e end) cutOff() error {
	switch {
	case !e.opened:
		return errNotCapturing
	case e.byHand:
		return errCutByHand
	}
	return errCut
}

// why is the reason for an end that nothing had asked for, or in which packets broke off.
func (e end) why() error {
	var format *merge.FormatError
	said := errors.As(e.readErr, &format) // something else than packets, on stdout
	if e.failure != nil && !e.lost() && !(said && e.failure.Kind == remote.NoShell) {
		return e.failure
	}
	switch {
	case said:
		return notPcap(format, e.opened)
	case e.disconnected && e.lost():
		return e.waitErr
	case e.lost():
		return &Error{Problem: "the server ended it without saying how", Tip: "its packets up to there are in the file", Err: e.waitErr}
	case !e.opened:
		return &Error{
			Problem: fmt.Sprintf("the helper did not start, and nobody says why (exit status %d)", e.status()),
			Tip:     tipRunsElse,
		}
	}
	return &Error{Problem: fmt.Sprintf("the helper ended by itself (exit status %d)", e.status()), Tip: "its packets up to there are in the file"}
}

// unheard is the end of a helper that the instance ended because it had no sign of life from us.
func (e end) unheard() error {
	why := "check the network to it."
	if e.slept {
		why = "was this computer suspended?"
	}
	return &Error{Problem: "the instance ended it, since no sign of life came from here any more", Tip: why + " Its packets up to there are in the file; --follow takes it up again"}
}

// killed is the exit status of what KILL has ended.
const killed = 128 + 9

// errKilled is the end of a helper that hung.
var errKilled = &Error{Problem: "the helper did not end when it was asked to, and was killed", Tip: "packets that it had not read are missing, and nobody has counted them"}

// errTimeUp is the end of a stream whose helper has run as long as it may. It is a normal one.
var errTimeUp = errors.New("its time is over (--max-remote-time)")

// errCutByHand is the end of a stream that the user did not want to wait for.
var errCutByHand = &Error{Problem: "was cut before it had ended", Tip: "its last packets may be missing"}

// errCut is the end of a stream that was no longer waited for.
var errCut = &Error{Problem: "did not end in time and was cut", Tip: "its last packets may be missing; allow more with --grace"}

// notPcap says what came in the place of packets.
func notPcap(err *merge.FormatError, opened bool) error {
	if opened {
		return &Error{Problem: err.Error(), Tip: "its packets up to there are in the file", Err: err}
	}
	if strings.HasPrefix(err.Reason, "it is ") || strings.HasPrefix(err.Reason, "version ") {
		return &Error{Problem: "what came is not a packet stream: " + err.Reason, Tip: err.Hint(), Err: err}
	}
	return &Error{
		Problem: fmt.Sprintf("what came is not a packet stream but %q", words(err.Head)),
		Tip:     tipPrints,
		Err:     err,
	}
}

// words is what a person wrote at the beginning of some bytes: all up to what cannot be read.
func words(head []byte) string {
	text := string(head)
	if i := strings.IndexFunc(text, func(r rune) bool {
		return r == utf8.RuneError || unicode.IsControl(r) && !unicode.IsSpace(r) && r != 0x1b
	}); i > 0 {
		text = text[:i]
	}
	return remote.Clean(text)
}

// exitStatus is what the helper's end looked like to a shell.
func exitStatus(err error) int {
	var exit *sshx.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Status
	}
	return -1
}
