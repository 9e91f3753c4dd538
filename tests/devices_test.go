package tests

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// withoutOf is what the report says that an interface did not take.
func withoutOf(t *testing.T, c *client) []string {
	t.Helper()
	r := c.result()
	if len(r.Instances) != 1 || len(r.Instances[0].Interfaces) != 1 {
		t.Fatalf("instances of the report: %+v", r.Instances)
	}
	return r.Instances[0].Interfaces[0].Without
}

// TestNetfilterLog: a device that takes neither nanoseconds nor a filter is captured without them, and that is told.
func TestNetfilterLog(t *testing.T) {
	t.Parallel()
	bed.Require(t, "nft")
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	if out, err := h.Command("nft", `table inet logged {
	chain arriving { type filter hook input priority 0; udp dport 40001 log group 5; }
}`).CombinedOutput(); err != nil {
		t.Skipf("no log of netfilter's in this kernel: %v %s", err, out)
	}
	const note = "web1: nflog:5 takes no filter that leaves our own SSH connection out"

	file := output(t, "x.pcapng")
	c := start(t, b, "web1", "--interface", "nflog:5", "-o", file)
	c.ready()
	if err := flow.Send(20, 1000); err != nil {
		t.Fatal(err)
	}
	bed.WaitFor(t, patience, "the packets are there", func() bool { return countRecords(file) == 20 })
	c.interrupt(0)
	c.check(file)
	if got := withoutOf(t, c); !slices.Equal(got, []string{"nanoseconds", "self filter"}) {
		t.Errorf("the report names %q", got)
	}
	if !strings.Contains(c.stderr.String(), note) {
		t.Errorf("it does not say %q", note)
	}
	about, err := exec.Command("tshark", "-r", file, "-c", "1", "-T", "fields", "-e", "frame.interface_description", "-e", "frame.protocols").Output()
	if text := string(about); err != nil || !strings.Contains(text, "the interface does not take: nanoseconds, self filter") || !strings.Contains(text, "nflog") {
		t.Errorf("%v: %q", err, text)
	}

	// The user's own filter is not taken back, and what fails for it is called that.
	filtered := start(t, b, "web1", "--interface", "nflog:5", "-f", "udp", "-o", output(t, "y.pcapng"))
	filtered.exit(patience, 1)
	if !strings.Contains(filtered.stderr.String(), "does not accept the filter: NFLOG link-layer type filtering not implemented") {
		t.Errorf("with a filter: %s", filtered.stderr.String())
	}

	l := look(t, b, "check", "--json", "web1", "--interface", "nflog:5")
	if in := l.json().Instances; l.status != 0 || len(in) != 1 || !in[0].Works || len(in[0].Notes) != 1 || !strings.HasPrefix("web1: "+in[0].Notes[0], note) {
		t.Errorf("check: exit %d, %+v", l.status, in)
	}
	if l := look(t, b, "check", "web1", "--interface", "nflog:5", "-f", "udp"); l.status == 0 || !strings.Contains(l.stdout, "does not accept the filter") {
		t.Errorf("check with a filter: exit %d, %s", l.status, l.stderr)
	}
	clean(t, patience, h)
}

// bsdTcpdump speaks as the tcpdump of a BSD does: there is no interface any, its devices take no nanoseconds and no
// large buffer, and one of them cannot give packets at once.
const bsdTcpdump = `#!/bin/sh
all="$*"
iface=
while [ $# -gt 0 ]; do
	[ "$1" = -i ] && iface=$2
	last=$1
	shift
done
die() { printf "%s\n" "$@" >&2; exit 1; }
case $all in
	--version) exec tcpdump --version ;;
	-D) printf "1.em0 [Up, Running]\n2.lo0 [Up, Running, Loopback]\n"; exit ;;
esac
case $iface in
	any) die "tcpdump: any: No such device exists" "(BIOCSETIF failed: Device not configured)" ;;
	lo9) die "tcpdump: BIOCSETIF: lo9: Device not configured" ;;
esac
case $all in
	*--time-stamp-precision=nano*) die "tcpdump: $iface: Can't set nanosecond time stamp precision: That device doesn't support that time stamp precision" ;;
	*" -B "*) die "tcpdump: BIOCSBLEN: 134217728: No buffer space available" ;;
	*--immediate-mode*) die "tcpdump: $iface: BIOCIMMEDIATE: Operation not supported" ;;
esac
exec tcpdump -i eth0 -n -U -w - "$last"
`

// TestBSD: on a system without an interface any the hint names those that there are, and what its devices do not take is
// taken back one by one.
func TestBSD(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	helper := b.WriteFile("bsd/tcpdump", 0o755, bsdTcpdump)
	const hint = "it has lo, eth0: pass one of them to --interface, or several; only Linux and recent versions of macOS have an interface any"
	for _, args := range [][]string{{"capture", "-o", output(t, "a.pcapng")}, {"check"}} {
		cmd := b.Hub.Command(binary, append(args, "web1", "--helper", helper)...)
		cmd.Env, cmd.Dir = env(b), t.TempDir()
		l := runLook(t, cmd)
		if text := l.stdout + l.stderr; l.status == 0 || !strings.Contains(text, "no such interface: any: No such device exists") || !strings.Contains(text, hint) {
			t.Errorf("%q: exit %d", args, l.status)
		}
	}
	l := look(t, b, "check", "web1", "--helper", helper, "--interface", "lo9")
	if l.status == 0 || !strings.Contains(l.stdout, "no such interface: BIOCSETIF: lo9: Device not configured") || !strings.Contains(l.stdout, "it has lo, eth0") {
		t.Errorf("check: exit %d, %s", l.status, l.stderr)
	}

	file := output(t, "x.pcapng")
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	c := start(t, b, "web1", "--interface", "em0", "--helper", helper, "-o", file)
	c.ready()
	if err := flow.Send(20, 1000); err != nil {
		t.Fatal(err)
	}
	bed.WaitFor(t, patience, "a packet is there", func() bool { return countRecords(file) > 0 })
	c.interrupt(0)
	c.check(file)
	if got := withoutOf(t, c); !slices.Equal(got, []string{"nanoseconds", "buffer size", "immediate mode"}) {
		t.Errorf("the report names %q", got)
	}
	if note := "web1: em0 gives packets late"; !strings.Contains(c.stderr.String(), note) {
		t.Errorf("it does not say %q", note)
	}
	clean(t, patience, h)
}
