package remote

import (
	"strconv"
	"strings"
	"sync"
	"time"
)

// marker begins the lines that our own script writes to standard error, up to
// "start"; every later line is another program's.
const marker = "@sshpcap "

// startText runs on the instance in POSIX sh. Its words: $1 the stop script,
// $2 interface, $3 filter, $4 helper, $5 what to exclude if that was given, or
// what to exclude beside the SSH connection.
// It finds the helper, excludes the SSH connection and hands over to the stop
// script, with sudo where asked.
// Upper-case words in <> are filled in by startScript.
const startText = introText + `
<SELF>
` + findText + `
[ "$h" ] || { say "nohelper"; exit 127; }
say "helper $h"
case ${h##*/} in
	cf-pcap*) set -- "$h" -interface "$i" <CFPCAP> ${e:+-filter} ${e:+"$e"} ;;
	dumpcap*) set -- "$h" ${e:+-f} ${e:+"$e"} -i "$i" <DUMPCAP> ;;
	*) set -- "$h" -i "$i" <TCPDUMP> -- ${e:+"$e"} ;;
esac
<RUN>
`

// introText is how every script begins.
const introText = `
w=$1 i=$2 e=$3 n=$4 asked=
# Words of programs in English, for Log; the places where helpers live,
# for users whose PATH lacks them.
LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
export LC_ALL PATH
set -f
say() { printf "` + marker + `%s\n" "$1" >&2; }
# First of all, while little time has passed since the line was sent.
say "clock $(date +%s.%N 2>/dev/null)"
u=$(id -u 2>/dev/null)
say "uid $u"
# Which kernel and network this is, and for how long: two names may lead to one
# host, and two clones may have one name.
say "host $( { read -r x y </proc/uptime; echo $(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/net) $x; } 2>/dev/null)"
`

// findText sets $h to the helper.
const findText = `
# look TEST NAME: the first NAME in PATH that passes TEST becomes $h
look() {
	IFS=:
	for d in $PATH; do
		h=$d/$2
		[ -f "$h" ] && [ "$1" "$h" ] && return
	done
	h=
	return 1
}
<LOOK>
unset IFS
`

// selfText puts the exclusion of our own connection first in the expression:
// vlan and mpls shift the offsets of all that follows them. It must run
// before sudo, which drops $SSH_CONNECTION.
const selfText = `
self=$5 tunnels=
set -- $SSH_CONNECTION
say "connection $*"
<CONNECTION>
say "self $self"
e="not (${tunnels:-$self})${e:+ and ($e)}"
`

// connectionText makes the expression where none was given. Our end of the
// connection is enough, by address and port: what the server's end is on the
// wire, a redirection may have changed. $self is what else carries the capture.
const connectionText = `
# only SET TEXT: TEXT is not empty and all of SET
only() { case $2 in ""|*[!$1]*) return 1 ;; esac; }
# A scope, and IPv4 in the dress of IPv6, are not what packets show.
c=${1%%\%*} s=${3%%\%*} b=$self
case $c in ::*:*.*) c=${c##*:} ;; esac
case $s in ::*:*.*) s=${s##*:} ;; esac
self=${b:-tcp port <PORT>}
[ $# = 4 ] && only 0-9 "$2$4" && only 0-9a-fA-F.: "$c" && only 0-9a-fA-F.: "$s" && {
	self="tcp and ((src host $c and src port $2) or (dst host $c and dst port $2))"
	[ "$b" = "$self" ] && b=
	<SIBLINGS>
	[ "$b" ] && self="($self) or ($b)"
	[ "${c#*:}" = "$c" ] && {
		<INNER>
	}
}
`

// siblingsText leaves out all connections from where ours comes from to the
// SSH server: there may be more of ours, now or later.
const siblingsText = `self="($self) or (tcp and host $c and host $s and port $4)"`

// innerText sets $tunnels to $self and the same end of the connection in what
// may carry it to this host: VXLAN, GENEVE, IPIP and GRE, with IPv4 in IPv4. No
// keyword for these is known to all helpers, so it reads bytes: in "inside P
// O", the inner IP header begins at O of protocol P.
const innerText = `
x=$(IFS=.; printf 0x%02x%02x%02x%02x $c) p=$2
inside() { printf " and (($1[$2 + 12:4] = $x and $1[$2 + 20:2] = $p) or ($1[$2 + 16:4] = $x and $1[$2 + 22:2] = $p)))"; }
g="((ip[20] & 0x80) >> 5) + ((ip[20] & 0x20) >> 3) + ((ip[20] & 0x10) >> 2)"
tunnels="($self) or (udp and (dst port 4789 or dst port 8472)$(inside udp 30)"
tunnels="$tunnels or (udp dst port 6081$(inside udp "30 + ((udp[8] & 0x3f) << 2)")"
tunnels="$tunnels or (ip proto 4$(inside ip 20)"
tunnels="$tunnels or (ip proto 47 and ip[22:2] = 0x800$(inside ip "24 + $g")"
tunnels="$tunnels or (ip proto 47 and ip[22:2] = 0x6558$(inside ip "38 + $g")"
`

