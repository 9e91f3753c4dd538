package remote

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Kind is what sort of failure it was.
type Kind int

const (
	HelperFailed  Kind = iota + 1 // the helper failed, in its own words
	NoPermission                  // the login user may not capture; sudo may help
	NoInterface                   // no such interface
	InterfaceDown                 // the interface is not up
	InterfaceGone                 // the interface went away during the capture
	BadFilter                     // the filter is wrong, or cannot be used on this interface
	BadSnaplen                    // the helper takes no snaplen of this size
	OldHelper                     // the helper does not know a flag of ours
	NoHelper                      // no capture program was found, or not the one asked for
	NoSudo                        // sudo is not installed
	SudoPassword                  // sudo wants a password
	SudoTTY                       // sudo wants a terminal
	SudoRefused                   // the user may not do this with sudo
	NoShell                       // the login shell did not run the command
	Killed                        // a signal ended the helper
	NoProcess                     // what would end the helper on the instance does not run
	NotEnabled                    // cf-pcap may not capture: its platform has not allowed it
)

var kindNames = [...]string{
	HelperFailed: "helper failed", NoPermission: "no permission", NoInterface: "no interface",
	InterfaceDown: "interface down", InterfaceGone: "interface gone", BadFilter: "bad filter",
	BadSnaplen: "bad snaplen", OldHelper: "old helper", NoHelper: "no helper", NoSudo: "no sudo",
	SudoPassword: "sudo password", SudoTTY: "sudo tty", SudoRefused: "sudo refused",
	NoShell: "no shell", Killed: "killed", NoProcess: "no process", NotEnabled: "not enabled",
}

