package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// flowFilter lets only the tests' numbered packets through: ARP and the like come when they want.
const flowFilter = "udp portrange 40000-40999"

// snaplen is more than a numbered packet has. A small one gives the kernel's buffer room for many packets: a tcpdump that
// does not get a CPU for a while, on a machine that runs many tests at once, then loses none.
const snaplen = "400"

var tools = []string{"tcpdump", "tshark", "capinfos"}

// three is a bed with three instances, a flow from the hub to each of the first two, and one from the first to the third,
// which both of them see.
func three(t *testing.T, o bed.Options) (*bed.Bed, []*bed.Host, []*bed.Flow) {
	t.Helper()
	b := bed.New(t, tools...)
	var hosts []*bed.Host
	for _, name := range []string{"web1", "web2", "db1"} {
		hosts = append(hosts, b.Add(name, o))
	}
	return b, hosts, []*bed.Flow{
		(&bed.Flow{From: b.Hub, To: hosts[0], Port: 40001}).Open(t),
		(&bed.Flow{From: b.Hub, To: hosts[1], Port: 40002}).Open(t),
		(&bed.Flow{From: hosts[0], To: hosts[2], Port: 40003}).Open(t),
	}
}

// sightsOf is what three's instances see of its flows on an interface.
func sightsOf(flows []*bed.Flow, iface string) []sight {
	return []sight{
		{flows[0], "web1:" + iface}, {flows[1], "web2:" + iface}, {flows[2], "web1:" + iface}, {flows[2], "db1:" + iface},
	}
}

func sendAll(t *testing.T, n, rate int, flows ...*bed.Flow) {
	t.Helper()
	if err := bed.SendAll(n, rate, flows...); err != nil {
		t.Fatal(err)
	}
}

// others checks that Wireshark's other tools can work with a file: they want all interfaces before anything else.
func others(t *testing.T, file string) {
	t.Helper()
	for _, words := range [][]string{{"editcap"}, {"editcap", "-F", "pcapng"}, {"reordercap"}} {
		cmd := exec.Command(words[0], append(words[1:], file, filepath.Join(t.TempDir(), "out"))...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s", words, err, out)
		}
	}
}

// captureThree captures three's flows to the end, and checks everything.
func captureThree(t *testing.T, o bed.Options, rate int, args ...string) report {
	t.Helper()
	b, hosts, flows := three(t, o)
	file := output(t, "three.pcapng")
	c := start(t, b, append([]string{"web1", "web2", "db1", "-o", file, "-f", flowFilter}, args...)...).ready()
	if !strings.Contains(c.stderr.String(), "Capturing on 3 instances, press ^C to stop") {
		t.Errorf("not the ready line: %s", c.stderr.String())
	}
	sendAll(t, 1000, rate, flows...)
	arrived(t, file, 4000)
	c.interrupt(0)
	clean(t, patience, hosts...)
	exactly(t, file, sightsOf(flows, "any")...)
	r := c.check(file)
	if r.late() > 0 && slices.Contains(args, "--window") {
		t.Errorf("%d packets were too late for %v", r.late(), args)
	}
	others(t, file)
	if got, want := r.states(), "web1=ok web2=ok db1=ok"; got != want {
		t.Errorf("states %s, want %s", got, want)
	}
	if r.written("web1") != 2000 || r.written("web2") != 1000 || r.written("db1") != 1000 || r.End != "interrupted" {
		t.Errorf("written %d, %d and %d, ended by %s", r.written("web1"), r.written("web2"), r.written("db1"), r.End)
	}
	return r
}

func TestThreeHosts(t *testing.T) {
	t.Parallel()
	t.Run("defaults", func(t *testing.T) {
		t.Parallel()
		captureThree(t, bed.Options{}, 500)
	})
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		captureThree(t, bed.Options{}, 2000, "-s", snaplen, "--window", "5s")
	})
}

func TestPcapOutput(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	file := output(t, "three.pcap")
	c := start(t, b, "-o", file, "-f", flowFilter, "-s", snaplen, "web1", "web2", "db1").ready()
	sendAll(t, 500, 2000, flows...)
	arrived(t, file, 2000)
	c.interrupt(0)
	clean(t, patience, hosts...)
	exactly(t, file, sight{flows[0], ""}, sight{flows[1], ""}, sight{flows[2], ""}, sight{flows[2], ""})
	if r := c.check(file); r.Output.Format != "pcap" {
		t.Errorf("format %s", r.Output.Format)
	}
}