// sudoText leaves root alone, who may have no sudo. Where there is none, and
// doas is set up, that does the same. Who is to be allowed what is for the
// hint, in case that it is not.
const sudoText = `
[ "$u" = 0 ] || {
	say "user $(id -un 2>/dev/null)"
	say "shell $(command -v sh)"
	d=<RIGHTS>
	[ $d = sudo ] && ! command -v sudo >/dev/null 2>&1 && command -v doas >/dev/null 2>&1 && d=
	for x in /etc/doas.d /usr/local/etc/doas.conf /etc/doas.conf; do
		[ "$d" != sudo ] && [ -e $x ] && d=doas && say "doas $x"
	done
	d=${d:-sudo}
	say "start $d"
	exec $d -n sh -c "$w" sshpcap "$@"
}
`

// stopText runs the helper, its words, as a child, and ends it on the end of
// standard input or when no line comes for <SILENCE> seconds. POSIX sh only,
// no single quotes needed. The words in <> on lines of their own are for
// containers and for a limit of the time. Three processes beside the helper:
// this shell, which waits for it; a watch, which reads the lines; a countdown,
// made anew for each line, which ends the helper when it is not ended itself. A
// line "c" is answered with what the clock shows.
//
// The helper has a process group of its own where one can be made, which
// setsid does, or the shell where it can without a terminal: it may be a
// script that runs another program, and the signals are for all of them.
//
// The first line of the watch's on standard error tells that there is a
// countdown. Any one of the three ends the helper when it is the only one left:
// this shell, as soon as the watch is gone; the watch, since a server ends the
// input of a shell that is gone; the countdown, when it runs out. So does each
// that cannot make a process that it needs.
//
// Every pair of them has a signal of its own. A signal to a child that has
// not yet let go of its parent's trap would be lost, so the parent must have
// none for it: hence USR1 to the watch, ALRM to the countdown, KILL to sleep.
const stopText = `
<BARE>
# A background job's standard input is /dev/null: keep the real one, and the
# standard error for answers.
exec 3<&0 4>&2
# hit SIGNAL: to the helper's group, never to ours, which 0 would mean. Where it has none, to what the helper ran
# when this was first asked for, or to the helper itself if that was nothing.
kids=
hit() {
	# Of the first command after a process that could not be made bash forgets the status.
	:
	[ "${p#0}" ] || return
	kill -$1 -$p && return
	[ "$kids" ] || { all=; young $p; }
	# What waits for its children ends with them, and until then they are known.
	case $1 in 0|KILL) c=$all ;; *) c=$kids ;; esac
	set -- $1 1
	for c in $c; do
		kill -$1 $c && set -- $1 0
	done
	return $2
} 2>/dev/null
young() {
	c=
	read -r c </proc/$1/task/$1/children
	[ "$c" ] || kids="$kids $1"
	for c in $c; do
		young $c
	done
	# The helper itself comes last: when it is gone, so is soon who signals.
	all="$all $1"
}
# exec: some shells make another one to wait for a job, and tell of that.
# What cannot be run is for the shell to tell: setsid has words of its own.
g=setsid
command -v setsid >/dev/null 2>&1 && command -v "$1" >/dev/null 2>&1 || { g=; (set -m) && set -m; } 2>/dev/null
exec $g "$@" </dev/null 3<&- 4>&- &
p=$!
case $- in *m*) set +m ;; esac
# Where no process can be made a shell ends: not without the helper, which has
# some time for its last words.
trap "hit TERM; i=0; while [ \$i -lt 9999 ] && hit 0; do i=\$((i+1)); done; hit KILL" EXIT
[ "${p#0}" ] || exit 125
# An SSH server may signal the whole process group: the watch stays, from its
# first moment on. It does, too, where nobody takes its answers any more.
trap "" INT TERM HUP
{
	trap "" PIPE
	# The helper has ended. Unless its end was asked for, that is told.
	ended() {
		kill -ALRM $! $t<TOO>
		[ "$asked" ] || printf "` + marker + `unasked\n" >&4
		exit
	}
	trap ended USR1
	t= o=9
	# Told by the first countdowns: one may be ended before it comes to that.
	watched() { [ "$asked" ] || [ $o = 0 ] || printf "` + marker + `watched\n" >&4; }
	# settle waits until the first signal takes nothing away that somebody
	# still reads.
	settle() {
		# What the kernel holds for a helper that is about to run would be
		# lost: let it read that first.
		i=0
		while [ $i -lt 15 ] && read -r x y z </proc/$p/stat && [ "${z%% *}" = R ]; do
			sleep .02
			i=$((i+1))
		done
		# A write that waits for room would be ended, and that packet lost.
		# A pause is waited for, for some 30 ms where nothing else runs.
		i=0
		while [ $i -lt 2000 ]; do
			x=
			read -r x </proc/$p/wchan
			case $x in *pipe*|*sock*|*unix*) i=$((i+1)) ;; *) i=2000 ;; esac
		done
	}
	# count SECONDS [SIGNAL]: a new countdown, then the end of the one before; in
	# this order, so that where no process can be made the old one runs out. The
	# signal tells the shell when it has run out.
	count() {
		<GUARD>
		b=$!
		{
			# The sleep goes too; not what $! was before there is one.
			trap "[ \$! = $! ] || kill -KILL \$!; trap - EXIT; exit" ALRM
			# Where no process can be made a shell ends: not without the helper.
			k=<FIRST>
			trap "hit \$k" EXIT
			d=$1
			for s in <SIGNALS>; do
				b=$!
				<EXEC>sleep $d 4>&- &
				case $! in 0|$b) exit ;; esac
				watched
				exec 4>&-
				wait $!
				case $2$k in USR1*|*KILL) ;; *) settle ;; esac
				[ "$2" ] && kill -$2 $$
				hit $s || break
				d=<STEP> k=KILL
			done
			trap - EXIT
			exit
		} &
		case $! in 0|$b) exit ;; esac
		kill -ALRM $t
		t=$!
	}
	<LIMIT>
	count <SILENCE> USR1
	while read -r x; do
		[ $o = 0 ] || o=$((o-1))
		count <SILENCE> USR1
		[ "$x" = c ] && printf "` + marker + `clock %s\n" $(date +%s.%N) >&4
		<LOOK>
	done
	asked=1
	count 0
	<UNLIMIT>
	wait
} <&3 3<&- >/dev/null 2>&1 &
w=$!
case $w in 0|$p) exit 125 ;; esac
# From here on, the output is the helper's alone, and the watch's answers.
exec >/dev/null 2>&1 4>&-
m=
trap "m=123" USR1
trap "m=124" USR2
trap "s=1; hit <FIRST>" INT TERM HUP
# When the watch is gone, too, the wait ends. bash may forget a status at CHLD.
# A watch that was gone before that is found a moment later.
s= z= one=$p
case $BASH_VERSION in
	"") trap : CHLD; <LATER> ;;
	4.[3-9]*|[5-9]*) one="-n $p $w" ;;
esac
r=127
kill -0 $p && { wait $one; r=$?; }
while [ "$z" ] && [ ! "$m$s" ] && kill -0 $p && kill -0 $w; do
	wait $p
	r=$?
done
# A trap ends the wait early. Not a second wait: bash may sleep in it for ever
# when the helper ends meanwhile.
v=0
while hit 0; do
	# What is left when the helper itself is gone, or the watch, is ended here.
	kill -0 $w && kill -0 $p || v=$((v+1))
	case $v in 3) kill -0 $w || m=${m:-125}; hit <FIRST> ;; 19) hit KILL ;; 40) break ;; esac
	<INSIST>
	sleep <NAP> || sleep 1
done
# A trap ends the wait with the trap's status. The helper's own is known once it
# is gone; 127 where it is forgotten.
[ "$m" ] || wait $p
x=$?
[ $x = 127 ] || r=$x
[ "$m" ] && r=$m
trap "" INT TERM HUP
trap - EXIT CHLD
[ "${z#0}" ] && kill -KILL $z
kill -USR1 $w
exit $r
`