func (k Kind) String() string {
	if k < 1 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// Failure is why a capture failed, for people: one line that says what is
// wrong and one that says what to do.
type Failure struct {
	Kind    Kind
	Problem string
	Tip     string
	Refused Extra // what it may have been for; 0 where it was nothing of ours
	helper  string
}

func (f *Failure) Error() string { return f.Problem }

// Hint is the tip.
func (f *Failure) Hint() string { return f.Tip }

// Failure is what went wrong, nil when nothing did. The exit status is the
// command's; negative where none came. dumpcap ends with 0 also when its
// interface went away; that is a failure all the same. A status that stands for a signal is
// no failure once the helper has closed its capture with a report.
func (l *Log) Failure(exitStatus int) *Failure {
	s := l.now()
	e := ending{seen: &s, reason: s.reason(), container: l.Container, status: exitStatus}
	k := e.verdict()
	if k == 0 {
		return nil
	}
	f := &Failure{Kind: k, Problem: e.problem(k), Tip: e.tip(k), helper: e.name()}
	if k == HelperFailed || k == BadFilter || k == NoInterface {
		f.Refused = s.refusal()
	}
	return f
}

// ending is all that is known when a command has ended.
type ending struct {
	*seen
	reason
	container bool
	status    int
}

// verdict is the kind of failure, 0 for none.
func (e *ending) verdict() Kind {
	switch {
	case e.status == 0 && e.kind != InterfaceGone, e.status < 0 && e.kind == 0, e.status > 128 && e.Known && e.kind == 0:
		return 0
	case e.noHelper:
		return NoHelper
	case !e.Started:
		return NoShell
	case e.status == Unwatched:
		return NoProcess
	case isCFPcap(e.Helper):
		return e.cfPcapVerdict()
	case e.kind == NoHelper && e.status != 127:
		return HelperFailed
	case e.kind != 0:
		return e.kind
	case e.status > 128:
		return Killed
	}
	return HelperFailed
}

// problem is what is wrong, in one line.
func (e *ending) problem(k Kind) string {
	name := e.name()
	switch k {
	case NoPermission, NotEnabled:
		return fmt.Sprintf("%s has no permission to capture: %s", name, e.words)
	case NoInterface:
		return "the instance has no such interface: " + e.words
	case InterfaceDown:
		return "the interface is not up: " + e.words
	case InterfaceGone:
		return "the interface disappeared during the capture"
	case BadFilter:
		return fmt.Sprintf("%s does not accept the filter: %s", name, filterWords(e.words))
	case BadSnaplen:
		return fmt.Sprintf("%s does not accept the snaplen: %s", name, e.words)
	case OldHelper:
		if isCFPcap(e.Helper) {
			return fmt.Sprintf("%s does not know the flags used here: %s", name, cmp.Or(e.words, e.lastWords()))
		}
		return fmt.Sprintf("%s is too old: %s", name, e.words)
	case NoHelper:
		if e.status == 126 {
			_, why, _ := strings.Cut(e.last, e.Helper+": ") // what comes before is the shell's
			return fmt.Sprintf("%s cannot be run on the instance: %s", e.Helper, cmp.Or(Clean(why), e.lastWords()))
		}
		if e.Helper != "" {
			return "there is no " + e.Helper + " on the instance"
		}
		return "no capture program was found on the instance"
	case NoSudo:
		return "sudo is not installed on the instance"
	case SudoPassword:
		return e.sudo() + " asks for a password on the instance"
	case SudoTTY:
		return "sudo asks for a terminal on the instance (requiretty)"
	case SudoRefused:
		return e.sudo() + " refuses: " + e.words
	case NoShell:
		if e.changed {
			return "what was to run on the instance was changed on its way to sh, and did not run"
		}
		if e.container {
			return "the container's shell did not run the command: " + e.lastWords()
		}
		return fmt.Sprintf("the login shell did not run the command: %s", e.lastWords())
	case NoProcess:
		if e.Watched {
			return fmt.Sprintf("%s was ended on the instance, since the processes that watch over it were gone", name)
		}
		return fmt.Sprintf("%s was not left running: the processes that end it could not be started on the instance", name)
	case Killed:
		return fmt.Sprintf("%s was killed by %s", name, signalName(e.status-128))
	}
	return fmt.Sprintf("%s failed: %s", name, e.lastWords())
}

// tip is what to do, in one line.
func (e *ending) tip(k Kind) string {
	if e.container || isCFPcap(e.Helper) {
		if tip := e.containerTip(k); tip != "" {
			return tip
		}
	}
	switch k {
	case NoPermission:
		return e.permissionTip()
	case NoInterface:
		if noAny.MatchString(e.words) {
			return "only Linux and recent versions of macOS have an interface any: see the names with `" + e.path() + " -D` on the instance and pass one or several to --interface"
		}
		return "see the names with `ip link` on the instance and pass one to --interface, or use --interface any"
	case InterfaceDown:
		return "bring it up with `sudo ip link set NAME up` on the instance, or use --interface any"
	case InterfaceGone:
		return "what was captured until then is kept; --interface any outlives single interfaces"
	case BadFilter:
		return filterTip(e.words)
	case BadSnaplen:
		return fmt.Sprintf("use --snaplen with 1 to %d, or 0 for whole packets", maxSnaplen)
	case OldHelper:
		return "tcpdump 4.6 (2014) with libpcap 1.5 or newer is needed; use --helper for another one, or --helper dumpcap"
	case NoHelper:
		return "install tcpdump on the instance, or name the program with --helper PATH"
	case NoSudo:
		return "log in as a user who may capture, or use --sudo never and allow it with: " + e.setcap()
	case SudoPassword, SudoTTY, SudoRefused:
		return e.sudoTip(k)
	case NoShell:
		if e.changed {
			return "the login shell, or what is run in its place (ForceCommand), must pass on commands as they are: give the user another login shell, or use another user with --login"
		}
		return "the user needs a login shell that runs commands: try `ssh HOST true`, or another user with --login"
	case NoProcess:
		return "there may be no room for more processes: see `ulimit -u` and the tasks of the user's slice or of the container (pids.max)"
	case Killed:
		return "look on the instance for who ended it, e.g. `dmesg` for a lack of memory"
	}
	return "try it on the instance: " + e.path() + " -i any -c 1 -w /dev/null"
}

// noAny are the words where there is no interface "any".
var noAny = regexp.MustCompile(`\bany\b`)

func (s *seen) permissionTip() string {
	if s.Sudo || s.UID == 0 && s.uidKnown {
		return "root is not enough here: the instance (a container?) needs the capability CAP_NET_RAW"
	}
	return "use --sudo auto or --sudo always, or allow it on the instance with: " + s.setcap()
}

// sudo is the program that gives rights.
func (s *seen) sudo() string {
	if s.doas {
		return "doas"
	}
	return "sudo"
}

// sudoTip has the line that allows it, for this user on this instance. It is sh that has to be allowed, not the helper
// alone: what ends a helper again, also a quiet one, needs its rights.
func (e *ending) sudoTip(k Kind) string {
	user, shell := e.user, e.shell
	if !plainUser.MatchString(user) {
		user = "USER"
	}
	if !strings.HasPrefix(shell, "/") || !plainPath.MatchString(shell) {
		shell = "/bin/sh"
	}
	line := "sudoers (visudo) the line: " + user + " ALL=(root) NOPASSWD: " + shell
	if e.doas {
		line = e.doasConf() + " the line: permit nopass " + user + " as root cmd sh"
	} else if k == SudoTTY {
		line = "sudoers (visudo) the line: Defaults:" + user + " !requiretty"
	}
	return "the capture program alone is not enough, since what ends it needs its rights: allow sh, by adding to " + line +
		" - or use --sudo never and allow capturing with: " + e.setcap()
}

// doasConf is where a line for doas belongs.
func (s *seen) doasConf() string {
	switch {
	case !strings.HasPrefix(s.doasFile, "/") || !plainPath.MatchString(s.doasFile):
		return "doas.conf"
	case strings.HasSuffix(s.doasFile, ".d"):
		return "a file *.conf in " + s.doasFile
	}
	return s.doasFile
}

var plainUser = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

func (s *seen) setcap() string {
	return "sudo setcap cap_net_raw,cap_net_admin=eip " + s.path()
}

// path is that of the helper, for a command to show: a word of a shell, whatever the instance says it is.
func (s *seen) path() string {
	switch {
	case s.Helper == "":
		return "/usr/bin/tcpdump"
	case plainPath.MatchString(s.Helper):
		return s.Helper
	}
	return Quote(s.Helper)
}

var plainPath = regexp.MustCompile(`^[\w./+-]+$`)

// name is that of the helper.
func (s *seen) name() string {
	if s.Helper == "" {
		return "the capture program"
	}
	return path.Base(s.Helper)
}

func (e *ending) lastWords() string {
	if e.last == "" {
		return fmt.Sprintf("exit status %d, without a word", e.status)
	}
	return fmt.Sprintf("%s (exit status %d)", Clean(afterName(e.last)), e.status)
}

// filterWords leaves of tcpdump's words what is not said already.
func filterWords(words string) string {
	for _, p := range []string{"failed to set BPF filter: ", "can't parse filter expression: ", "syntax error in filter expression: "} {
		words = strings.TrimPrefix(words, p)
	}
	if words == "" {
		return "it is not valid"
	}
	return words
}

func filterTip(words string) string {
	switch {
	case strings.Contains(words, "unknown host"), strings.Contains(words, "unknown network"):
		return "names are looked up on the instance: use an address with --filter"
	case strings.Contains(words, "filtering not implemented"), strings.Contains(words, "unknown data link type"):
		return "this interface takes no such filter: leave --filter out"
	case strings.Contains(words, "support"), strings.Contains(words, "not present"):
		return "this interface's link type cannot do that: name another with --interface, any is not Ethernet"
	case strings.Contains(words, "rejects all"):
		return "no packet can match the filter: change --filter"
	}
	return "see `man pcap-filter`, and check --filter with `tcpdump -d EXPR`"
}

var signalNames = map[int]string{1: "HUP", 2: "INT", 3: "QUIT", 6: "ABRT", 9: "KILL", 11: "SEGV", 13: "PIPE", 15: "TERM"}

func signalName(n int) string {
	if name, ok := signalNames[n]; ok {
		return "signal " + name
	}
	return fmt.Sprintf("signal %d", n)
}