func TestSudo(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"auto", "always"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			bed.Require(t, "sudo")
			r := captureThree(t, bed.Options{User: bed.Sudoer}, 2000, "-s", snaplen, "--sudo", when)
			for _, i := range r.Instances {
				if !i.Sudo {
					t.Errorf("%s: the report says that it went without sudo", i.Name)
				}
			}
		})
	}
}

func TestDropbear(t *testing.T) {
	t.Parallel()
	bed.Require(t, "sudo")
	captureThree(t, bed.Options{Dropbear: true, User: bed.Sudoer, Port: 2222}, 2000, "-s", snaplen)
}

func TestDumpcap(t *testing.T) {
	t.Parallel()
	bed.Require(t, "dumpcap")
	r := captureThree(t, bed.Options{Hide: []string{"tcpdump"}}, 2000)
	for _, i := range r.Instances {
		if !strings.HasSuffix(i.Helper, "dumpcap") {
			t.Errorf("%s: helper %q", i.Name, i.Helper)
		}
	}
}

// TestCapableHelper captures as a plain user, with a tcpdump that has the right itself.
func TestCapableHelper(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{User: bed.Plain})
	path, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	helper := b.WriteFile("bin/tcpdump", 0o755, string(program))
	// cap_net_raw=ep in the form of capability.h's vfs_cap_data, version 2.
	if err := unix.Setxattr(helper, "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00"+strings.Repeat("\x00", 12)), 0); err != nil {
		t.Skipf("the file system has no capabilities: %v", err)
	}
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "--helper", helper, "-o", file, "-f", flowFilter, "-s", snaplen).ready()
	sendAll(t, 500, 2000, flow)
	arrived(t, file, 500)
	c.interrupt(0)
	clean(t, patience, h)
	exactly(t, file, sight{flow, "web1:any"})
	if r := c.check(file); r.Instances[0].Sudo || r.Instances[0].Helper != helper {
		t.Errorf("helper %q, sudo %v", r.Instances[0].Helper, r.Instances[0].Sudo)
	}
}

func TestJumpHosts(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		inConfig bool
		inner    string
		jump     string
	}{
		"config":          {true, "inner", "bastion"},
		"flag":            {false, "inner", "bastion"},
		"two hops config": {true, "deep", "bastion,middle"},
		"two hops flag":   {false, "deep", "bastion,middle"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bed.New(t, tools...)
			bastion := b.Add("bastion", bed.Options{Nets: []int{0, 1}})
			middle := b.Add("middle", bed.Options{Nets: []int{1, 2}})
			o := bed.Options{Nets: []int{1}}
			if how.inner == "deep" {
				o.Nets = []int{2}
			}
			args := []string{how.inner, "-f", flowFilter, "-s", snaplen}
			if how.inConfig {
				o.Jump = how.jump
			} else {
				args = append(args, "-J", how.jump)
			}
			inner := b.Add(how.inner, o)
			flow := (&bed.Flow{From: middle, To: inner, Port: 40001}).Open(t)
			file := output(t, "a.pcapng")
			c := start(t, b, append(args, "-o", file)...).ready()
			sendAll(t, 500, 2000, flow)
			arrived(t, file, 500)
			c.interrupt(0)
			clean(t, patience, inner, middle, bastion)
			exactly(t, file, sight{flow, how.inner + ":any"})
			c.check(file)
			if bastion.Connections() != 1 {
				t.Errorf("%d connections to the jump host, want 1", bastion.Connections())
			}
		})
	}
}

