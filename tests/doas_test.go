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
	for _, want := range []string{"doas asks for a password on the instance", "doas refuses: Operation not permitted", "adding to doas.conf the line: permit nopass plain as root cmd sh - or"} {
		if !strings.Contains(c.stderr.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	clean(t, patience, hosts...)
}

// TestSudoHint: a user who may run tcpdump alone is told the line that is missing, and nothing is started.
func TestSudoHint(t *testing.T) {
	t.Parallel()
	bed.Require(t, "sudo")
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{User: bed.Password})
	c := start(t, b, "web1", "-o", output(t, "a.pcapng"))
	c.exit(patience, 1)
	want := "adding to sudoers (visudo) the line: " + bed.Password + " ALL=(root) NOPASSWD: /"
	if !strings.Contains(c.stderr.String(), want) || !strings.Contains(c.stderr.String(), "sudo setcap ") {
		t.Errorf("it does not say %q", want)
	}
	clean(t, patience, h)
}
