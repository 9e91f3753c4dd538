package remote

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// about runs an AboutLine in a session of its own; its standard input ends when that of the result is closed.
type about struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout bytes.Buffer
	log    Log
}

func startAbout(t *testing.T, sh shell, c Command) *about {
	t.Helper()
	a := &about{t: t, cmd: sh.command(c.AboutLine())}
	a.cmd.Stdout, a.cmd.Stderr = &a.stdout, &a.log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := a.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.stdin = stdin
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endSession(t, a.cmd) })
	return a
}

// end waits for it and checks that nothing is left.
func (a *about) end() About {
	a.t.Helper()
	if err := a.cmd.Wait(); err != nil {
		a.t.Errorf("%v: %+v", err, a.log.Report())
	}
	waitFor(a.t, time.Second, func() []string {
		return alive(func(pid int, stat []string) bool { return stat[3] == fmt.Sprint(a.cmd.Process.Pid) })
	})
	return ReadAbout(a.stdout.String())
}

// script makes a program whose name is a trial for every shell.
func script(t *testing.T, text string) string {
	t.Helper()
	path := openDir(t) + "/it's a !\\ helper"
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAboutShells(t *testing.T) {
	helper := script(t, `[ "$#$1" = 1--version ] && printf 'tcpdump version 9.8.7-PRE\nlibpcap version 1.2.3\n' >&2`)
	var names []string
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	for _, sh := range loginShells(t) {
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			a := startAbout(t, sh, Command{Helper: helper})
			got := a.end()
			var seen []string
			for _, i := range got.Interfaces {
				seen = append(seen, i.Name)
			}
			slices.Sort(seen)
			if !got.Complete || got.Version != "9.8.7-PRE" || !slices.Equal(seen, names) {
				t.Errorf("%+v, want the interfaces %q", got, names)
			}
			if sh.name != "busybox only" && !strings.HasPrefix(got.System, "Linux ") { // it has no uname
				t.Errorf("system %q", got.System)
			}
			r := a.log.Report()
			if r.Helper != helper || r.UID != os.Getuid() || !r.Started {
				t.Errorf("%+v", r)
			}
			if sh.name != "busybox only" && time.Since(r.Clock).Abs() > time.Minute { // nor date
				t.Errorf("clock %v", r.Clock)
			}
		})
	}
}

// TestAboutStops: a helper that does not come to an end is stopped as one that captures is, and the rest is told.
func TestAboutStops(t *testing.T) {
	t.Parallel()
	hangs := script(t, `echo version 1.2; exec sleep 1000`)
	for _, sh := range posixShells(t) {
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			a := startAbout(t, sh, Command{Helper: hangs})
			waitFor(t, 10*time.Second, func() []string {
				if len(alive(func(_ int, stat []string) bool { return stat[3] == fmt.Sprint(a.cmd.Process.Pid) })) < 3 {
					return []string{"the helper is not started"}
				}
				return nil
			})
			start := time.Now()
			a.stdin.Close()
			if got := a.end(); !got.Complete || got.Version != "1.2" {
				t.Errorf("%+v", got)
			}
			if took := time.Since(start); took > 4*time.Second+slack {
				t.Errorf("ended after %v", took)
			}
		})
	}
}

// TestAboutWithout: no helper is no obstacle.
func TestAboutWithout(t *testing.T) {
	t.Parallel()
	for _, helper := range []string{"/nonexistent/tcpdump", "no-such-helper", os.DevNull} {
		a := startAbout(t, posixShells(t)[0], Command{Helper: helper})
		if got := a.end(); !got.Complete || got.Version != "" || len(got.Interfaces) == 0 {
			t.Errorf("%s: %+v", helper, got)
		}
	}
}

// TestAboutContainer: a container with a shell and nothing else.
func TestAboutContainer(t *testing.T) {
	t.Parallel()
	b := newCFBed(t)
	jail := b.cfJail(t, "dash", true)
	cmd := exec.Command(jail[0], append(jail[1:], "/bin/sh", "-c", Command{Helper: "cf-pcap"}.AboutLine())...)
	cmd.Env = []string{"PATH="}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	var log Log
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := About{Interfaces: []Interface{{Name: "lo"}}, Complete: true}
	if got := ReadAbout(string(out)); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if r := log.Report(); r.Helper != cfPcapPath {
		t.Errorf("helper %q", r.Helper)
	}
}

