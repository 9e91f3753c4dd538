package tests

import (
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// TestSelfFilter: without a filter and on any interface, an instance where nothing happens stays silent, although the
// capture's own connection is busy there. Only ARP is not ours: neighbours look each other up when they want.
func TestSelfFilter(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		options bed.Options
		jump    bool
		args    []string
		filter  string
	}{
		"direct":                      {},
		"own port":                    {options: bed.Options{Port: 2200}},
		"several connections":         {options: bed.Options{Config: "MaxSessions 1"}, args: []string{"--interface", "any", "--interface", "eth0"}},
		"with sudo":                   {options: bed.Options{User: bed.Sudoer}},
		"sudo first":                  {options: bed.Options{User: bed.Sudoer}, args: []string{"--sudo", "always"}},
		"dropbear":                    {options: bed.Options{User: bed.Sudoer, Dropbear: true}},
		"jump":                        {options: bed.Options{Nets: []int{1}, Jump: "bastion"}, jump: true},
		"with a filter of the user's": {filter: "tcp or udp"},
		"or in the filter":            {filter: "udp or port 22"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bed.Require(t, "sudo")
			b := bed.New(t, tools...)
			if how.jump {
				b.Add("bastion", bed.Options{Nets: []int{0, 1}})
			}
			h := b.Add("web1", how.options)
			file := output(t, "a.pcapng")
			args := append([]string{"web1", "-o", file}, how.args...)
			if how.filter != "" {
				args = append(args, "-f", how.filter)
			}
			c := start(t, b, args...).ready()
			time.Sleep(4 * time.Second) // of silence, with a heartbeat in it
			c.interrupt(0)
			clean(t, patience, h)
			if c.result().Packets == 0 {
				return
			}
			if own := matching(t, file, "not arp"); len(own) > 0 {
				t.Errorf("%d packets of our own: %q", len(own), own[:min(5, len(own))])
			}
		})
	}
}

// TestNoSelfFilter is the proof that the silence above is the filter's doing.
func TestNoSelfFilter(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "-o", file, "--no-self-filter", "-c", "20").ready()
	c.exit(patience, 0)
	clean(t, patience, h)
	if r := c.check(file); r.Packets != 20 || r.states() != "web1=ok" {
		t.Errorf("%d packets, states %s", r.Packets, r.states())
	}
}