const laterText = `sleep 1 & z=$!`

// limitText is a countdown of its own, which no line begins anew, for a helper
// that may run for a certain time only.
const limitText = `
l=
count <SECONDS> USR2
l=$t t=
`

// Exit statuses of a [Command] whose helper was not ended from here, but by the
// instance itself.
const (
	Unheard   = 123 // no sign of life came any more
	TimeUp    = 124 // MaxTime was over; timeout(1) has the same
	Unwatched = 125 // the processes that would end it are gone, or could not be made
)

// timing is how long the stop script waits, in seconds, as sleep takes them.
type timing struct {
	silence string // without a line, until the helper is asked to end
	step    string // from there to the second signal, and on to KILL
	most    string // from the start, until the helper is asked to end whatever comes; "" is no limit
}

// limits keep below 20 s in all: 14, 16 and 18 s.
var limits = timing{silence: "14", step: "2"}

// portMark stands in a start script for the port of the SSH server.
const portMark = "<PORT>"

// startScript is startText in one line, filled in but for the port.
func (c Command) startScript() string {
	self := ""
	if !c.NoSelfFilter && balanced(c.Filter) {
		self = givenLine()
		if c.SelfFilter == "" {
			siblings := ""
			if c.Siblings {
				siblings = siblingsText + "; "
			}
			self = strings.Replace(connectionLine(), "<SIBLINGS>; ", siblings, 1)
		}
		self += "; "
	}
	run := "say start\n" + `eval "$w"`
	if c.Sudo && !c.cfPcap() {
		rights := "sudo"
		if c.Doas {
			rights = "doas"
		}
		run = strings.Replace(sudoText, "<RIGHTS>", rights, 1) + run
	}
	return strings.NewReplacer("<SELF>; ", self, "<LOOK>", c.findHelper(), "<RUN>", joinScript(run),
		"<TCPDUMP>", c.tcpdumpFlags(), "<DUMPCAP>", c.dumpcapFlags(), "<CFPCAP>", c.cfPcapFlags()).Replace(startLine())
}

