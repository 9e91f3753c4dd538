package remote

import "strings"

// container reports whether the instance is a container of Cloud Foundry's, as far as the command tells.
func (c Command) container() bool { return c.cfPcap() || c.SelfFilter != "" }

// shell is what runs the script. A container's PATH may hold nothing.
func (c Command) shell() string {
	if c.container() {
		return "/bin/sh"
	}
	return "sh"
}

// containerTip is what to do in a container, where that is something else than on a host; else "".
func (e *ending) containerTip(k Kind) string {
	if isCFPcap(e.Helper) {
		if tip := cfPcapTip(k); tip != "" {
			return tip
		}
	}
	switch k {
	case NoPermission:
		return "programs in a container may not capture as a rule: leave --helper out, and the platform's cf-pcap is taken"
	case NoInterface, InterfaceDown:
		return "a container has lo and eth0: pass one of these to --interface"
	case InterfaceGone:
		return "what was captured until then is kept"
	case OldHelper:
		return "leave --helper out, and the platform's cf-pcap is taken where " + e.name() + " is too old"
	case NoHelper:
		return "leave --helper out: then tcpdump is taken where the container has one that may capture, else the platform's cf-pcap"
	case NoSudo, SudoPassword, SudoTTY, SudoRefused:
		return "sudo is of no use in a container: leave --sudo out"
	case NoShell:
		return "the container needs a /bin/sh that runs commands: try `cf ssh APP -c true`"
	case Killed:
		return "see `cf app` and `cf events` for what ended it: a container that runs out of memory ends programs, too"
	case HelperFailed:
		return "try it in the container with `cf ssh`: " + e.path() + " -i eth0 -c 1 -w /dev/null"
	}
	return ""
}

// The parts of stopText for containers. What differs:
//
// An old cf-pcap that was asked to end with INT hangs until the next packet that passes its filter, and TERM ends it
// with nothing lost; hence TERM soon after INT, but time enough before KILL for what a slow link still has to take.
//
// The SSH server signals only the shell, and nobody may come to end its input: the shell itself insists.
//
// A container may have a shell and no other program. So sleep may not exist, or know no fractions of a second.
const (
	// bareText sets $q, the pause between signals. Where there is no sleep, $n is set, and a function takes its place,
	// which watches the clock that the kernel shows in hundredths of a second, one of which has begun already: only for short pauses. Its argument has no
	// whole seconds, except for 0. A subshell has the shell see which of its children have ended.
	bareText = `
n= q=.50 j=0
sleep .01 2>/dev/null || { q=1; sleep 0 2>/dev/null; } || {
	n=1 q=.50
	sleep() {
		(:)
		read -r a b </proc/uptime || return
		a=$((${a%.*}${a#*.} + ${1#.}))
		while (:) && read -r b c </proc/uptime && [ ${b%.*}${b#*.} -le $a ]; do
			:
		done
	} 2>/dev/null
}
`
	// Without a clock that takes no time to watch, there is no countdown but the last.
	guardText = `[ "$n" ] && [ $1 != 0 ] && { watched; return; }`

	bareLaterText = `[ "$n" ] || { ` + laterText + `; }`

	insistText = `
j=$((j+1))
case $j$q in 6.50|21) hit TERM ;; 30.50|51) hit KILL ;; esac
`
	// Where there is no sleep, the time is looked at with each line, in whole seconds.
	bareLimitText = `[ "$n" ] && read -r a b </proc/uptime && e=$((${a%.*} + <SECONDS>))`
	lookText      = `[ "$n" ] && read -r a b </proc/uptime && [ ${a%.*} -gt $e ] && kill -USR2 $$ && break`
)

// containerStopLine is stopLine for a container. Its steps are short whatever t says: with those of 1 s, where sleep
// knows no less, KILL comes 19 s after the last sign of life.
func containerStopLine(first string, t timing) string {
	look, text := "", stopText
	if t.most != "" {
		look = lookText
		text = strings.ReplaceAll(text, "<LIMIT>", "<LIMIT>\n"+strings.ReplaceAll(bareLimitText, "<SECONDS>", t.most))
	}
	return joinScript(strings.NewReplacer("<BARE>", bareText, "<GUARD>", guardText, "<LOOK>", look, "<INSIST>", insistText, "<LATER>", bareLaterText, "<EXEC>", "", "<FIRST>", first,
		"<SIGNALS>", first+" TERM TERM TERM TERM KILL", "<SILENCE>", t.silence, "<STEP>", "$q", "<NAP>", ".10").Replace(t.limited(text)))
}
