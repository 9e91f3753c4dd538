package remote

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Nothing is a filter that lets no packet through and fails where the given one does: with it, a [Command] proves
// that it could capture, and captures nothing. It may fail where the given one does not: to "len > 0" the compiler sees
// that nothing is left. So what fails with Nothing has to be tried as it is.
func Nothing(filter string) string {
	switch {
	case filter == "":
		return noLength
	case !balanced(filter):
		return filter // in a pair of its own, it would mean something else
	}
	return "(" + filter + ") and " + noLength
}

// noLength matches packets of no length, of which there are none; compilers do not know that.
const noLength = "less 0"

// AboutLine is a line as [Command.Line] is, of a command that captures nothing: it tells what the instance is and
// has, and ends. Its standard output is for [ReadAbout], its standard error for a [Log], which learns the clock, the user
// and the helper that Line would use. The end of its standard input ends it.
func (c Command) AboutLine() string {
	c.MaxTime = 0 // it is about the capture
	text := strings.NewReplacer("<LOOK>", c.findHelper()).Replace(aboutText)
	return shellLine(c.shell(), joinScript(text), c.stopScript(), "", "", c.program())
}

// aboutText runs the helper, which may be anything, as it is run for a capture, so that it can be stopped. Each part of
// what is told begins with a line of ours; the rest is as the programs and the kernel write it. The network interfaces
// of this process are in /proc/net/dev, which says no more than their names; /sys may show those of another namespace.
// That the helper ends by itself is no news here.
const aboutText = introText + findText + `
asked=1
say "connection $SSH_CONNECTION"
[ "$h" ] && say "helper $h"
say start
part() { printf "` + marker + `%s\n" "$1"; }
part system
uname -srm 2>/dev/null
part version
case ${h##*/} in
	cf-pcap*|"") ;;
	*) [ -x "$h" ] && ( set -- "$h" --version; eval "$w" ) 2>&1 ;;
esac
part link
ip -o link 2>/dev/null
part addr
ip -o addr 2>/dev/null
part dev
[ -r /proc/net/dev ] && while read -r l; do
	printf "%s\n" "$l"
done </proc/net/dev
part list
[ -r /proc/net/dev ] || [ ! -x "$h" ] || ( set -- "$h" -D; eval "$w" ) 2>/dev/null
part end
exit 0
`

// Bounds of what is kept of what an instance tells.
const (
	MaxAbout      = 1 << 20 // bytes of it
	maxInterfaces = 1024
	maxAddresses  = 64 // of one interface
)

// About is what an instance tells about itself.
type About struct {
	System     string      // its kernel, such as "Linux 6.1.0 x86_64"; "" where not told
	Version    string      // of the helper; "" where not told
	Interfaces []Interface // its network interfaces, in its own order
	Complete   bool        // it told all, up to its end
}

// HasAny reports whether its system has an interface "any", as far as is known: Linux has, macOS in recent versions.
func (a About) HasAny() bool {
	system, _, _ := strings.Cut(a.System, " ")
	return system == "" || system == "Linux" || system == "Darwin"
}

// Interface is a network interface of an instance.
type Interface struct {
	Name      string
	State     string // "up", "down" or, where not told, ""
	Addresses []netip.Prefix
}

// ReadAbout reads what an [Command.AboutLine] wrote to its standard output. It understands what it can, of whatever it
// is given.
func ReadAbout(text string) About {
	var a About
	part := ""
	text = text[:min(len(text), MaxAbout)]
	devices := deviceNames(text)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, marker); ok {
			part = name
			a.Complete = a.Complete || name == "end"
			continue
		}
		a.take(part, line, devices)
	}
	return a
}

// deviceNames returns the network interfaces that the kernel names by themselves: elsewhere the name of another end may stand
// behind an "@", which a name may have, too.
func deviceNames(text string) map[string]bool {
	names := make(map[string]bool)
	_, text, _ = strings.Cut(text, marker+"dev\n")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, marker) || len(names) == maxInterfaces {
			break
		}
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			names[name] = true
		}
	}
	return names
}

// ownName returns the name of an interface without that of its other end: the longest one that the kernel knows.
func ownName(name string, devices map[string]bool) string {
	for own := name; own != ""; own = own[:max(strings.LastIndexByte(own, '@'), 0)] {
		if devices[own] {
			return own
		}
	}
	own, _, _ := strings.Cut(name, "@")
	return own
}

func (a *About) take(part, line string, devices map[string]bool) {
	fields := strings.Fields(line)
	switch {
	case len(fields) == 0:
	case part == "system" && a.System == "":
		a.System = Clean(line)
	case part == "version" && a.Version == "":
		a.Version = version(line)
	case part == "link" && len(fields) > 2: // 2: eth0@if5: <BROADCAST,UP> …
		if i := a.named(ownName(strings.TrimSuffix(fields[1], ":"), devices)); i != nil {
			i.State = linkState(fields[2])
		}
	case part == "addr" && len(fields) > 3 && strings.HasPrefix(fields[2], "inet"): // 2: eth0 inet 10.0.0.1/24 …
		a.address(ownName(fields[1], devices), fields[3])
	case part == "dev" && strings.Contains(line, ":"): // eth0: 123 …
		name, _, _ := strings.Cut(line, ":")
		a.named(name)
	case part == "list": // tcpdump: 1.eth0 [Up, Running], dumpcap: 1. eth0
		if m := listed.FindStringSubmatch(line); m != nil {
			if i := a.named(m[1]); i != nil && m[2] != "" {
				i.State = linkState(m[2])
			}
		}
	}
}

var listed = regexp.MustCompile(`^\d+\. ?([^ ]+)(?: \[(.*)\])?`)

// linkState finds the flag UP among <BROADCAST,UP> or "Up, Running".
func linkState(flags string) string {
	for flag := range strings.FieldsFuncSeq(flags, func(r rune) bool { return strings.ContainsRune("<>, ", r) }) {
		if strings.EqualFold(flag, "up") {
			return "up"
		}
	}
	return "down"
}

// named is the interface of that name, which is added when it is not there; nil when there is no room.
func (a *About) named(name string) *Interface {
	name = Clean(name)
	for i := range a.Interfaces {
		if a.Interfaces[i].Name == name {
			return &a.Interfaces[i]
		}
	}
	if name == "" || len(a.Interfaces) == maxInterfaces {
		return nil
	}
	a.Interfaces = append(a.Interfaces, Interface{Name: name})
	return &a.Interfaces[len(a.Interfaces)-1]
}

func (a *About) address(name, text string) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text) // the near end of a tunnel has no prefix
		if err != nil {
			return
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if i := a.named(name); i != nil && len(i.Addresses) < maxAddresses {
		i.Addresses = append(i.Addresses, prefix)
	}
}

var versionNumber = regexp.MustCompile(`\d+(\.\d+)+[0-9A-Za-z.+~-]*`)

// version takes the number out of a line such as "tcpdump version 4.99.3"; "" where there is none.
func version(line string) string { return Clean(versionNumber.FindString(line)) }

// BulkLine is a line of a command that writes so many blocks of [BulkBlock] bytes to its standard output and ends: what
// the throughput of a link is measured with. Where the instance lacks the program for it, nothing comes.
func (c Command) BulkLine(blocks int) string {
	script := fmt.Sprintf("PATH=$PATH:/usr/bin:/bin; exec dd if=/dev/zero bs=%d count=%d 2>/dev/null", BulkBlock, blocks)
	return shellLine(c.shell(), script)
}

// BulkBlock is what an SSH packet holds.
const BulkBlock = 32 << 10