func TestInterfaces(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	local := (&bed.Flow{From: h, To: h, Port: 40001, Loopback: true}).Open(t)
	wire := (&bed.Flow{From: b.Hub, To: h, Port: 40002}).Open(t)
	file := output(t, "a.pcapng")
	c := start(t, b, "--interface", "lo", "web1", "--interface", "eth0", "--interface", "any", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
	sendAll(t, 500, 2000, local, wire)
	arrived(t, file, 2000)
	c.interrupt(0)
	clean(t, patience, h)
	exactly(t, file, sight{local, "web1:lo"}, sight{wire, "web1:eth0"}, sight{local, "web1:any"}, sight{wire, "web1:any"})
	r := c.check(file)
	var got []string
	for _, f := range r.Instances[0].Interfaces {
		got = append(got, f.Name+" "+f.LinkType)
	}
	slices.Sort(got)
	if want := []string{"any LINUX_SLL2", "eth0 EN10MB", "lo EN10MB"}; !slices.Equal(got, want) {
		t.Errorf("interfaces %q, want %q", got, want)
	}
	if h.Connections() != 1 {
		t.Errorf("%d connections for three interfaces, want 1", h.Connections())
	}
}

// TestTwoLinkTypesInPcap: a pcap file holds one link type only, and the message has to say what does it.
func TestTwoLinkTypesInPcap(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	file := output(t, "a.pcap")
	c := start(t, b, "web1", "--interface", "lo", "--interface", "any", "-o", file, "-d", "2s")
	c.exit(patience, 1)
	if _, hint := c.complaint("", "link type", "web1:lo", "web1:any"); !strings.Contains(hint, "pcapng") {
		t.Errorf("the hint does not name pcapng: %s", hint)
	}
	clean(t, patience, h)
}

// TestSomeFail: what cannot be captured on is named, and does not disturb the rest.
func TestSomeFail(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	bare := b.Add("bare", bed.Options{Hide: []string{"tcpdump", "dumpcap"}})
	closed := b.Add("closed", bed.Options{})
	closed.Kill("sshd", syscall.SIGKILL)
	hello := b.Add("hello", bed.Options{Config: "ForceCommand echo hello"})
	config, err := os.ReadFile(b.SSHConfig())
	if err != nil {
		t.Fatal(err)
	}
	b.WriteFile("client/.ssh/config", 0o600, "Host senseless\n  ProxyCommand nc %h %p\n"+string(config))
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "closed", "web2", "bare", "db1", "hello", "senseless", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
	if !strings.Contains(c.stderr.String(), "Capturing on 3 ") {
		t.Errorf("not the ready line: %s", c.stderr.String())
	}
	sendAll(t, 500, 2000, flows...)
	arrived(t, file, 2000)
	c.interrupt(3)
	clean(t, patience, append(hosts, bare, closed, hello)...)
	c.complaint("closed", "refused")
	c.complaint("bare", "no capture program")
	c.complaint("hello", "hello")
	c.complaint("senseless", "ProxyCommand is not supported")
	exactly(t, file, sightsOf(flows, "any")...)
	want := "web1=ok closed=failed web2=ok bare=failed db1=ok hello=failed senseless=failed"
	if got := c.check(file).states(); got != want {
		t.Errorf("states %s, want %s", got, want)
	}
}

// TestHelperKilled: an instance whose helper dies in the middle keeps what it gave; the others go on.
func TestHelperKilled(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "web2", "db1", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
	sendAll(t, 300, 2000, flows...)
	arrived(t, file, 1200)
	if n := hosts[1].Kill("tcpdump", syscall.SIGKILL); n != 1 {
		t.Fatalf("killed %d tcpdump", n)
	}
	bed.WaitFor(t, patience, "the loss is told", func() bool { return strings.Contains(c.stderr.String(), "sshpcap: web2: ") })
	sendAll(t, 300, 2000, flows[0], flows[2])
	arrived(t, file, 2100)
	c.interrupt(3)
	c.complaint("web2")
	clean(t, patience, hosts...)
	exactly(t, file, sightsOf(flows, "any")...)
	if got, want := c.check(file).states(), "web1=ok web2=lost db1=ok"; got != want {
		t.Errorf("states %s, want %s", got, want)
	}
}

// TestSilent: an instance that falls silent does not hold up the others, is cut when it cannot be stopped, and stops by
// itself.
func TestSilent(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string]func(*bed.Host){"link down": (*bed.Host).LinkDown, "black hole": (*bed.Host).BlackHole} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bed.Require(t, "nft")
			b, hosts, flows := three(t, bed.Options{})
			file := output(t, "a.pcapng")
			c := start(t, b, "web1", "web2", "db1", "-o", file, "-f", flowFilter, "-s", snaplen, "--grace", "2s").ready()
			sendAll(t, 200, 2000, flows...)
			arrived(t, file, 800)
			silence(hosts[1])
			sendAll(t, 200, 2000, flows[0], flows[2])
			arrived(t, file, 1400)
			if n := countRecords(file); n != 1400 {
				t.Errorf("%d packets in the file while one instance is silent, want 1400", n)
			}
			c.interrupt(3)
			c.complaint("web2")
			exactly(t, file, sightsOf(flows, "any")...)
			if got, want := c.check(file).states(), "web1=ok web2=cut db1=ok"; got != want {
				t.Errorf("states %s, want %s", got, want)
			}
			clean(t, patience, hosts...)
		})
	}
}

