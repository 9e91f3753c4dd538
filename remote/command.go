// Package remote is what is said to an instance and what it says back: the
// capture program's command line, how it is stopped, its reports and its
// errors. It opens no connection and starts no process.
//
// In this package the helper is the program on the instance that captures:
// tcpdump, dumpcap or Cloud Foundry's cf-pcap.
package remote

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HeartbeatInterval is how often the client sends [Heartbeat] to the standard
// input of a running [Command], from its start on and for as long as it runs.
const HeartbeatInterval = 3 * time.Second

// Heartbeat is what to send. Where none comes for 14 s, or where standard
// input ends, the command stops the helper and ends, in the first case with
// the exit status [Unheard]: asked politely at once,
// again 2 s later, killed 4 s later; in a container of Cloud Foundry's again
// 0.5 s later, killed 2.5 s later. So nothing is left on an instance 20 s
// after the last sign of life from here. A container that has no sleep program
// cannot count the time: there only the end of standard input counts.
func Heartbeat() []byte { return []byte("\n") }

// ClockQuestion is a [Heartbeat] that the command answers on standard error
// with what the instance's clock shows: see [Log.Clock]. One without the
// program date, which a container may lack, does not answer.
func ClockQuestion() []byte { return []byte("c\n") }

// maxSnaplen is the largest value that libpcap takes.
const maxSnaplen = 262144

// maxTime is within what every sleep takes.
const maxTime = 10 * 365 * 24 * time.Hour

// Command is one capture on one instance. The zero value captures everything
// on all interfaces with what is installed, except its own connection.
type Command struct {
	Helper        string // "" or "auto": tcpdump, else dumpcap, as the instance has it, in a container of Cloud Foundry's tcpdump, else cf-pcap; or a name, or a path (unknown programs get tcpdump's flags). "cf-pcap" is Cloud Foundry's, at its own path
	Interface     string // "" means any; in a container of Cloud Foundry's, eth0
	Filter        string // pcap-filter(7); "" means all packets
	Snaplen       int    // bytes of each packet; 0 means whole packets. A small one makes room for many more in the kernel's buffer
	NoPromiscuous bool   // cf-pcap ignores it
	Nano          bool   // ask for nanoseconds; a helper that cannot (dumpcap, cf-pcap) ignores it, the stream's header tells
	NoBuffer      bool   // leave the kernel's buffer at the helper's own size where BufferKiB is 0
	NoImmediate   bool   // let the kernel hold packets back for up to a second
	BufferKiB     int    // the kernel's buffer; 0 means what fits the snaplen, and 128 MiB at most. cf-pcap ignores it
	NoSelfFilter  bool   // also capture the SSH connection that carries the capture
	SelfFilter    string // expression for the connection to leave out, for containers of Cloud Foundry's; "" means what the instance knows of it
	Beside        string // expression for what else carries the capture, beside the connection that the instance knows; not looked at with SelfFilter
	Siblings      bool   // leave out all connections from our address to the SSH server: there may be several
	ServerPort    int    // TCP port to leave out where the instance does not know its connection; 0 means 22
	Sudo          bool   // run the helper with sudo -n, unless the login user is root already; never cf-pcap, containers have no sudo
	Doas          bool   // take doas -n in the place of sudo -n, which is taken without asking where there is no sudo

	// MaxTime is how long the helper may run, in whole seconds, a part of one counting as one; 0 is no limit. Then it is
	// asked to end as it is at the end of standard input, and the command's exit status is [TimeUp]. It counts on the
	// instance, whatever comes from here. In a container that has no sleep program it is looked at with each [Heartbeat].
	MaxTime time.Duration
}

// Check tells what is wrong with the command before anything is sent. Line
// works on any command; one that fails Check does not mean what it says.
func (c Command) Check() error {
	for _, t := range []struct{ what, text string }{
		{"helper", c.Helper}, {"interface", c.Interface}, {"filter", c.Filter}, {"filter of what to leave out", c.SelfFilter + c.Beside},
	} {
		if strings.IndexByte(t.text, 0) >= 0 {
			return fmt.Errorf("the %s holds a NUL byte", t.what)
		}
		if !strings.HasPrefix(t.what, "filter") && strings.ContainsAny(t.text, "\r\n") {
			return fmt.Errorf("the %s holds a line break", t.what)
		}
	}
	if !balanced(c.SelfFilter) || !balanced(c.Beside) {
		return errors.New("the parentheses do not match in the filter of what to leave out")
	}
	if c.maybeCFPcap() && !balanced(c.Filter) {
		// cf-pcap may put it in a pair of its own, with which it means something else than was meant.
		return errors.New("the parentheses do not match in the filter")
	}
	if c.Snaplen < 0 || c.Snaplen > maxSnaplen {
		return fmt.Errorf("the snaplen is %d, it must be from 0 to %d", c.Snaplen, maxSnaplen)
	}
	if c.ServerPort < 0 || c.ServerPort > 65535 {
		return fmt.Errorf("the server's port is %d", c.ServerPort)
	}
	if c.BufferKiB < 0 || c.BufferKiB > 1<<21 {
		return errors.New("the kernel buffer must be from 0 to 2 GiB")
	}
	if c.MaxTime < 0 || c.MaxTime > maxTime {
		return fmt.Errorf("the helper's time is %v, it must be from 0 to 10 years", c.MaxTime)
	}
	return nil
}

