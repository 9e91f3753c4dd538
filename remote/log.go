package remote

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxLine is how much of one line is looked at, in bytes. A filter is the
// longest thing that a helper repeats.
const maxLine = 8 << 10

// Log reads the standard error of a [Command], as an io.Writer, and keeps
// what it says in bounded memory, however much comes. It may be asked at any
// time, also while it is being written. The zero value is ready.
type Log struct {
	Container bool // the instance is a container of Cloud Foundry's, which hints go by; set before the first Write

	mu   sync.Mutex
	line []byte // under way, at most maxLine
	seen seen
}

// Report is what an instance told about its capture.
type Report struct {
	Captured  uint64 // packets that the helper wrote
	Filtered  uint64 // packets that the filter let through, dropped ones included
	Dropped   uint64 // of these, lost by the kernel or the helper for want of room
	IfDropped uint64 // packets that the network interface lost
	Known     bool   // the numbers are those of the helper's closing report

	Clock      time.Time     // the instance's, when the script began or last answered a ClockQuestion; zero where not told
	Helper     string        // path on the instance; "" where none was found
	Host       string        // the same for all that share a kernel and its network; "" where not told. Clones may share it, too
	Up         time.Duration // how long the kernel had run when it told Host; 0 where not told
	Connection string        // $SSH_CONNECTION as the instance saw it; "" where not set
	SelfFilter string        // the expression that is excluded; "" if none
	UID        int           // of the login user; -1 where not told
	Sudo       bool          // the helper was started with sudo, or with doas where there is no sudo
	Started    bool          // the helper was about to be started
	Unasked    bool          // the helper ended before its input did: by itself, by something on the instance, or with the exit status Unheard or TimeUp
	Watched    bool          // what ends the helper is there, and counts
	Listening  string        // the helper's words on where it captures, e.g. "eth0, link-type EN10MB (Ethernet), ..."
}

// Counts reports whether the helper is of a kind that ends with a report, if it may end by itself.
func (r Report) Counts() bool { return !isCFPcap(r.Helper) }

// Write never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			l.add(p)
			return n, nil
		}
		l.add(p[:i])
		l.endLine()
		p = p[i+1:]
	}
}

// endLine takes a line that is whole. Helpers write theirs piece by piece, and a line of ours may stand in the middle of
// one: the rest is still to come, if it comes.
func (l *Log) endLine() {
	line := string(l.line)
	at := strings.Index(line, marker)
	if at < 0 || !l.seen.Started || !comesLater(line[at+len(marker):]) {
		at = 0
	}
	l.seen.take(line[at:])
	l.line = l.line[:at]
}

func (l *Log) add(p []byte) {
	l.line = append(l.line, p[:min(len(p), maxLine-len(l.line))]...)
}

// now is what was seen, a last line without its end included.
func (l *Log) now() seen {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *l.ahead()
}

// ahead is what has been seen when the line that is not whole counts as one.
func (l *Log) ahead() *seen {
	s := l.seen
	s.take(string(l.line))
	return &s
}

// Report is what has been told so far.
func (l *Log) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) == 0 { // mostly: nothing of a line is there that is not whole
		return l.seen.report()
	}
	return l.ahead().report()
}

// Clock returns how many times the instance has told what its clock shows, and the last of these times: the first when
// its script begins, and one for each [ClockQuestion]. They are whole lines only.
func (l *Log) Clock() (n int, shows time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.clocks, l.seen.Clock
}

// seen is a value, so that a copy of it can look ahead.
type seen struct {
	Report
	uidKnown bool
	noHelper bool
	doas     bool   // in the place of sudo
	doasFile string // what sets doas up
	user     string // the login user's name
	shell    string // the path of sh, for who is to be allowed it
	changed  bool   // the script was changed on its way, and did not run
	clocks   int
	last     string // the last line that is no report

	// The first and the latest lines after the start that are no report. What
	// they mean is looked up only when somebody asks: a flood costs little.
	head  [16]string
	tail  [16]string
	lines int
}

func (s *seen) report() Report {
	r := s.Report
	if !s.uidKnown {
		r.UID = -1
	}
	return r
}

// maxKept is how much is kept of a line that may explain a failure.
const maxKept = 1 << 10

func (s *seen) take(line string) {
	line = strings.TrimSpace(line)
	if line == "" {
		return
	}
	if rest, ok := strings.CutPrefix(line, marker); ok && (!s.Started || comesLater(rest)) {
		s.mark(rest)
		return
	}
	if s.Started && isCFPcap(s.Helper) {
		var tell bool
		if line, tell = cfPcapWords(line); !tell {
			return
		}
	} else if s.Started && (s.count(line) || s.chatter(line)) {
		return
	}
	s.last = strings.Clone(line[:min(len(line), maxKept)])
	if s.Started {
		s.keep(s.last)
	}
}

