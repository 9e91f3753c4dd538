package tests

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/internal/cftest/api"
)

// look runs `sshpcap ARGS` to its end.
func (p *platform) look(t *testing.T, args ...string) looked {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Dir = p.env(), t.TempDir()
	return runLook(t, cmd)
}

// TestCloudFoundryCheck: apps that work, with helpers of both versions; an app that is not found hides nothing.
func TestCloudFoundryCheck(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "CFPCAP_OLD=1"} {
		t.Run("helper "+version, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, 2, version)
			p.api.Change(func(s *api.Server) {
				web := &s.Apps[0].Processes[0]
				web.Instances = append(web.Instances, api.Instance{State: api.Crashed, Details: "out of memory"})
			})
			l := p.look(t, "check", "--json", "cf:shop", "-f", flowFilter, "--interface", "eth0", "--interface", "lo")
			clean(t, patience, p.hosts...)
			c := l.json()
			if l.status != 0 || len(c.Instances) != 2 || c.Problem != "" || l.stderr != "shop/web/2 is crashed and is left out (out of memory)\nChecking 2 instances\n" {
				t.Errorf("exit %d", l.status)
			}
			for i, in := range c.Instances {
				if in.Name != "shop/web/"+string(rune('0'+i)) || in.Target != "cf:"+in.Name || !in.Works || in.states() != "oooooooo" || len(in.Captures) != 2 {
					t.Errorf("%+v", in)
				}
				if in.Helper != "/tmp/lifecycle/cf-pcap" || in.HelperVersion != "" || in.Sudo || in.RoundTrip == nil || in.Clock == nil || in.Sessions == nil || in.Throughput == nil {
					t.Errorf("%+v", in)
				}
			}
			p.secretsIn(nil, l.stdout, l.stderr)

			l = p.look(t, "check", "--json", "cf:shop/0", "cf:nope")
			if c := l.json(); l.status != 1 || !strings.Contains(c.Problem, "cf:nope") || len(c.Instances) != 2 || !c.Instances[0].Works || c.Instances[1].states() != "fsssssss" {
				t.Errorf("exit %d", l.status)
			}
			clean(t, patience, p.hosts...)
		})
	}
}

// TestCloudFoundryCheckAsCapture: for everything that can be wrong, check and capture say the same.
func TestCloudFoundryCheckAsCapture(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 1)
	p.grow("CFPCAP_DENIED=1")
	p.grow().Lifecycle = t.TempDir() // an old platform: no helper
	change := func(f func(s *api.Server)) func() { return func() { p.api.Change(f) } }
	for _, test := range []struct {
		name          string
		before, after func()
		args          []string
		states        string
	}{
		{name: "no code", before: change(func(s *api.Server) {
			s.Faults = []api.Fault{{Path: "/uaa/oauth/authorize", Times: 2, Status: 403, Body: `{"error":"access_denied","error_description":"not today"}`}}
		}), after: change(func(s *api.Server) { s.Faults = nil }), args: []string{"cf:shop/0"}, states: "oofsssss"},
		{name: "bad filter", args: []string{"cf:shop/0", "-f", "tcp porrt 1"}, states: "ooooooof"},
		{name: "bad interface", args: []string{"cf:shop/0", "--interface", "nope0"}, states: "oooooofs"},
		{name: "not allowed", args: []string{"cf:shop/1"}, states: "ooooofss"},
		{name: "no helper", args: []string{"cf:shop/2"}, states: "oooofsss"},
		{name: "unreachable", before: func() { p.containers[0].Unreachable.Store(true) }, after: func() { p.containers[0].Unreachable.Store(false) },
			args: []string{"cf:shop/0"}, states: "foosssss"},
		{name: "another host key", before: change(func(s *api.Server) { s.Fingerprint = strings.Repeat("A", 43) }),
			after: change(func(s *api.Server) { s.Fingerprint = p.proxy.Fingerprints().SHA256Base64 }), args: []string{"cf:shop/0"}, states: "ofssssss"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.before != nil {
				test.before()
				defer test.after()
			}
			l := p.look(t, append([]string{"check", "--json"}, test.args...)...)
			in := l.json().Instances[0]
			if l.status != 1 || in.Works || in.states() != test.states || len(in.Problems) != 1 || in.Problems[0].Hint == "" {
				t.Errorf("exit %d, works %v, steps %s, want %s", l.status, in.Works, in.states(), test.states)
			}
			c := p.start(append(test.args, "-o", output(t, "x.pcapng"))...)
			c.exit(patience, 1)
			if got := c.result().Instances[0]; len(in.Problems) == 1 && (in.Problems[0].Problem != got.Problem || in.Problems[0].Hint != got.Hint && in.Problems[0].Step != "interface") {
				t.Errorf("check says   %+v\ncapture says %s (%s)", in.Problems[0], got.Problem, got.Hint)
			}
			p.secretsIn(nil, l.stdout, l.stderr)
		})
	}
	clean(t, patience, p.hosts...)
}

