package tests

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// detour is a way to an SSH server on which the connection looks different from what the server sees.
type detour struct {
	name  string
	tools []string
	lay   func(b *bed.Bed, h *bed.Host) (target string)
	ended bool // it cannot be left out: the capture ends
	both  bool // with any and with eth0, always
}

const sshPort = 2222

var detours = []detour{
	{name: "iptables REDIRECT", tools: []string{"iptables"}, lay: func(b *bed.Bed, h *bed.Host) string {
		h.Redirect(2200, false)
		return h.Addr + ":2200"
	}},
	{name: "nft redirect", tools: []string{"nft"}, lay: func(b *bed.Bed, h *bed.Host) string {
		h.Redirect(2200, true)
		return h.Addr + ":2200"
	}},
	{name: "proxy", tools: []string{"socat"}, lay: func(b *bed.Bed, h *bed.Host) string {
		h.Proxy(443)
		return h.Addr + ":443"
	}},
	{name: "VXLAN", lay: func(b *bed.Bed, h *bed.Host) string { return fmt.Sprint(h.Tunnel("vxlan", 4789), ":", sshPort) }},
	{name: "GENEVE", lay: func(b *bed.Bed, h *bed.Host) string { return fmt.Sprint(h.Tunnel("geneve", 6081), ":", sshPort) }},
	{name: "GRE", lay: func(b *bed.Bed, h *bed.Host) string { return fmt.Sprint(h.Tunnel("gre", 0), ":", sshPort) }},
	{name: "GRE with Ethernet", lay: func(b *bed.Bed, h *bed.Host) string { return fmt.Sprint(h.Tunnel("gretap", 0), ":", sshPort) }},
	{name: "IPIP", lay: func(b *bed.Bed, h *bed.Host) string { return fmt.Sprint(h.Tunnel("ipip", 0), ":", sshPort) }},
	{name: "VXLAN on a port of its own", ended: true, lay: func(b *bed.Bed, h *bed.Host) string {
		return fmt.Sprint(h.Tunnel("vxlan", 5555), ":", sshPort)
	}},
	{name: "enciphered once more", ended: true, both: true, lay: func(b *bed.Bed, h *bed.Host) string { return fmt.Sprint(h.Secret(51820), ":", sshPort) }},
	{name: "proxy behind NAT", tools: []string{"socat", "iptables"}, ended: true, lay: func(b *bed.Bed, h *bed.Host) string {
		h.Proxy(443)
		b.Disguise(443)
		return h.Addr + ":443"
	}},
}

// TestDetours captures on an idle host whose SSH server is reached in another way than it sees itself.
func TestDetours(t *testing.T) {
	t.Parallel()
	for _, d := range detours {
		for _, iface := range []string{"any", "eth0"} {
			if iface != "any" && !soak && !d.both && len(d.tools) < 1 {
				continue // it is as with any
			}
			t.Run(d.name+"/"+iface, func(t *testing.T) {
				t.Parallel()
				bed.Require(t, d.tools...)
				b := bed.New(t, tools...)
				h := b.Add("web1", bed.Options{Port: sshPort})
				target, file := d.lay(b, h), output(t, "a.pcapng")
				c := start(t, b, target, "-k", "-o", file, "--interface", iface, "--max-size", "200MB")
				if d.ended {
					feeds(t, c, target, file)
				} else {
					quiet(t, c, file)
				}
				clean(t, patience, h)
			})
		}
	}
}

// TestJumpHostIsTarget captures on a jump host, where nothing happens but what it carries for the host behind it.
func TestJumpHostIsTarget(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		iface string
		named bool
	}{"any": {"any", false}, "eth0": {"eth0", false}, "by name": {"any", true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bed.New(t, tools...)
			inner := b.Add("inner", bed.Options{Nets: []int{1}, Jump: "bastion"})
			b.Names = inner.Addr + " inner.example.com\n"
			bastion := b.Add("bastion", bed.Options{Nets: []int{0, 1}})
			file := output(t, "a.pcapng")
			args := []string{"bastion", "inner", "-o", file, "--interface", how.iface}
			if how.named {
				args = append(args, "-F", b.Config("Host inner\n  HostName inner.example.com\n  HostKeyAlias "+inner.Addr+"\n"))
			}
			quiet(t, start(t, b, args...), file)
			clean(t, patience, bastion, inner)
		})
	}
}

