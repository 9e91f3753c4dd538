package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// gateway makes an SSH server that leads each user elsewhere: root to one host, and one with sudo to another.
func gateway(b *bed.Bed, one, other *bed.Host) (config string) {
	script := b.WriteFile("gate.sh", 0o755, fmt.Sprintf(`#!/bin/sh
case $(id -un) in
root) exec nsenter --net='%s' sh -c "$SSH_ORIGINAL_COMMAND" ;;
esac
exec sudo -n --preserve-env=SSH_CONNECTION nsenter --net='%s' sh -c "$SSH_ORIGINAL_COMMAND"
`, one.Namespace(), other.Namespace()))
	gate := b.Add("gate", bed.Options{Config: "ForceCommand " + script})
	return users(b, gate)
}

// users is a configuration of names for two users of one server.
func users(b *bed.Bed, h *bed.Host) string {
	address := fmt.Sprintf("  HostName %s\n  HostKeyAlias %[1]s\n  Port %d\n", h.Addr, h.Port)
	return b.Config("Host one\n  User root\n" + address + "Host two\n  User " + bed.Sudoer + "\n" + address)
}

// TestGateway captures on two hosts that have one address, and which differ by the user.
func TestGateway(t *testing.T) {
	t.Parallel()
	bed.Require(t, "sudo", "nsenter")
	b := bed.New(t, tools...)
	web1, web2 := b.Add("web1", bed.Options{}), b.Add("web2", bed.Options{})
	config, file := gateway(b, web1, web2), output(t, "a.pcapng")
	flows := []*bed.Flow{
		(&bed.Flow{From: web1, To: web1, Port: 40001, Loopback: true}).Open(t),
		(&bed.Flow{From: web2, To: web2, Port: 40002, Loopback: true}).Open(t),
	}
	c := start(t, b, "one", "two", "-F", config, "-o", file, "--interface", "lo", "-f", flowFilter).ready()
	if err := bed.SendAll(50, 500, flows...); err != nil {
		t.Fatal(err)
	}
	arrived(t, file, 100)
	c.interrupt(0)
	clean(t, patience, web1, web2)
	if r := c.check(file); r.states() != "one=ok two=ok" {
		t.Errorf("states %s", r.states())
	}
	exactly(t, file, sight{flows[0], "one:lo"}, sight{flows[1], "two:lo"})
	if strings.Contains(c.stderr.String(), "same host") {
		t.Errorf("it says %s", c.stderr.String())
	}
}

// TestGatewayToOneHost: two users who are led to one host are found out, as two names of a host are.
func TestGatewayToOneHost(t *testing.T) {
	t.Parallel()
	bed.Require(t, "sudo", "nsenter")
	b := bed.New(t, tools...)
	web1 := b.Add("web1", bed.Options{})
	c := start(t, b, "one", "two", "-F", gateway(b, web1, web1), "-o", output(t, "a.pcapng"), "--interface", "lo", "-f", "udp port 9").ready()
	c.interrupt(3)
	clean(t, patience, web1)
	states := c.result().states()
	if states != "one=ok two=failed" && states != "one=failed two=ok" || !strings.Contains(c.stderr.String(), "it is the same host as ") {
		t.Errorf("states %s: %s", states, c.stderr.String())
	}
}

// TestSameHostOrNot: where nothing tells whether two users of a server are on one host, both are captured on, none of them
// captures the connection of the other, and it is said.
func TestSameHostOrNot(t *testing.T) {
	t.Parallel()
	bed.Require(t, "sudo")
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{Hide: []string{"readlink"}})
	file := output(t, "a.pcapng")
	c := start(t, b, "one", "two", "-F", users(b, h), "-o", file)
	quiet(t, c, file)
	clean(t, patience, h)
	if r := c.result(); r.states() != "one=ok two=ok" || !strings.Contains(c.stderr.String(), "it may be the same host as ") {
		t.Errorf("states %s: %s", r.states(), c.stderr.String())
	}
}

// TestOneLoginTwice: what is surely the same is a mistake, as ever.
func TestOneLoginTwice(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	c := start(t, b, "web1", "root@"+h.Addr, "-o", output(t, "a.pcapng"))
	c.exit(patience, 2)
	c.complaint("", "are the same host")
}