func TestReadAbout(t *testing.T) {
	t.Parallel()
	text := `said by a login script
@sshpcap system
Linux 6.1.0 x86_64
@sshpcap version
some warning
Dumpcap (Wireshark) 4.0.17 (Git v4.0.17 packaged as 4.0.17-0+deb12u3).
@sshpcap link
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default \    link/loopback 00:00:00:00:00:00
2: eth0@if5: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default \    link/ether 02:00:00:00:00:00
@sshpcap addr
1: lo    inet 127.0.0.1/8 scope host lo\       valid_lft forever preferred_lft forever
2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0\       valid_lft forever preferred_lft forever
2: eth0    inet6 fe80::1/64 scope link
3: tun0    inet 10.8.0.2 peer 10.8.0.1/32 scope global tun0
@sshpcap dev
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs
    lo: 1 2 3
  eth0: 1 2 3
   odd` + "\x1b[31m" + `: 1 2 3
@sshpcap end
`
	got := ReadAbout(text)
	p := netip.MustParsePrefix
	want := About{System: "Linux 6.1.0 x86_64", Version: "4.0.17", Complete: true, Interfaces: []Interface{
		{Name: "lo", State: "up", Addresses: []netip.Prefix{p("127.0.0.1/8")}},
		{Name: "eth0", State: "down", Addresses: []netip.Prefix{p("10.0.0.1/24"), p("fe80::1/64")}},
		{Name: "tun0", Addresses: []netip.Prefix{p("10.8.0.2/32")}},
		{Name: "odd\ufffd[31m"},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	got = ReadAbout("@sshpcap list\n1.en0 [Up, Running, Wireless]\n2.utun0 [Running]\n3. eth0\n@sshpcap version\ntcpdump version tcpdump.org\n")
	want = About{Interfaces: []Interface{{Name: "en0", State: "up"}, {Name: "utun0", State: "down"}, {Name: "eth0"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestReadAboutNames: a name may have an "@" of its own, behind which the name of another end may stand.
func TestReadAboutNames(t *testing.T) {
	t.Parallel()
	link := "@sshpcap link\n2: lan@home@if5: <BROADCAST,UP> mtu\n3: wan@home: <BROADCAST> mtu\n4: eth0@if5: <UP> mtu\n5: p1@wan@home: <UP> mtu\n" +
		"@sshpcap addr\n2: lan@home    inet 10.0.0.1/24 brd\n4: eth0    inet 10.0.0.2/24 brd\n"
	p := netip.MustParsePrefix
	want := []Interface{
		{Name: "lan@home", State: "up", Addresses: []netip.Prefix{p("10.0.0.1/24")}},
		{Name: "wan@home", State: "down"},
		{Name: "eth0", State: "up", Addresses: []netip.Prefix{p("10.0.0.2/24")}},
		{Name: "p1", State: "up"},
	}
	if got := ReadAbout(link + "@sshpcap dev\n face |bytes\nlan@home: 1\nwan@home: 1\n  eth0: 1\n    p1: 1\n").Interfaces; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := ReadAbout("@sshpcap list\n1.lan@home [Up, Running]\n").Interfaces; !reflect.DeepEqual(got, []Interface{{Name: "lan@home", State: "up"}}) {
		t.Errorf("got %+v", got)
	}
}

func FuzzReadAbout(f *testing.F) {
	for _, part := range []string{"system", "version", "link", "addr", "dev", "list", "end"} {
		f.Add("@sshpcap "+part+"\n1: lo@x: <UP> 1.2.3\x1b\n1: a inet 1.2.3.4/5\nlo:\n1.a [Up]\n", 1)
	}
	f.Add("@sshpcap dev\n%d:\n", 3000)
	f.Add("@sshpcap addr\n1: a inet 10.0.0.%d\n", 200)
	f.Fuzz(func(t *testing.T, text string, times int) {
		var b strings.Builder
		for i := range min(max(times, 0), 3000) {
			b.WriteString(strings.ReplaceAll(text, "%d", fmt.Sprint(i)))
		}
		a := ReadAbout(b.String())
		if len(a.Interfaces) > maxInterfaces {
			t.Fatalf("%d interfaces", len(a.Interfaces))
		}
		said := []string{a.System, a.Version}
		for _, i := range a.Interfaces {
			if len(i.Addresses) > maxAddresses {
				t.Fatalf("%d addresses", len(i.Addresses))
			}
			said = append(said, i.Name)
		}
		for _, s := range said {
			if s != Clean(s) {
				t.Fatalf("%q could do harm on a terminal", s)
			}
		}
	})
}

// TestNothing: the compiler takes what Nothing makes of a filter where it takes the filter, with the exception that
// the documentation names, and never takes it where it refuses the filter.
func TestNothing(t *testing.T) {
	t.Parallel()
	need(t, "tcpdump")
	compiles := func(c Command) bool {
		// As the script on the instance puts it together.
		filter := oneLine(c.Filter)
		if balanced(c.Filter) {
			filter = "not (tcp port 22)"
			if c.Filter != "" {
				filter += " and (" + oneLine(c.Filter) + ")"
			}
		}
		return exec.Command("tcpdump", "-y", "EN10MB", "-d", "--", filter).Run() == nil
	}
	for _, filter := range []string{"", "tcp port 80", "vlan 5 and host 10.0.0.1", "greater 100", "len = 60", "less 0", "tcp[13] & 2 != 0 or\nicmp",
		"tcp prot 80", "tcp and udp", "(tcp", "tcp) or (udp", ")", "(", " ", "host 10.0.0.1 and", "not", "ether host 10.0.0.1", `\tcp`, `\`} {
		if as, idle := compiles(Command{Filter: filter}), compiles(Command{Filter: Nothing(filter)}); as != idle {
			t.Errorf("%q compiles: %v, to let nothing through (%q): %v", filter, as, Nothing(filter), idle)
		}
	}
	for _, filter := range []string{"len > 0", "not less 0"} {
		if compiles(Command{Filter: Nothing(filter)}) {
			t.Errorf("%q is no exception any more", filter)
		}
	}
}

func TestBulkLine(t *testing.T) {
	for _, sh := range loginShells(t) {
		if sh.name == "busybox only" {
			continue // it has no dd
		}
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			out, err := sh.command(Command{}.BulkLine(3)).Output()
			if err != nil || len(out) != 3*BulkBlock {
				t.Errorf("%d bytes, %v", len(out), err)
			}
		})
	}
}