// settled lets a capture run for a while.
func settled(t *testing.T, c *client) {
	t.Helper()
	c.ready()
	time.Sleep(length(3*time.Second, 10*time.Second)) // with a sign of life in it
}

// TestTwoNamesOneHost captures on one host by two addresses, where it does not tell that it is one. Each would capture what the
// other one sends.
func TestTwoNamesOneHost(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{Nets: []int{0, 1}, Hide: []string{"readlink"}})
	b.Side(1, h)
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", h.In(1), "-k", "-o", file, "--max-size", "200MB")
	bed.WaitFor(t, patience, "one of them is ended", func() bool { return strings.Contains(c.stderr.String(), "which in turn carries") })
	c.interrupt(3)
	r := c.check(file)
	if got := r.states(); got != "web1=ok "+h.In(1)+"=lost" && got != "web1=lost "+h.In(1)+"=ok" || r.Output.Bytes > 50<<20 {
		t.Errorf("states %s, %d bytes", got, r.Output.Bytes)
	}
	t.Logf("%d bytes", r.Output.Bytes)
	clean(t, patience, h)
}

// TestBusyIsNotFeedback floods a host while it is captured, at the full speed of its link, whole packets and small parts of them.
func TestBusyIsNotFeedback(t *testing.T) {
	t.Parallel()
	for _, snaplen := range []string{"0", "96", "60"} {
		t.Run(snaplen, func(t *testing.T) {
			t.Parallel()
			b := bed.New(t, tools...)
			h := b.Add("web1", bed.Options{})
			flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001, Size: 1400}).Open(t)
			file := output(t, "a.pcapng")
			c := start(t, b, "web1", "-o", file, "-s", snaplen, "-f", "udp port 40001").ready()
			n := 20_000
			if soak {
				n = 2_000_000
			}
			if err := flow.Send(n, 200_000); err != nil {
				t.Fatal(err)
			}
			arrived(t, file, 1)
			c.interrupt(0)
			clean(t, patience, h)
			r := c.check(file)
			if f := r.Instances[0].Interfaces[0]; r.states() != "web1=ok" || f.Dropped == nil || int(r.Packets+*f.Dropped) != flow.Sent() {
				t.Errorf("states %s, %d packets of %d", r.states(), r.Packets, flow.Sent())
			}
		})
	}
}

// TestBusyBehindTunnel floods a host through a tunnel that enciphers, which carries the capture, too. Inside the tunnel our own connection is
// left out, and all else is captured.
func TestBusyBehindTunnel(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{Port: sshPort})
	target := fmt.Sprint(h.Secret(51820), ":", sshPort)
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001, Net: bed.SecretNet, Size: 600}).Open(t)
	file := output(t, "a.pcapng")
	c := start(t, b, target, "-k", "-o", file, "--interface", "secret").ready()
	if err := flow.Send(40_000, 20_000); err != nil {
		t.Fatal(err)
	}
	arrived(t, file, 1)
	c.interrupt(0)
	clean(t, patience, h)
	if r := c.check(file); r.states() != target+"=ok" || r.Packets < 2000 {
		t.Errorf("states %s, %d packets", r.states(), r.Packets)
	}
}

// quiet checks that next to nothing is captured.
func quiet(t *testing.T, c *client, file string) {
	t.Helper()
	settled(t, c)
	c.interrupt(0)
	small(t, file)
}

// small checks that a file has next to nothing, and nothing of ours.
func small(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		return // no packet, no file
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() > 100_000 {
		t.Fatalf("an idle host gave %d bytes", info.Size())
	}
	if own := matching(t, file, "tcp"); len(own) > 0 {
		t.Errorf("%d packets of our own: %q", len(own), own[:min(5, len(own))])
	}
}

// feeds checks that a capture that feeds itself is ended, and that what it says helps.
func feeds(t *testing.T, c *client, target, file string) {
	t.Helper()
	c.exit(patience, 3)
	_, hint := c.complaint(target, "our own SSH connection")
	r := c.check(file)
	if r.states() != target+"=lost" || r.Output.Bytes > 50<<20 {
		t.Errorf("states %s, %d bytes", r.states(), r.Output.Bytes)
	}
	t.Logf("%d bytes; %s", r.Output.Bytes, hint)
	if !strings.Contains(hint, "--filter 'not (") || !strings.Contains(hint, "--no-self-filter") {
		t.Errorf("hint %s", hint)
	}
}