func (s *seen) keep(line string) {
	if s.lines < len(s.head) {
		s.head[s.lines] = line
	} else {
		s.tail[s.lines%len(s.tail)] = line
	}
	s.lines++
}

// kept calls f with the lines that are kept, in their order.
func (s *seen) kept(f func(line string)) {
	for i := range min(s.lines, len(s.head)) {
		f(s.head[i])
	}
	for i := max(len(s.head), s.lines-len(s.tail)); i < s.lines; i++ {
		f(s.tail[i%len(s.tail)])
	}
}

// mark takes a line of our own script.
func (s *seen) mark(line string) {
	word, rest, _ := strings.Cut(line, " ")
	rest = Clean(rest)
	switch word {
	case "clock":
		s.Clock = clock(rest)
		s.clocks++
	case "uid":
		uid, err := strconv.Atoi(rest)
		s.UID, s.uidKnown = uid, err == nil && uid >= 0
	case "host":
		s.host(strings.Fields(rest))
	case "connection":
		s.Connection = rest
	case "self":
		s.SelfFilter = rest
	case "helper":
		s.Helper = rest
	case "nohelper":
		s.noHelper = true
	case "watched":
		s.Watched = s.Started
	case "unasked":
		s.Unasked = s.Started
	case "changed":
		s.changed = true
	case "start":
		s.doas = rest == "doas"
		s.Started, s.Sudo = true, rest == "sudo" || s.doas
	case "doas":
		s.doasFile = rest
	case "user":
		s.user = rest
	case "shell":
		s.shell = rest
	}
}

// host takes a boot ID, a network namespace and for how long the kernel has run, in seconds, if that was told.
func (s *seen) host(words []string) {
	if len(words) < 2 || len(words) > 3 || !strings.HasPrefix(words[1], "net") {
		return // one of them could not be read
	}
	s.Host, s.Up = words[0]+" "+words[1], 0
	if len(words) == 3 {
		seconds, err := strconv.ParseFloat(words[2], 64)
		if err == nil && seconds > 0 && seconds < mostUp {
			s.Up = time.Duration(seconds * float64(time.Second))
		}
	}
}

// mostUp is more than any kernel runs, in seconds, and fits a duration.
const mostUp = 1 << 32

// comesLater reports whether a line of ours is one that comes also while the helper runs, or after it.
func comesLater(line string) bool {
	word, _, _ := strings.Cut(line, " ")
	return word == "clock" || word == "unasked" || word == "watched"
}

// clock reads seconds since the epoch with a fraction, as date +%s.%N writes them. A date that does not know %N gives
// whole seconds, of which the middle is taken.
func clock(text string) time.Time {
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 48)
	if err != nil || seconds <= 0 {
		return time.Time{}
	}
	nanoseconds, err := strconv.ParseInt(fraction, 10, 64)
	if err != nil || len(fraction) != 9 || nanoseconds < 0 {
		nanoseconds = int64(time.Second / 2)
	}
	return time.Unix(seconds, nanoseconds)
}

var (
	// tcpdump's closing report has a line for each, its answer to USR1 has
	// all in one line; "packet" in the singular.
	tcpdumpCount = regexp.MustCompile(`(\d+) packets? (captured|received by filter|dropped by kernel|dropped by interface)`)
	// dumpcap's names the interface, which may hold anything.
	dumpcapCount = regexp.MustCompile(`^Packets received/dropped on interface .*: (\d+)/(\d+) \(pcap:`)
	dumpcapAll   = regexp.MustCompile(`^Packets captured: (\d+)`)
)

// count takes a line of a report and reports whether it was one.
func (s *seen) count(line string) bool {
	if !strings.Contains(line, "acket") { // cheaper than the expressions
		return false
	}
	if m := dumpcapAll.FindStringSubmatch(line); m != nil {
		s.Captured = number(m[1])
		return true
	}
	if m := dumpcapCount.FindStringSubmatch(line); m != nil {
		s.Dropped = number(m[2])
		s.Filtered = number(m[1]) + s.Dropped
		s.Known = true
		return true
	}
	all := tcpdumpCount.FindAllStringSubmatch(line, 4)
	for _, m := range all {
		switch n := number(m[1]); m[2] {
		case "captured":
			s.Captured = n
		case "received by filter":
			s.Filtered = n
		case "dropped by kernel":
			s.Dropped = n
			s.Known = s.Known || len(all) == 1
		case "dropped by interface":
			s.IfDropped = n
		}
	}
	return all != nil
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // the largest where it is too large
	return n
}

// chatter takes what helpers say when all is well.
func (s *seen) chatter(line string) bool {
	_, text, ok := strings.Cut(line, "listening on ")
	if !ok {
		text, ok = strings.CutPrefix(line, "Capturing on ")
	}
	if ok {
		s.Listening = Clean(text)
		return true
	}
	for _, p := range []string{"File: -", "tcpdump: data link type ", "tcpdump: verbose output suppressed", "dropped privs to "} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}