// TestCloudFoundrySSHDisabled: one question about the app, one answer about all its instances, and no login. A list needs
// none.
func TestCloudFoundrySSHDisabled(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 3)
	p.api.Change(func(s *api.Server) { s.Apps[0].SSHDisabled = "ssh is disabled for app" })
	c := p.start("cf:shop", "-o", output(t, "x.pcapng"))
	c.exit(patience, 1)
	const problem = "app 'shop': ssh is disabled for app"
	if text := c.stderr.String(); text != "sshpcap: "+problem+"\nhint: 'cf enable-ssh shop', then 'cf restart shop': running instances take it over only then\n" {
		t.Errorf("capture says:\n%s", text)
	}
	l := p.look(t, "check", "--json", "cf:shop")
	report := l.json()
	if l.status != 1 || len(report.Instances) != 1 || report.Instances[0].states() != "fsssssss" || report.Instances[0].Problems[0].Problem != problem {
		t.Errorf("check: exit %d, %s", l.status, l.stdout)
	}
	if n := p.api.Count("GET /v3/apps/" + p.api.ProcessGUID("shop", "web") + "/ssh_enabled"); n != 2 {
		t.Errorf("%d questions in two runs", n)
	}
	if p.api.Count("GET /uaa/oauth/authorize") != 0 || p.proxy.Accepted() != 0 {
		t.Errorf("%d codes, %d connections", p.api.Count("GET /uaa/oauth/authorize"), p.proxy.Accepted())
	}
	if l := p.look(t, "list", "cf:shop"); l.status != 0 || !strings.Contains(l.stdout, "shop/web/2") {
		t.Errorf("list: exit %d, %s%s", l.status, l.stdout, l.stderr)
	}
}

// TestCloudFoundryList: what the platform says; no instance is logged in to.
func TestCloudFoundryList(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 2)
	p.api.Change(func(s *api.Server) {
		web := &s.Apps[0].Processes[0]
		web.Instances = append(web.Instances, api.Instance{State: api.Crashed, Details: "out of memory"})
		s.Apps = append(s.Apps, api.App{Name: "old", State: "STOPPED"})
	})
	l := p.look(t, "list", "cf:shop", "cf:nope", "cf:shop/2", "cf:old")
	lines := strings.Split(l.stdout, "\n")
	for i, want := range []string{"INSTANCE STATE ADDRESS INTERFACES", "shop/web/0 RUNNING " + p.hosts[0].Addr + " ?", "shop/web/1 RUNNING " + p.hosts[1].Addr + " ?", "shop/web/2 CRASHED ",
		"cf:nope failed - ?", "cf:old STOPPED - ?", ""} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	if l.status != 3 || strings.Count(l.stderr, "sshpcap: ") != 1 || !strings.Contains(l.stderr, "App 'nope' not found") {
		t.Errorf("exit %d", l.status)
	}
	if l := p.look(t, "list", "cf:shop", "-o", "name"); l.status != 0 || l.stdout != "cf:shop/web/0\ncf:shop/web/1\n" {
		t.Errorf("names: exit %d", l.status)
	}
	for _, c := range p.containers {
		if n := c.Commands(); n > 0 {
			t.Errorf("%d commands were run", n)
		}
	}
}