// TestGarbage: an instance that sends something else than packets is an error that says what came, whatever comes.
func TestGarbage(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{
		"random": "cat /dev/urandom",
		"yes":    "yes",
		"zeros":  "cat /dev/zero",
		"errors": "sh -c 'yes >&2'",
		"banner": `sh -c 'echo Welcome to web2; eval "$SSH_ORIGINAL_COMMAND"'`,
		"no end": `sh -c 'printf abc; exec sleep 1000'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bed.New(t, tools...)
			good := b.Add("web1", bed.Options{})
			bad := b.Add("web2", bed.Options{Config: "ForceCommand " + command})
			flow := (&bed.Flow{From: b.Hub, To: good, Port: 40001}).Open(t)
			file := output(t, "a.pcapng")
			c := start(t, b, "web1", "web2", "-o", file, "-f", flowFilter, "-s", snaplen, "--connect-timeout", "3s").ready()
			problem, _ := c.complaint("web2")
			if name == "banner" && !strings.Contains(problem, "Welcome to web2") {
				t.Errorf("it does not say what came: %s", problem)
			}
			sendAll(t, 100, 2000, flow)
			arrived(t, file, 100)
			c.interrupt(3)
			exactly(t, file, sight{flow, "web1:any"})
			if got, want := c.check(file).states(), "web1=ok web2=failed"; got != want {
				t.Errorf("states %s, want %s", got, want)
			}
			if strings.ContainsAny(c.stderr.String(), "\x00\x1b\x07") {
				t.Error("control characters of the instance reached the terminal")
			}
			if name == "no end" || name == "errors" {
				// Nothing of ours runs there, so nothing of ours can end it: sleep does not notice.
				bad.Kill("sleep", syscall.SIGKILL)
			}
			clean(t, patience, good, bad)
		})
	}
}

// TestHostileStream: what a stream's headers claim is not believed; what came whole before it went wrong is kept.
func TestHostileStream(t *testing.T) {
	t.Parallel()
	const (
		magic    = "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		ethernet = "\x01\x00\x00\x00"
		packet   = "\x00\x00\x00\x60\x00\x00\x00\x00\x04\x00\x00\x00\x04\x00\x00\x00abcd"
		giant    = "\x00\x00\x00\x60\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"
		snaplen0 = "\x00\x00\x00\x00"
		snaplenF = "\xff\xff\xff\xff"
		exitCode = 3
	)
	for name, stream := range map[string]string{
		"snaplen 0":        magic + snaplen0 + ethernet + packet,
		"snaplen 2^32-1":   magic + snaplenF + ethernet + packet,
		"truncated record": magic + snaplenF + ethernet + packet + packet[:18],
		"truncated header": magic + snaplenF + ethernet + packet + packet[:7],
		"giant record":     magic + snaplenF + ethernet + packet + giant,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bed.New(t, tools...)
			path := b.WriteFile("stream", 0o644, stream)
			serve := b.WriteFile("serve", 0o755, "#!/bin/sh\nprintf '@sshpcap start\\n@sshpcap watched\\n' >&2\nexec cat "+path+"\n")
			h := b.Add("web1", bed.Options{Config: "ForceCommand " + serve})
			file := filepath.Join(t.TempDir(), "a.pcapng")
			c := start(t, b, "web1", "-o", file)
			c.exit(patience, exitCode)
			r := c.check(file)
			if r.Packets != 1 {
				t.Errorf("%d packets in the file, want 1", r.Packets)
			}
			truncated := strings.HasPrefix(name, "truncated")
			if got := r.Instances[0].Interfaces[0].Truncated; truncated != (got == 1) {
				t.Errorf("%d truncated records", got)
			}
			clean(t, patience, h)
		})
	}
}
