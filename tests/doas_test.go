package tests

import (
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// TestDoas: without sudo, doas gives the rights, and what it starts ends like the rest. Where it does not, the hint has the
// line that is to be added.
func TestDoas(t *testing.T) {
	t.Parallel()
	bed.Require(t, "doas")
	b := bed.New(t, tools...)
	hosts := []*bed.Host{
		b.Add("web1", bed.Options{User: bed.Plain, Hide: []string{"sudo"}, Doas: "permit nopass plain as root cmd sh\n"}),
		b.Add("asks", bed.Options{User: bed.Plain, Hide: []string{"sudo"}, Doas: "permit plain as root cmd sh\n"}),
		b.Add("tcpdump", bed.Options{User: bed.Plain, Hide: []string{"sudo"}, Doas: "permit nopass plain as root cmd tcpdump\n"}),
	}
	c := start(t, b, "web1", "asks", "tcpdump", "-f", "udp port 7", "-o", output(t, "a.pcapng"))
	c.ready()
	c.interrupt(3)
	if r := c.result(); r.states() != "web1=ok asks=failed tcpdump=failed" || !r.Instances[0].Sudo {
		t.Errorf("states %s", r.states())
	}
	for _, want := range []string{"doas asks for a password on the instance", "doas refuses: Operation not permitted", "adding to /etc/doas.conf the line: permit nopass plain as root cmd sh - or"} {
		if !strings.Contains(c.stderr.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	clean(t, patience, hosts...)
}

// TestSudoHint: a user whose sudo wants a password, or who may run tcpdump alone, is told the line that is missing, and
// nothing is started. Where doas does what sudo refuses, it is taken.
func TestSudoHint(t *testing.T) {
	t.Parallel()
	bed.Require(t, "sudo", "doas")
	b := bed.New(t, tools...)
	permit := "permit nopass " + bed.Password + " as root cmd sh\npermit nopass " + bed.Tcpdump + " as root cmd sh\n"
	for _, c := range []struct {
		name  string
		host  bed.Options
		says  []string
		state string
	}{
		{"password", bed.Options{User: bed.Password}, []string{"sudo asks for a password", "adding to sudoers (visudo) the line: " + bed.Password + " ALL=(root) NOPASSWD: /"}, "failed"},
		{"only", bed.Options{User: bed.Tcpdump}, []string{"sudo is allowed for tcpdump there, but not for sh", "adding to sudoers (visudo) the line: " + bed.Tcpdump + " ALL=(root) NOPASSWD: /"}, "failed"},
		{"doas-d", bed.Options{User: bed.Plain, Hide: []string{"sudo"}, DoasDir: true}, []string{"adding to a file *.conf in /etc/doas.d the line: permit nopass plain as root cmd sh"}, "failed"},
		{"doas", bed.Options{User: bed.Password, Doas: permit}, nil, "ok"},
		{"only-doas", bed.Options{User: bed.Tcpdump, Doas: permit}, nil, "ok"},
	} {
		h := b.Add(c.name, c.host)
		t.Run(c.name, func(t *testing.T) {
			got := start(t, b, c.name, "-f", "udp port 7", "-o", output(t, "a.pcapng"))
			if c.state == "ok" {
				got.ready()
				got.interrupt(0)
				if r := got.result(); r.states() != c.name+"=ok" || !r.Instances[0].Sudo {
					t.Errorf("states %s", r.states())
				}
			} else {
				got.exit(patience, 1)
			}
			for _, want := range append(c.says, map[bool]string{true: "sudo setcap "}[c.says != nil]) {
				if !strings.Contains(got.stderr.String(), want) {
					t.Errorf("it does not say %q", want)
				}
			}
			clean(t, patience, h)
		})
	}
}
