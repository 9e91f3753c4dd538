package remote

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// cfPcapPath is where Cloud Foundry puts its helper into a container.
const cfPcapPath = "/tmp/lifecycle/cf-pcap"

// cfPcap reports whether the helper is Cloud Foundry's.
func (c Command) cfPcap() bool { return isCFPcap(c.Helper) }

func isCFPcap(helper string) bool { return strings.HasPrefix(path.Base(helper), "cf-pcap") }

// maybeCFPcap reports whether the helper is Cloud Foundry's, or may turn out to be.
func (c Command) maybeCFPcap() bool { return c.cfPcap() || c.auto() && c.container() }

// program is the helper's name or path as the instance gets it.
func (c Command) program() string {
	if c.Helper == "cf-pcap" || c.auto() && c.container() {
		return cfPcapPath
	}
	return oneLine(c.Helper)
}

// cfPcapFlags are those between the interface and the filter. It knows flags only, and ignores other words silently.
func (c Command) cfPcapFlags() string {
	if c.Snaplen == 0 {
		return ""
	}
	return fmt.Sprintf("-snaplen %d", c.Snaplen)
}

// cfPcapVerdict is the kind of failure of a cf-pcap that did not end with status 0.
func (e *ending) cfPcapVerdict() Kind {
	switch {
	case e.status == 126:
		return NoHelper // it is there, but not for this platform
	case e.kind == NoPermission:
		return NotEnabled
	case e.kind == NoHelper && e.status != 127:
		return HelperFailed
	case e.kind != 0:
		return e.kind
	case e.status == 127:
		return NoHelper
	case e.status == 2 && !e.panicked():
		return OldHelper // which is how Go's flag package ends a program
	case e.status > 128:
		return Killed
	}
	return HelperFailed
}

// panicked reports whether the helper, a Go program, ended with a panic; its status is then that of a wrong flag.
func (e *ending) panicked() (yes bool) {
	e.kept(func(line string) {
		yes = yes || strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
	})
	return yes
}

// cfPcapTip is the tip for a failure of cf-pcap itself; else "".
func cfPcapTip(k Kind) string {
	switch k {
	case NotEnabled:
		return "the operator has to enable it (diego.rep.enable_cf_pcap); if that was done after this instance started, restart the app; " +
			"if that does not help, the cell's cache is stale and the operator has to recreate the cell"
	case NoHelper:
		return "the platform is too old to have it, or the app was started before it came: restart the app; a tcpdump in the container is taken in its place where it may capture"
	case OldHelper:
		return "the platform's helper is of another version than this program expects; leave out --snaplen"
	case HelperFailed:
		return "try it in the container with `cf ssh`: " + cfPcapPath + " -interface eth0 >/dev/null"
	}
	return ""
}

// cfPcapWords makes of a line of cf-pcap's, which logs as Go's slog does, one as other programs write it:
//
//	time=… level=ERROR msg="failed to set up capture" error="lo9: No such device exists"
//	cf-pcap: lo9: No such device exists
//
// and tells whether it is worth anything. Other lines stay as they are.
func cfPcapWords(line string) (words string, tell bool) {
	if !strings.HasPrefix(line, "time=") {
		return line, true
	}
	var level, message, reason string
	for rest := line; rest != ""; {
		var key, value string
		key, value, rest = slogPair(rest)
		switch key {
		case "level":
			level = value
		case "msg":
			message = value
		case "error", "err":
			reason = value
		}
	}
	switch {
	case level == "INFO" || level == "DEBUG":
		return "", false
	case message == "":
		return line, true
	case reason == "":
		return "cf-pcap: " + message, true
	case message == "failed to set up capture": // says nothing
		return "cf-pcap: " + reason, true
	}
	return "cf-pcap: " + message + ": " + reason, true
}

// slogPair takes the first key=value from a line. A quoted value without an end was cut short.
func slogPair(line string) (key, value, rest string) {
	key, rest, _ = strings.Cut(strings.TrimLeft(line, " "), "=")
	if !strings.HasPrefix(rest, `"`) {
		value, rest, _ = strings.Cut(rest, " ")
		return key, value, rest
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return key, rest[1:], ""
	}
	value, _ = strconv.Unquote(quoted)
	return key, value, rest[len(quoted):]
}
