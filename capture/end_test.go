package capture

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/merge"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// TestVerdict has a row for each way in which a helper may end. Where the capture had been stopped, the end is a normal one
// only if nothing speaks against it: neither the exit status, nor the helper's own words, nor the script's.
func TestVerdict(t *testing.T) {
	status := func(n int) error { return &sshx.ExitError{Status: n} }
	gone := &remote.Failure{Kind: remote.InterfaceGone, Problem: "the interface disappeared"}
	signalled := &remote.Failure{Kind: remote.Killed, Problem: "killed by a signal"}
	failed := &remote.Failure{Kind: remote.HelperFailed, Problem: "failed"}
	known := remote.Report{Known: true}
	format := &merge.FormatError{}
	eof := errors.New("EOF")
	const unheard = "the instance ended it, since no sign of life came from here any more"
	const byItself, dropped = "the helper ended by itself (exit status 0)", "the server ended it without saying how"
	for name, tt := range map[string]struct {
		end
		want string // "" = it ended well
	}{
		"stopped":                        {end{opened: true, asked: true, complete: true, report: known}, ""},
		"stopped, packets missing":       {end{opened: true, asked: true, report: known}, ""}, // which the pump's sums tell
		"stopped by a signal":            {end{opened: true, asked: true, waitErr: status(143), report: known}, ""},
		"stopped, no report":             {end{opened: true, asked: true, waitErr: status(130), failure: signalled}, ""},
		"stopped, another status":        {end{opened: true, asked: true, waitErr: status(7), failure: failed}, ""},
		"stopped, last packet cut":       {end{opened: true, asked: true, waitErr: status(143), readErr: merge.ErrTruncated, report: known}, ""},
		"stopped, packet cut, no report": {end{opened: true, asked: true, readErr: merge.ErrTruncated}, byItself},
		"stopped, hung":                  {end{opened: true, asked: true, waitErr: status(137), failure: signalled}, errKilled.Problem},
		"stopped, hung after its report": {end{opened: true, asked: true, waitErr: status(137), report: known}, ""},
		"stopped, all came, then lost":   {end{opened: true, asked: true, waitErr: sshx.ErrLost, complete: true, report: known, disconnected: true}, ""},
		"stopped, all came, then cut":    {end{opened: true, asked: true, waitErr: sshx.ErrLost, complete: true, report: known, cut: true}, ""},
		"stopped, lost":                  {end{opened: true, asked: true, waitErr: sshx.ErrLost, disconnected: true}, sshx.ErrLost.Error()},
		"stopped, the server dropped it": {end{opened: true, asked: true, waitErr: sshx.ErrLost}, dropped},
		"stopped, cut":                   {end{opened: true, asked: true, waitErr: sshx.ErrLost, readErr: sshx.ErrLost, cut: true}, errCut.Problem},
		"stopped, cut by hand":           {end{opened: true, asked: true, waitErr: sshx.ErrLost, readErr: sshx.ErrLost, cut: true, byHand: true}, errCutByHand.Problem},
		"stopped too early":              {end{asked: true, readErr: eof}, errNotCapturing.Error()},
		"stopped too early, cut":         {end{asked: true, cut: true, waitErr: sshx.ErrLost}, errNotCapturing.Error()},

		"stopped, unheard before":          {end{opened: true, asked: true, waitErr: status(123), report: known, complete: true}, unheard},
		"stopped, unheard before, hung":    {end{opened: true, asked: true, waitErr: status(123), failure: failed}, unheard},
		"stopped, unheard before, lost":    {end{opened: true, asked: true, waitErr: sshx.ErrLost, complete: true, report: remote.Report{Known: true, Unasked: true}}, dropped},
		"stopped, ended before":            {end{opened: true, asked: true, complete: true, report: remote.Report{Known: true, Unasked: true}}, byItself},
		"stopped, report from before":      {end{opened: true, asked: true, complete: true, report: known, early: true}, byItself},
		"stopped, killed before":           {end{opened: true, asked: true, waitErr: status(137), failure: signalled, report: remote.Report{Unasked: true}}, signalled.Problem},
		"stopped, crashed":                 {end{opened: true, asked: true, waitErr: status(139), failure: signalled}, signalled.Problem},
		"stopped, its interface gone":      {end{opened: true, asked: true, waitErr: status(1), failure: gone, report: known, complete: true}, gone.Problem},
		"stopped, its time over before":    {end{opened: true, asked: true, limited: true, waitErr: status(124), report: known, complete: true}, errTimeUp.Error()},
		"stopped too early, its time over": {end{asked: true, limited: true, waitErr: status(124)}, errNotCapturing.Error()},

		"unheard":                               {end{opened: true, waitErr: status(123), report: known, complete: true}, unheard},
		"unheard before it captured":            {end{waitErr: status(123), failure: failed}, failed.Problem},
		"ended":                                 {end{opened: true, report: known, complete: true}, byItself},
		"failed":                                {end{opened: true, waitErr: status(1), failure: failed}, failed.Problem},
		"its time over":                         {end{opened: true, limited: true, waitErr: status(124), report: known}, errTimeUp.Error()},
		"its time over, hung":                   {end{opened: true, limited: true, waitErr: status(124), report: remote.Report{Helper: "/usr/bin/tcpdump"}}, errKilled.Problem},
		"its time over before it captured":      {end{limited: true, waitErr: status(124)}, "its time was over before it was capturing"},
		"no limit, the status of one":           {end{opened: true, waitErr: status(124), failure: failed}, failed.Problem},
		"an error of ours":                      {end{readErr: &Error{Problem: "own"}, waitErr: sshx.ErrLost}, "own"},
		"no packets, no words":                  {end{readErr: eof}, "the helper did not start, and nobody says why (exit status 0)"},
		"what came is no packet":                {end{readErr: format, waitErr: status(1), failure: &remote.Failure{Kind: remote.NoShell}}, notPcap(format, false).Error()},
		"what came in the middle is no packet":  {end{opened: true, readErr: format, waitErr: sshx.ErrLost}, format.Error()},
		"what came at the stop is no packet":    {end{opened: true, asked: true, readErr: format, waitErr: sshx.ErrLost}, format.Error()},
		"lost":                                  {end{opened: true, waitErr: sshx.ErrLost, disconnected: true}, sshx.ErrLost.Error()},
		"lost after all that was captured came": {end{opened: true, waitErr: sshx.ErrLost, complete: true, report: known, disconnected: true}, sshx.ErrLost.Error()},
	} {
		got := ""
		if err := tt.verdict(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestNotPcap: what comes in the place of packets is named where that can be, else its words are shown.
func TestNotPcap(t *testing.T) {
	for said, head := range map[string]string{
		"it is pcapng":          "\x0a\x0d\x0d\x0a\x1c\x00\x00\x00",
		"it is an ELF program":  "\x7fELF\x02\x01\x01\x00",
		`stream but "Welcome!"`: "Welcome!\n",
		"version 2.7 is none":   "\xd4\xc3\xb2\xa1\x02\x00\x07\x00" + strings.Repeat("\x00", 16),
	} {
		_, err := merge.NewReader(strings.NewReader(head)).ReadHeader()
		var format *merge.FormatError
		if !errors.As(err, &format) {
			t.Fatal(err)
		}
		if problem := notPcap(format, false); !strings.Contains(problem.Error(), said) || hintOf(problem) == "" {
			t.Errorf("says %q of %q, want %q", problem, head, said)
		}
	}
}

// TestToldInPieces: what the instance tells counts whatever it comes with.
func TestToldInPieces(t *testing.T) {
	log := newStderr(time.Now())
	for _, piece := range []string{"@sshpcap helper /usr/bin/tcpdump\n", "@sshpcap start\n", "tcpdump: ", "@sshpcap watched\n", "listening on lo\n"} {
		log.Write([]byte(piece))
	}
	for name, told := range map[string]chan struct{}{"start": log.introduced, "watched": log.watched} {
		select {
		case <-told:
		default:
			t.Errorf("%s was not taken in", name)
		}
	}
}
