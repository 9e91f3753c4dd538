package remote

import (
	"regexp"
	"strings"
)

// reason is what a failure means, and the words that say so.
type reason struct {
	kind  Kind // 0 when nothing explains it
	words string
}

// reason is that of the first line that explains a failure.
func (s *seen) reason() (r reason) {
	s.kept(r.add)
	return r
}

func (r *reason) add(line string) {
	switch {
	case r.kind == BadFilter && r.words == "":
		// dumpcap's first line repeats the filter, its second says what is wrong.
		r.words = dumpcapReason(line)
	case r.kind != 0:
	case strings.Contains(line, "Invalid capture filter "):
		r.kind = BadFilter
	default:
		r.kind = kindOf(line)
		r.words = Clean(afterName(line))
	}
}

// dumpcapReason takes the reason out of its brackets.
func dumpcapReason(line string) string {
	_, in, ok := strings.Cut(line, "capture filter (")
	if !ok {
		return ""
	}
	if i := strings.LastIndexByte(in, ')'); i >= 0 {
		in = in[:i]
	}
	return Clean(in)
}

// afterName drops the program's name that begins a line: "tcpdump: ".
func afterName(line string) string {
	name, rest, ok := strings.Cut(line, ": ")
	if ok && !strings.ContainsAny(name, " '\"") {
		return rest
	}
	return line
}

// rules tell a line's meaning; the first that matches does. They are the
// words of tcpdump 4.9 to 4.99, libpcap 1.5 to 1.10, dumpcap 1.12 to 4.4 and
// sudo 1.8 to 1.9, and those of sudo-rs.
var rules = []struct {
	kind  Kind
	words *regexp.Regexp
}{
	{SudoPassword, regexp.MustCompile(`^doas: Authentication required`)},
	{SudoRefused, regexp.MustCompile(`^doas: `)},
	{NoProcess, regexp.MustCompile(`(?i)(cannot|can't) fork\b|\bfork: |cannot make a child process`)},
	{NoSudo, regexp.MustCompile(`\bsudo: (command )?not found`)},
	{SudoTTY, regexp.MustCompile(`^sudo: .*must have a tty`)},
	{SudoPassword, regexp.MustCompile(`^sudo: .*(password is required|authentication is required|is required to (read the password|authenticate)|no tty present)`)},
	{SudoRefused, regexp.MustCompile(`(?i)not in the sudoers file|may not run sudo|is not allowed to (execute|run)|^sudo: .*(setuid|no new privileges|effective uid|account|sudoers|I'm sorry)`)},
	{BadFilter, regexp.MustCompile(`^[^ ]+: (can't parse filter|syntax error|parse error|unknown (host|network|ether|port|protocol|FDDI|token|802|Fibre|ip proto|osi proto)|illegal (qualifier|port number|link layer|char)|invalid (qualifier|ip6|IPv4)|expression rejects|ethernet addresses supported|[Nn]o (VLAN|MPLS) support|.*(supported only|only supported|not supported (on|for|with|over|in)|information not present|applicable)|too many registers|unsupported (index|proto)|unterminated|Mask syntax|non-network bits|.*is (neither|not) .*(proto|host|valid)|filter is too complex|only link-layer|.*filtering not implemented|unknown data link type)|failed to set BPF filter`)},
	{BadSnaplen, regexp.MustCompile(`(invalid|illegal) snaplen|snapshot length "`)},
	{OldHelper, regexp.MustCompile(`(unrecognized|invalid|illegal|unknown) option|flag provided but not defined|unsupported time stamp precision`)},
	{HelperFailed, regexp.MustCompile(`Couldn't (change to|find user)`)},
	{NoInterface, regexp.MustCompile(`No such device|Device not configured|no device named|Invalid adapter index|no such interface`)},
	{InterfaceGone, regexp.MustCompile(`(interface|device) disappeared|no longer (attached|running)`)},
	{InterfaceDown, regexp.MustCompile(`is not up\b|Network is down|interface went down`)},
	{NoPermission, regexp.MustCompile(`You (don't|do not) have permission|Operation not permitted|Permission denied|CAP_NET_RAW may be required`)},
	{NoHelper, regexp.MustCompile(`: not found$|: No such file or directory$|: command not found$`)},
}

func kindOf(line string) Kind {
	for _, r := range rules {
		if r.words.MatchString(line) {
			return r.kind
		}
	}
	return 0
}
