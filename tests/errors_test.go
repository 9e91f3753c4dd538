package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// TestProblems: everything that can be wrong with one instance is one problem line and one hint, exit code 1, no file,
// and nothing left behind.
func TestProblems(t *testing.T) {
	t.Parallel()
	bed.Require(t, "nft", "sudo")
	b := bed.New(t, tools...)
	hosts := []*bed.Host{
		b.Add("good", bed.Options{}),
		b.Add("unknown", bed.Options{Unknown: true}),
		b.Add("changed", bed.Options{Impostor: true}),
		b.Add("bare", bed.Options{Hide: []string{"tcpdump", "dumpcap"}}),
		b.Add("plain", bed.Options{User: bed.Plain}),
		b.Add("sudopw", bed.Options{User: bed.Password}),
		b.Add("sudotty", bed.Options{User: bed.Terminal}),
		b.Add("nosudo", bed.Options{User: bed.Plain, Hide: []string{"sudo"}}),
		b.Add("nologin", bed.Options{User: bed.NoLogin}),
		b.Add("hello", bed.Options{Config: "ForceCommand echo hello"}),
		b.Add("silent", bed.Options{Config: "ForceCommand true"}),
		b.Add("hole", bed.Options{}),
		b.Add("jumper", bed.Options{Jump: "good", Port: 2022}),
	}
	hosts[11].BlackHole()
	hosts[12].LinkDown()
	stranger := filepath.Join(b.Home(), "stranger")
	for _, how := range []struct {
		name    string
		target  string
		args    []string
		problem []string // what the problem line says
		hint    string   // what the hint says
	}{
		{name: "unknown host key", target: "unknown", problem: []string{"key", "SHA256:"}, hint: "known_hosts"},
		{name: "changed host key", target: "changed", problem: []string{"changed"}, hint: "known_hosts"},
		{name: "wrong key", target: "good", args: []string{"-F", b.WriteFile("only-stranger", 0o600,
			"Host good\n  HostName "+hosts[0].Addr+"\n  User root\n  IdentitiesOnly yes\n  IdentityFile "+stranger+"\n  UserKnownHostsFile "+b.Home()+"/.ssh/known_hosts\n")},
			problem: []string{"root"}, hint: "--identity"},
		{name: "unknown user", target: "nobody-there@good", problem: []string{"nobody-there"}, hint: "--identity"},
		{name: "no such identity", target: "good", args: []string{"--identity", "/nonexistent/key"}, problem: []string{"/nonexistent/key"}, hint: "--identity"},
		{name: "refused", target: "good:2222", problem: []string{"refused"}},
		{name: "unknown host", target: "nosuch.invalid", problem: []string{"nosuch.invalid"}},
		{name: "timeout", target: "hole", args: []string{"--connect-timeout", "1s"}, problem: []string{"1s"}, hint: "--connect-timeout"},
		{name: "nothing there", target: "10.77.0.250", args: []string{"--connect-timeout", "5s"}},
		{name: "no way from the jump host", target: "jumper", args: []string{"--connect-timeout", "5s"}},
		{name: "bad filter", target: "good", args: []string{"-f", "tcp prot 80"}, problem: []string{"filter", "syntax error"}, hint: "pcap-filter"},
		{name: "bad interface", target: "good", args: []string{"--interface", "nope0"}, problem: []string{"nope0"}, hint: "--interface"},
		{name: "no permission", target: "plain", args: []string{"--sudo", "never"}, problem: []string{"permi"}, hint: "--sudo"},
		{name: "no permission, no sudo rights", target: "plain", problem: []string{"sudo"}},
		{name: "sudo wants a password", target: "sudopw", problem: []string{"sudo", "password"}, hint: "NOPASSWD"},
		{name: "sudo wants a terminal", target: "sudotty", problem: []string{"sudo"}, hint: "requiretty"},
		{name: "no sudo", target: "nosudo", problem: []string{"sudo"}},
		{name: "no helper", target: "bare", problem: []string{"no capture program"}, hint: "tcpdump"},
		{name: "no such helper", target: "good", args: []string{"--helper", "/nonexistent/tcpdump"}, problem: []string{"/nonexistent/tcpdump"}, hint: "--helper"},
		{name: "no shell", target: "nologin"},
		{name: "something else than packets", target: "hello", problem: []string{"hello"}},
		{name: "nothing at all", target: "silent"},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			file := output(t, "a.pcapng")
			c := start(t, b, append([]string{"-o", file, how.target}, how.args...)...)
			c.exit(patience, 1)
			problem, hint := c.complaint(how.target, how.problem...)
			if !strings.Contains(hint, how.hint) {
				t.Errorf("the hint does not say %q: %s", how.hint, hint)
			}
			t.Logf("%s\n%s", problem, hint)
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("it left a file: %v", err)
			}
			if r := c.result(); len(r.Instances) != 1 || r.Instances[0].State != "failed" || r.Instances[0].Problem == "" || r.Instances[0].Hint == "" {
				t.Errorf("report: %+v", r.Instances)
			}
		})
	}
	t.Cleanup(func() { clean(t, patience, hosts...) }) // after the subtests
}