// Line is the command as one line for an SSH exec request. It means the same
// to every login shell: sh, bash, zsh, ksh, csh, fish, rc, elvish, xonsh.
// Where one changes it all the same, nothing is started.
//
// Its standard output is a pcap stream, whose header comes as soon as the
// helper captures. Its standard error is for a [Log]. Its standard input must
// be kept open and get a [Heartbeat] every [HeartbeatInterval]; its end stops
// the capture, with the last packets, the closing report and the helper's
// exit status still to come.
func (c Command) Line() string {
	words := []string{c.iface(), oneLine(c.Filter), c.program()}
	if given := cmp.Or(c.SelfFilter, c.Beside); given != "" {
		words = append(words, oneLine(given))
	}
	s := c.scripts()
	start := strings.Replace(s.start, portMark, strconv.Itoa(c.serverPort()), 1)
	return encodedLine(c.shell(), s.stop+encode(quoted(words)+"; ")+start)
}

// encodedScripts are the parts of a line that do not depend on the user's words, encoded.
type encodedScripts struct {
	of    Command
	stop  string // with the command whose first parameter it becomes
	start string // with portMark for the server's port
}

// scripts are those of the command. The last ones are kept: they are mostly the same for all instances, of which there may
// be a thousand.
func (c Command) scripts() encodedScripts {
	c.ServerPort, c.Beside = 0, ""
	lastScripts.Lock()
	defer lastScripts.Unlock()
	if s := &lastScripts.encodedScripts; s.start == "" || s.of != c {
		*s = encodedScripts{c, encode("set -- " + Quote(c.stopScript())), encode(c.startScript())}
	}
	return lastScripts.encodedScripts
}

var lastScripts struct {
	sync.Mutex
	encodedScripts
}

func (c Command) iface() string {
	switch {
	case c.Interface != "":
		return oneLine(c.Interface)
	case c.maybeCFPcap():
		return "eth0"
	}
	return "any"
}

func (c Command) auto() bool { return c.Helper == "" || c.Helper == "auto" }

// tcpdumpFlags are those after the interface. Packet-buffered output (-U) and
// immediate mode bring each packet at once and lose none at the stop.
func (c Command) tcpdumpFlags() string {
	snaplen := c.Snaplen
	if snaplen == 0 {
		snaplen = wholePackets
	}
	f := "-n -U"
	if !c.NoImmediate {
		f += " --immediate-mode"
	}
	if !c.NoBuffer || c.BufferKiB > 0 {
		f += fmt.Sprintf(" -B %d", c.bufferKiB())
	}
	f += fmt.Sprintf(" -s %d", snaplen)
	if c.NoPromiscuous {
		f += " -p"
	}
	if c.Nano {
		f += " --time-stamp-precision=nano"
	}
	return f + " -w -"
}

// dumpcapFlags are those after the interface. -P asks for pcap, not pcapng;
// its buffer is in MiB and need not be large, since it is not cut into slots.
func (c Command) dumpcapFlags() string {
	mib := 16
	if c.BufferKiB > 0 {
		mib = (c.BufferKiB + 1023) / 1024
	}
	f := "-P -q"
	if !c.NoBuffer || c.BufferKiB > 0 {
		f += fmt.Sprintf(" -B %d", mib)
	}
	if c.Snaplen > 0 {
		f += fmt.Sprintf(" -s %d", c.Snaplen)
	}
	if c.NoPromiscuous {
		f += " -p"
	}
	return f + " -w -"
}

// wholePackets is the snaplen for whole packets: frames are at most 64 KiB long, "BIG TCP" aside. It is 1 KiB less
// than 128 KiB so that a packet and its header in the kernel's buffer fit in that. With a little more, each would take
// 256 KiB, and the buffer would hold half as many.
const wholePackets = maxSnaplen/2 - 1024

// bufferKiB is the kernel's buffer for packets that tcpdump has not read yet.
// In immediate mode libpcap cuts it into slots of the snaplen, or of the
// interface's MTU where frames cannot be longer, and rounds a slot up to a
// power of two: on the loopback interface, whose MTU is just above one, the
// memory taken is twice what was asked for, and near that for many snaplens.
// Whole packets of other interfaces take 128 KiB each, so that 128 MiB hold a
// thousand: with half of it tcpdump lost one in a hundred on "any" at 100,000
// packets a second when it did not get its turn for some milliseconds. Where
// the kernel has no room for that much, libpcap takes less. In containers there is
// less of it: the memory is the cell's, on which there may be many.
func (c Command) bufferKiB() int {
	switch {
	case c.BufferKiB > 0:
		return c.BufferKiB
	case c.Snaplen > 0, c.Interface == "lo", c.container():
		return 32 << 10
	}
	return 128 << 10
}

func (c Command) serverPort() int {
	if c.ServerPort == 0 {
		return 22
	}
	return c.ServerPort
}

// knownHelper reports whether the helper will be tcpdump or dumpcap.
func (c Command) knownHelper() bool {
	base := path.Base(c.Helper)
	return c.auto() && !c.container() || strings.HasPrefix(base, "tcpdump") || strings.HasPrefix(base, "dumpcap")
}

// oneLine turns line breaks into spaces: to a filter they mean the same.
func oneLine(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\n", " "), "\r", " ")
}

// balanced reports whether the parentheses of a filter match. One that closes
// more than it opens could get out of the pair that is put around it.
func balanced(filter string) bool {
	depth := 0
	for _, r := range filter {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth < 0 {
			return false
		}
	}
	return depth == 0
}
