package sshx

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Target is a target as it was written: parts that were left out are zero.
type Target struct {
	User string
	Host string // a name of ssh_config, a DNS name or an address without brackets
	Port int    // 0 when none was given
}

// String writes the target so that ParseTarget gives it back.
func (t Target) String() string {
	s := t.Host
	if strings.Contains(s, ":") {
		s = "[" + s + "]"
	}
	if t.Port != 0 {
		s += ":" + strconv.Itoa(t.Port)
	}
	if t.User != "" {
		s = t.User + "@" + s
	}
	return s
}

// ParseTarget reads "[ssh://][user@]host[:port]". An IPv6 address stands in brackets; one without them, and without a
// port, is understood too. In the ssh:// form the user and the host may be percent-encoded, as ssh(1) has it.
func ParseTarget(s string) (Target, error) {
	rest, isURL := s, false
	if len(s) >= 6 && strings.EqualFold(s[:6], "ssh://") {
		rest, isURL = strings.TrimSuffix(s[6:], "/"), true
	}
	var t Target
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		t.User, rest = rest[:i], rest[i+1:]
		if t.User == "" {
			return Target{}, targetError(s, "no user name before the @")
		}
	}
	host, port, err := splitHostPort(rest)
	if err != nil {
		return Target{}, targetError(s, err.Error())
	}
	t.Host, t.Port = host, port
	if isURL && !t.unescape() {
		return Target{}, targetError(s, "wrong %-encoding")
	}
	if why := t.wrong(); why != "" {
		return Target{}, targetError(s, why)
	}
	return t, nil
}

func (t *Target) unescape() bool {
	user, err := url.PathUnescape(t.User)
	if err != nil {
		return false
	}
	host, err := url.PathUnescape(t.Host)
	if err != nil {
		return false
	}
	t.User, t.Host = user, host
	return true
}

// wrong says what no user or host may hold. Nothing of it reaches a shell of ours, but it is printed, matched against
// patterns and written to known_hosts; and a leading dash is most often a flag in the wrong place.
func (t *Target) wrong() string {
	switch {
	case t.Host == "":
		return "no host name"
	case strings.HasPrefix(t.Host, "-"), strings.HasPrefix(t.User, "-"):
		return "a name cannot start with a dash"
	case strings.ContainsFunc(t.User, notInUser):
		return "the user name has a character that cannot be in one"
	case strings.ContainsFunc(t.Host, notInHost):
		return "the host name has a character that cannot be in one"
	}
	return ""
}

func notInUser(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune("'`\";&<>|(){}", r) || r == 0xfffd
}

func notInHost(r rune) bool { return notInUser(r) || strings.ContainsRune("/\\@,*?!#$^[]", r) }

// splitHostPort takes "host", "host:port", "[address]", "[address]:port" and a bare IPv6 address.
func splitHostPort(s string) (host string, port int, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, fmt.Errorf("no closing bracket")
		}
		host, rest := s[1:end], s[end+1:]
		if rest == "" {
			return host, 0, nil
		}
		if rest[0] != ':' {
			return "", 0, fmt.Errorf("after the bracket only :PORT may follow")
		}
		port, err = parsePort(rest[1:])
		return host, port, err
	}
	switch strings.Count(s, ":") {
	case 0:
		return s, 0, nil
	case 1:
		host, digits, _ := strings.Cut(s, ":")
		port, err = parsePort(digits)
		return host, port, err
	}
	if _, err := netip.ParseAddr(s); err != nil {
		return "", 0, fmt.Errorf("more than one colon; an IPv6 address goes in brackets")
	}
	return s, 0, nil
}

func parsePort(s string) (int, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
		}
	}
	port, err := strconv.Atoi(s)
	if err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return port, nil
}

func targetError(target, why string) error {
	return &Error{Kind: KindTarget, Problem: fmt.Sprintf("%q is not a target: %s", target, why),
		Tip: "a target is [ssh://][USER@]HOST[:PORT]; an IPv6 address goes in brackets: [2001:db8::1]:22"}
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