// What is the same for all instances is made once.
var (
	startLine      = sync.OnceValue(func() string { return joinScript(startText) })
	givenLine      = sync.OnceValue(func() string { return joinScript(strings.ReplaceAll(selfText, "<CONNECTION>", "")) })
	connectionLine = sync.OnceValue(func() string {
		text := strings.ReplaceAll(connectionText, "<INNER>", innerText)
		return joinScript(strings.ReplaceAll(selfText, "<CONNECTION>", text))
	})
)

// findHelper is the command that sets $h.
func (c Command) findHelper() string {
	switch {
	case c.auto() && c.container():
		return "look -x tcpdump || h=$n"
	case c.auto():
		return "look -x tcpdump || look -x dumpcap || look -f tcpdump || look -f dumpcap"
	case !strings.Contains(c.program(), "/"):
		return `look -x "$n" || look -f "$n"`
	}
	return "h=$n"
}

// stopScript is stopText in one line, with the product's times.
func (c Command) stopScript() string {
	first := "INT"
	if c.knownHelper() {
		// To tcpdump and dumpcap TERM means the same. A background job
		// ignores INT until it has a handler, but never TERM.
		first = "TERM"
	}
	kind := stopKind{first, c.container()}
	if c.MaxTime == 0 {
		return stopLines()[kind]
	}
	t := limits
	t.most = strconv.FormatInt(int64((c.MaxTime+time.Second-1)/time.Second), 10)
	return kind.line(t)
}

// stopKind tells the stop scripts apart.
type stopKind struct {
	first     string
	container bool
}

// stopLines are made once, however many instances there are.
var stopLines = sync.OnceValue(func() map[stopKind]string {
	lines := make(map[stopKind]string)
	for _, first := range []string{"INT", "TERM"} {
		for _, container := range []bool{false, true} {
			kind := stopKind{first, container}
			lines[kind] = kind.line(limits)
		}
	}
	return lines
})

func (k stopKind) line(t timing) string {
	if k.container {
		return containerStopLine(k.first, t)
	}
	return stopLine(k.first, t)
}

func stopLine(first string, t timing) string {
	return joinScript(strings.NewReplacer("<BARE>", "", "<GUARD>", "", "<LOOK>", "", "<INSIST>", "", "<LATER>", "exec "+laterText, "<EXEC>", "exec ", "<FIRST>", first,
		"<SIGNALS>", first+" TERM KILL", "<SILENCE>", t.silence, "<STEP>", t.step, "<NAP>", ".1").Replace(t.limited(stopText)))
}

// limited fills in the parts of a stop script that limit the helper's time.
func (t timing) limited(text string) string {
	if t.most == "" {
		return strings.NewReplacer("<TOO>", "", "<LIMIT>", "", "<UNLIMIT>", "").Replace(text)
	}
	return strings.NewReplacer("<TOO>", " $l", "<LIMIT>", strings.ReplaceAll(limitText, "<SECONDS>", t.most), "<UNLIMIT>", "kill -ALRM $l").Replace(text)
}

// joinScript makes one line of a script: comments go, and a line that does
// not end in a word that asks for more gets a semicolon.
func joinScript(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		b.WriteString(line)
		if goesOn(line) {
			b.WriteByte(' ')
		} else {
			b.WriteString("; ")
		}
	}
	return strings.TrimRight(b.String(), "; ")
}

// goesOn reports whether a semicolon after the line would be an error.
func goesOn(line string) bool {
	for _, end := range []string{"(", "{", "&", "&&", "||", ";;", " do", " then", " in"} {
		if strings.HasSuffix(line, end) {
			return true
		}
	}
	return false
}