// TestOneProblemLine: one problem is told once, with one hint.
func TestOneProblemLine(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	b.Add("web1", bed.Options{})
	c := start(t, b, "web1:2222", "-o", output(t, "a.pcapng"))
	c.exit(patience, 1)
	said := "\n" + c.stderr.String()
	if p, h := strings.Count(said, "\nsshpcap: "), strings.Count(said, "\nhint: "); p != 1 || h != 1 {
		t.Errorf("%d problem lines and %d hints for one problem:%s", p, h, said)
	}
}

// TestSkipHostValidation: what the host key errors are about can be turned off.
func TestSkipHostValidation(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	hosts := []*bed.Host{b.Add("unknown", bed.Options{Unknown: true}), b.Add("changed", bed.Options{Impostor: true})}
	c := start(t, b, "unknown", "changed", "-k", "-o", output(t, "a.pcapng")).ready()
	c.interrupt(0)
	clean(t, patience, hosts...)
}

// TestSSHFlags: user, key and configuration given as flags instead of in ~/.ssh.
func TestSSHFlags(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	key := filepath.Join(b.Home(), "moved")
	if err := os.Rename(filepath.Join(b.Home(), ".ssh", "id_ed25519"), key); err != nil {
		t.Fatal(err)
	}
	config := b.WriteFile("other_config", 0o644, "Host elsewhere\n  HostName "+h.Addr+"\n  UserKnownHostsFile "+b.Home()+"/.ssh/known_hosts\n")
	c := start(t, b, "-l", "root", "--identity", key, "-F", config, "elsewhere", "-o", output(t, "a.pcapng")).ready()
	c.interrupt(0)
	if got := c.result().states(); got != "elsewhere=ok" {
		t.Errorf("states %s", got)
	}
	clean(t, patience, h)
}

// TestTargets: addresses, users, ports, URLs and files of targets; flags before, between and after them.
func TestTargets(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	hosts := []*bed.Host{b.Add("web1", bed.Options{}), b.Add("web2", bed.Options{Port: 2022}), b.Add("web3", bed.Options{}), b.Add("web4", bed.Options{})}
	list := b.WriteFile("hosts.txt", 0o644, "# the rest\nweb3\n\n  root@"+hosts[3].Addr+"  \n")
	file := output(t, "a.pcapng")
	c := start(t, b, "-f", flowFilter, "-s", snaplen, "web1", "--interface", "eth0", "ssh://root@"+hosts[1].Addr+":2022", "-d", "1s", "@"+list, "-o", file)
	c.exit(patience, 0)
	want := "web1=ok root@" + hosts[1].Addr + ":2022=ok web3=ok root@" + hosts[3].Addr + "=ok"
	if got := c.result().states(); got != want {
		t.Errorf("states %s, want %s", got, want)
	}
	clean(t, patience, hosts...)
}
