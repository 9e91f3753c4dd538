package tests

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/sshpcap/sshpcap/internal/cftest/api"
	"github.com/sshpcap/sshpcap/internal/cftest/container"
	"github.com/sshpcap/sshpcap/internal/cftest/fakecf"
	"github.com/sshpcap/sshpcap/tests/bed"
)

// platform is a Cloud Foundry with one app, shop, whose containers are hosts of a bed.
type platform struct {
	t          *testing.T
	bed        *bed.Bed
	api        *api.Server
	proxy      *container.Proxy
	lifecycle  string // folder with cf-pcap
	home       string // CF_HOME
	hosts      []*bed.Host
	flows      []*bed.Flow // from the hub to each container
	containers []*container.Container
}

// newPlatform makes a platform with n running instances of shop's process web. env is that of the containers.
func newPlatform(t *testing.T, n int, env ...string) *platform {
	t.Helper()
	p := &platform{t: t, bed: bed.New(t, tools...), api: new(api.Server), lifecycle: helperFolder(t), home: t.TempDir()}
	p.api.Apps = []api.App{{Name: "shop", Processes: []api.Process{{Type: "web"}}}}
	p.proxy = &container.Proxy{
		TakeCode: func(code string) bool { _, ok := p.api.TakeCode(code); return ok },
		Allow:    p.api.MayLogin,
	}
	must(t, p.proxy.Start())
	t.Cleanup(func() { p.proxy.Close() })
	p.api.SSH, p.api.Fingerprint = p.proxy.Addr(), p.proxy.Fingerprints().SHA256Base64
	must(t, p.api.Start())
	t.Cleanup(p.api.Close)
	_, err := p.api.WriteConfig(p.home, nil)
	must(t, err)
	for range n {
		p.grow(env...)
	}
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var helper struct {
	sync.Once
	dir string
	err error
}

// helperFolder has a cf-pcap, which is built once. It lives as long as the tests' binary.
func helperFolder(t *testing.T) string {
	t.Helper()
	helper.Do(func() {
		helper.dir = filepath.Join(filepath.Dir(binary), "lifecycle")
		if helper.err = os.MkdirAll(helper.dir, 0o755); helper.err == nil {
			_, helper.err = container.BuildHelper(helper.dir)
		}
		if helper.err == nil { // for containers without a tcpdump
			helper.err = exec.Command("cp", tcpdump(t), filepath.Join(helper.dir, "compile-filter")).Run()
		}
	})
	must(t, helper.err)
	return helper.dir
}

// tcpdump is where this machine has it.
func tcpdump(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("tcpdump")
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	must(t, err)
	return path
}

// grow adds a running instance whose container has no tcpdump. The ring of its cf-pcap is large: packets are counted, and
// the machine is busy.
func (p *platform) grow(env ...string) *container.Container {
	p.t.Helper()
	i := len(p.hosts)
	host := p.bed.Add(fmt.Sprintf("c%d", i), bed.Options{})
	c := &container.Container{
		GUID: p.api.ProcessGUID("shop", "web"), Index: i, Lifecycle: p.lifecycle, Env: append([]string{"CFPCAP_SLOTS=512"}, env...), Hidden: []string{tcpdump(p.t)},
		Prefix: host.Command("x").Args[:len(host.Command("x").Args)-1],
	}
	p.proxy.Add(c)
	p.t.Cleanup(func() { c.Close() })
	p.hosts = append(p.hosts, host)
	p.containers = append(p.containers, c)
	p.flows = append(p.flows, (&bed.Flow{From: p.bed.Hub, To: host, Port: 40001 + i}).Open(p.t))
	p.api.Change(func(s *api.Server) {
		web := &s.Apps[0].Processes[0]
		web.Instances = append(web.Instances, api.Instance{GUID: fmt.Sprintf("guid-%d", i), Host: "10.0.16.5", InternalIP: host.Addr})
	})
	return c
}

// setState changes what the platform says of an instance.
func (p *platform) setState(i int, state string) {
	p.api.Change(func(s *api.Server) { s.Apps[0].Processes[0].Instances[i].State = state })
}

func (p *platform) env() []string {
	return append(env(p.bed), "CF_HOME="+p.home, "CF_PLUGIN_HOME="+p.home)
}

// start runs `sshpcap capture ARGS`.
func (p *platform) start(args ...string) *client {
	p.t.Helper()
	c := &client{t: p.t, report: filepath.Join(p.t.TempDir(), "report.json"), done: make(chan struct{})}
	c.cmd = exec.Command(binary, append([]string{"capture", "--report", c.report}, args...)...)
	c.cmd.Env, c.cmd.Dir, c.cmd.Stderr = p.env(), p.t.TempDir(), &c.stderr
	must(p.t, c.cmd.Start())
	c.watch()
	return c
}

// sights is what each instance sees of the flow to it.
func (p *platform) sights(iface string) (all []sight) {
	for i, f := range p.flows {
		all = append(all, sight{f, fmt.Sprintf("shop/web/%d:%s", i, iface)})
	}
	return all
}

// secretsIn checks that nothing of what must stay secret is in files or texts.
func (p *platform) secretsIn(files []string, texts ...string) {
	p.t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(p.t, err)
		texts = append(texts, string(text))
	}
	secrets := p.api.Secrets()
	if len(secrets) < 2 {
		p.t.Errorf("only %d secrets were given out", len(secrets))
	}
	for _, secret := range secrets {
		for _, text := range texts {
			if strings.Contains(text, secret) {
				p.t.Errorf("a secret is in %.300q", text)
			}
		}
	}
}

func TestCloudFoundry(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "CFPCAP_OLD=1"} {
		t.Run("helper "+version, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, 3, version)
			p.api.Change(func(s *api.Server) {
				web := &s.Apps[0].Processes[0]
				web.Instances = append(web.Instances, api.Instance{State: api.Crashed, Details: "out of memory"})
			})
			file := output(t, "shop.pcapng")
			c := p.start("cf:shop", "-o", file, "-f", flowFilter).ready()
			sendAll(t, 500, 1000, p.flows...)
			arrived(t, file, 1500)
			c.interrupt(0)
			clean(t, patience, p.hosts...)
			exactly(t, file, p.sights("eth0")...)
			r := c.check(file)
			if got, want := r.states(), "shop/web/0=ok shop/web/1=ok shop/web/2=ok"; got != want {
				t.Errorf("states %s, want %s", got, want)
			}
			if text := c.stderr.String(); !strings.Contains(text, "shop/web/3 is crashed and is left out (out of memory)") {
				t.Errorf("nothing about the crashed instance: %s", text)
			} else if !regexp.MustCompile(`(?m)^shop/web/3 +- .* left out: crashed \(out of memory\)$`).MatchString(text) {
				t.Errorf("the crashed instance is not in the table: %s", text)
			}
			if want := (leftOut{Name: "shop/web/3", Target: "cf:shop/web/3", State: "crashed", Details: "out of memory"}); len(r.LeftOut) != 1 || r.LeftOut[0] != want {
				t.Errorf("left out in the report: %+v", r.LeftOut)
			}
			for i, in := range r.Instances[:3] {
				if in.Address != p.hosts[i].Addr { // and not the proxy's
					t.Errorf("%s has the address %s, want %s", in.Name, in.Address, p.hosts[i].Addr)
				}
			}
			p.secretsIn([]string{file, c.report}, c.stderr.String())
			about := capinfosText(t, file)
			for _, want := range []string{"cell 10.0.16.5", "internal address " + p.hosts[1].Addr, "instance guid-1", "(" + flowFilter + ")", "not (tcp port 2222)"} {
				if !strings.Contains(about, want) {
					t.Errorf("capinfos does not know %q:\n%s", want, about)
				}
			}
			if proxy, _, _ := net.SplitHostPort(p.proxy.Addr()); strings.Contains(about, "("+proxy+")") {
				t.Errorf("the proxy's address is called an instance's:\n%s", about)
			}
			if names, _ := exec.Command("tshark", "-r", file, "-q", "-z", "hosts").Output(); !strings.Contains(string(names), p.hosts[2].Addr+"\tshop-web-2") {
				t.Errorf("names: %s", names)
			}
		})
	}
}

func capinfosText(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("capinfos", file).Output()
	must(t, err)
	return string(out)
}

// Apps and hosts in one capture, chosen instances, two interfaces.
func TestCloudFoundryAndHosts(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 3)
	lo := (&bed.Flow{From: p.hosts[1], To: p.hosts[1], Port: 40100, Loopback: true}).Open(t)
	file := output(t, "mixed.pcapng")
	c := p.start("cf:shop/1", "cf:shop/web/1-2", "--interface", "eth0", "--interface", "lo", "-o", file, "-f", flowFilter).ready()
	sendAll(t, 200, 1000, append([]*bed.Flow{lo}, p.flows...)...)
	arrived(t, file, 600)
	c.interrupt(0)
	clean(t, patience, p.hosts...)
	seen := map[string]int{}
	for _, f := range frames(t, file) {
		seen[f.iface]++
	}
	if want := map[string]int{"shop/web/1:eth0": 200, "shop/web/2:eth0": 200, "shop/web/1:lo": 200}; fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("packets %v, want %v", seen, want)
	}
	c.check(file)
}

// Each problem is one line and a hint.
func TestCloudFoundryProblems(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 1)
	denied := p.grow("CFPCAP_DENIED=1")
	old := p.grow()
	old.Lifecycle = t.TempDir() // an old platform: no helper
	neither := p.grow()         // no helper, and a tcpdump that may not capture
	neither.Hidden, neither.User, neither.Lifecycle = nil, &container.User{UID: 2000, GID: 2000}, old.Lifecycle
	both := p.grow("CFPCAP_DENIED=1") // neither of them may
	both.Hidden, both.User, both.Lifecycle = nil, neither.User, p.capable()
	p.containers[0].Unreachable.Store(false)
	change := func(f func(s *api.Server)) func() { return func() { p.api.Change(f) } }
	enabled := func(s *api.Server) { s.Apps[0].SSHDisabled = "" }
	for _, test := range []struct {
		name          string
		before, after func()
		args          []string
		problem, hint string
		exit          int
	}{
		{name: "no such app", args: []string{"cf:nope"}, problem: "App 'nope' not found", hint: "cf ", exit: 1},
		{name: "no such process", args: []string{"cf:shop/worker"}, problem: "Process worker not found", hint: "has: web", exit: 1},
		{name: "no such instance", args: []string{"cf:shop/7"}, problem: "Instance 7 of process web not found", hint: "0 to 4", exit: 1},
		{name: "ssh disabled", before: change(func(s *api.Server) { s.Apps[0].SSHDisabled = "ssh is disabled for app"; s.Auditor = true }),
			after: change(func(s *api.Server) { enabled(s); s.Auditor = false }), args: []string{"cf:shop/0"}, problem: "ssh is disabled for app", hint: "enable-ssh", exit: 1},
		{name: "bad filter", args: []string{"cf:shop/0", "-f", "tcp porrt 1"}, problem: "filter", hint: "filter", exit: 1},
		{name: "bad interface", args: []string{"cf:shop/0", "--interface", "nope0"}, problem: "nope0", hint: "--interface", exit: 1},
		{name: "not allowed", args: []string{"cf:shop/1"}, problem: "permission", hint: "diego.rep.enable_cf_pcap", exit: 1},
		{name: "no helper", args: []string{"cf:shop/2"}, problem: "cf-pcap", hint: "restart the app", exit: 1},
		{name: "no helper that may", args: []string{"cf:shop/3"}, problem: "shop/web/3: tcpdump has no permission to capture: eth0: You don't have permission to perform this capture on that device, and there is no /tmp/lifecycle/cf-pcap on the instance",
			hint: "restart the app", exit: 1},
		{name: "none may", args: []string{"cf:shop/4"}, problem: "shop/web/4: cf-pcap has no permission", hint: "diego.rep.enable_cf_pcap", exit: 1},
		{name: "tcpdump may not", args: []string{"cf:shop/4", "--helper", "tcpdump"}, problem: "shop/web/4: tcpdump has no permission", hint: "", exit: 1},
		{name: "unreachable", before: func() { p.containers[0].Unreachable.Store(true) }, after: func() { p.containers[0].Unreachable.Store(false) },
			args: []string{"cf:shop/0"}, problem: "container", hint: "", exit: 1},
		{name: "another host key", before: change(func(s *api.Server) { s.Fingerprint = strings.Repeat("A", 43) }),
			after: change(func(s *api.Server) { s.Fingerprint = p.proxy.Fingerprints().SHA256Base64 }), args: []string{"cf:shop/0"}, problem: "host key", hint: "-k", exit: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.before != nil {
				test.before()
				defer test.after()
			}
			file := output(t, "x.pcapng")
			c := p.start(append(test.args, "-o", file)...)
			c.exit(patience, test.exit)
			text := c.stderr.String()
			problems := regexp.MustCompile(`(?m)^sshpcap: .*$`).FindAllString(text, -1)
			hints := regexp.MustCompile(`(?m)^hint: .*$`).FindAllString(text, -1)
			if len(problems) != 1 || len(hints) != 1 || !strings.Contains(problems[0], test.problem) || !strings.Contains(hints[0], test.hint) {
				t.Errorf("want one problem with %q and one hint with %q:\n%s", test.problem, test.hint, text)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("there is a file")
			}
			p.secretsIn(nil, text)
		})
	}
	_ = denied
	clean(t, patience, p.hosts...)
}

// Of five instances one fails, and the others do not notice.
func TestCloudFoundryOneOfFive(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 5)
	for _, test := range []struct {
		name          string
		before, after func(c *container.Container)
		middle        func(c *container.Container)
		state         string
	}{
		{name: "login", before: func(c *container.Container) { p.proxy.Remove(c) }, after: func(c *container.Container) { p.proxy.Add(c) }, state: "failed"},
		{name: "exec", before: func(c *container.Container) { c.Unreachable.Store(true) }, after: func(c *container.Container) { c.Unreachable.Store(false) }, state: "failed"},
		{name: "header", before: func(c *container.Container) { c.Lifecycle = t.TempDir() }, after: func(c *container.Container) { c.Lifecycle = p.lifecycle }, state: "failed"},
		{name: "mid-stream", middle: func(c *container.Container) { c.Crash() }, after: func(c *container.Container) { c.Restart() }, state: "lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := p.containers[2]
			if test.before != nil {
				test.before(bad)
			}
			defer test.after(bad)
			for _, f := range p.flows {
				f.Restart()
			}
			file := output(t, "x.pcapng")
			c := p.start("cf:shop", "-o", file, "-f", flowFilter).ready()
			sendAll(t, 100, 1000, p.flows...)
			good := 400
			if test.middle != nil {
				good = 500
			}
			arrived(t, file, good)
			if test.middle != nil {
				test.middle(bad)
				bed.WaitFor(t, patience, "the loss is told", func() bool { return strings.Contains(c.stderr.String(), "sshpcap: shop/web/2: ") })
			}
			c.interrupt(3)
			clean(t, patience, p.hosts...)
			want := p.sights("eth0")
			if test.middle == nil {
				want = append(want[:2:2], want[3:]...)
			}
			exactly(t, file, want...)
			r := c.check(file)
			if got, want := r.states(), "shop/web/0=ok shop/web/1=ok shop/web/2="+test.state+" shop/web/3=ok shop/web/4=ok"; got != want {
				t.Errorf("states %s, want %s", got, want)
			}
		})
	}
}

// One of five codes is refused. Which instance it was for is chance.
func TestCloudFoundryOneCodeOfFive(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 5)
	p.api.Change(func(s *api.Server) {
		s.Faults = []api.Fault{{Path: "/uaa/oauth/authorize", Times: 1, Status: 403, Body: `{"error":"access_denied","error_description":"not today"}`}}
	})
	file := output(t, "x.pcapng")
	c := p.start("cf:shop", "-o", file, "-f", flowFilter).ready()
	sendAll(t, 100, 1000, p.flows...)
	arrived(t, file, 400)
	c.interrupt(3)
	clean(t, patience, p.hosts...)
	states := c.check(file).states()
	if strings.Count(states, "=ok") != 4 || strings.Count(states, "=failed") != 1 {
		t.Errorf("states %s", states)
	}
	if n := len(frames(t, file)); n != 400 {
		t.Errorf("%d packets, want 400", n)
	}
}

// Instances come, crash and come back.
func TestCloudFoundryFollow(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 2)
	file := output(t, "x.pcapng")
	c := p.start("cf:shop", "--follow", "-o", file, "-f", flowFilter).ready()
	told := func(what string) {
		t.Helper()
		bed.WaitFor(t, patience, "it says "+what, func() bool { return strings.Contains(c.stderr.String(), what) })
	}
	sendAll(t, 100, 1000, p.flows...)
	arrived(t, file, 200)

	p.setState(1, api.Crashed)
	must(t, p.containers[1].Crash())
	told("- shop/web/1 (crashed)\n")
	p.grow()
	told("+ shop/web/2\n")
	p.containers[1].Restart()
	p.setState(1, api.Running)
	told("+ shop/web/1\n")
	sendAll(t, 100, 1000, p.flows...)
	arrived(t, file, 500)
	c.interrupt(0)
	clean(t, patience, p.hosts...)
	exactly(t, file, p.sights("eth0")...)
	c.check(file)
	gaps, err := exec.Command("tshark", "-r", file, "-Y", "frame.comment", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment").Output()
	if must(t, err); strings.Count(string(gaps), "\n") != 1 || !strings.Contains(string(gaps), "; now: cell ") || !strings.HasPrefix(string(gaps), "shop/web/1:eth0\tgap: ") {
		t.Errorf("gaps: %s", gaps)
	}
}

// Following an app that is scaled to nothing and up again, while another one is down.
func TestCloudFoundryFollowFromNothing(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 2)
	p.api.Change(func(s *api.Server) {
		s.Apps = append(s.Apps, api.App{Name: "cart", Processes: []api.Process{{Type: "web", Instances: []api.Instance{{State: api.Down}}}}})
	})
	p.setState(0, api.Starting)
	p.setState(1, api.Down)
	file := output(t, "x.pcapng")
	c := p.start("cf:shop", "cf:cart", "--follow", "-o", file, "-f", flowFilter)
	told := func(what string) {
		t.Helper()
		bed.WaitFor(t, patience, "it says "+what, func() bool { return strings.Contains(c.stderr.String(), what) })
	}
	told("No instance is running yet")
	p.setState(0, api.Running)
	told("+ shop/web/0\n")
	sendAll(t, 100, 1000, p.flows[0])
	arrived(t, file, 100)
	// Scaled down: it goes, and that is no failure.
	p.api.Change(func(s *api.Server) { s.Apps[0].Processes[0].Instances = nil })
	must(t, p.containers[0].Crash())
	told("- shop/web/0 (scaled down or deployed anew)\n")
	// What is gone is known when the platform was asked for all instances: of processes it is also asked why a login failed.
	bed.WaitFor(t, patience, "the platform is asked again", func() func() bool {
		before := p.api.Count("GET /v3/apps/")
		return func() bool { return p.api.Count("GET /v3/apps/") > before+4 }
	}())
	c.interrupt(0)
	clean(t, patience, p.hosts...)
	exactly(t, file, sight{p.flows[0], "shop/web/0:eth0"})
	if r := c.check(file); r.states() != "shop/web/0=gone" {
		t.Errorf("states %s", r.states())
	}
}

// TestCFPlugin installs the binary in a cf CLI and uses it at a shell's prompt.
func TestCFPlugin(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 2)
	dir := t.TempDir()
	cf, err := fakecf.Build(context.Background(), dir)
	must(t, err)
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(cf, args...)
		cmd.Env, cmd.Dir = p.env(), dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("cf %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("install-plugin", binary, "-f")
	run("install-plugin", binary, "-f") // again, over itself
	if out := run("plugins"); !strings.Contains(out, "sshpcap") || !strings.Contains(out, "pcap") {
		t.Errorf("cf plugins: %s", out)
	}
	help := run("help", "pcap")
	for _, want := range []string{"--app-instance-index, -i", "--process", "--output", "--filter", "--interface", "--snaplen", "--skip-host-validation, -k", "--follow", "--duration", "cf pcap APP_NAME"} {
		if !strings.Contains(help, want) {
			t.Errorf("cf help pcap lacks %s:\n%s", want, help)
		}
	}

	shell := newShell(t, p.env(), dir)
	shell.types("cf() { " + cf + " \"$@\"; }; cf pcap shop -i 0-1 -o x.pcapng -f '" + flowFilter + "'\n")
	shell.shows(`Starting capture on instances: 0-1\.`)
	shell.shows(`Capturing, press \^C to stop\.\.\.`)
	sendAll(t, 200, 1000, p.flows...)
	arrived(t, filepath.Join(dir, "x.pcapng"), 400)
	shell.types("\x03")
	shell.shows(`(?s)Saved capture to 'x\.pcapng' \(400 packets.*PROMPT 0>`)
	exactly(t, filepath.Join(dir, "x.pcapng"), p.sights("eth0")...)
	clean(t, patience, p.hosts...)
	if out := shell.String(); strings.Count(out, "PROMPT") > 2 && strings.Index(out, "PROMPT 0>") < strings.Index(out, "Saved") {
		t.Errorf("the prompt came before the capture was saved:\n%s", out)
	}
	// ^C comes from the terminal, wherever standard input leads.
	shell.types("cf pcap shop -o quiet.pcapng -f 'udp port 9' </dev/null; echo ended-$?\n")
	shell.shows(`(?s)ended.*Capturing, press \^C to stop\.\.\.`)
	shell.types("\x03")
	shell.shows(`(?s)Saved capture to .quiet\.pcapng.*ended-0\r`)
	for _, line := range []string{"CF_TRACE=true cf pcap shop -o -", "CF_TRACE=/dev/stdout cf pcap shop -o -", "cf pcap shop -o - -v"} {
		out := filepath.Join(dir, "traced")
		shell.types(line + " >traced; echo refused-$?-'" + line[:8] + "'\n")
		shell.shows(`(?s)cf writes its trace to standard output.*hint: trace to a file.*refused-1-` + regexp.QuoteMeta(line[:8]) + `\r`)
		if text, err := os.ReadFile(out); err != nil || len(text) > 0 {
			t.Errorf("%s: %q, %v", line, text, err)
		}
	}
	shell.types("cf pcap nope -o y.pcapng\n")
	shell.shows(`(?s)App 'nope' not found.*PROMPT 1>`)
	shell.types("bash -c 'read -p ask- x; echo got-$x'\n") // the terminal is the shell's again
	shell.shows(`ask-$`)
	shell.types("hello\n")
	shell.shows(`got-hello`)
	run("uninstall-plugin", "sshpcap")
	p.secretsIn([]string{filepath.Join(dir, "x.pcapng")}, shell.String())
}

// shell is an interactive bash on a terminal of its own.
type shell struct {
	text
	t      *testing.T
	master *os.File
}

func newShell(t *testing.T, env []string, dir string) *shell {
	t.Helper()
	cmd := exec.Command("bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(env, `PS1=PROMPT $?> `, "HISTFILE=")
	cmd.Dir = dir
	master, err := pty.Start(cmd)
	must(t, err)
	s := &shell{t: t, master: master}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		master.Close()
		<-read
		if t.Failed() {
			t.Logf("the terminal: %s", last(s.String(), 4000))
		}
	})
	s.shows("PROMPT 0>")
	return s
}

func (s *shell) types(keys string) {
	s.t.Helper()
	_, err := s.master.WriteString(keys)
	must(s.t, err)
}

// shows waits until the terminal has been sent something.
func (s *shell) shows(what string) {
	s.t.Helper()
	expr := regexp.MustCompile(what)
	bed.WaitFor(s.t, patience, "the terminal shows "+what, func() bool { return expr.MatchString(s.String()) })
}

// A capture goes on after the refresh of a token that runs out in the middle, and the config keeps all it does not know.
func TestCloudFoundryTokens(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 1)
	p.api.Change(func(s *api.Server) { s.TokenLife, s.RotateRefresh = 30*time.Second, true })
	config, err := p.api.WriteConfig(p.home, nil)
	must(t, err)
	before, err := os.ReadFile(config)
	must(t, err)
	file := output(t, "x.pcapng")
	c := p.start("cf:shop", "-o", file, "-f", flowFilter).ready()
	c.interrupt(0)
	after, err := os.ReadFile(config)
	must(t, err)
	if bytes.Equal(before, after) {
		t.Error("a refresh token that works once was not replaced in the config")
	}
	if !strings.Contains(string(after), `"PluginRepos"`) {
		t.Errorf("the config lost what we do not know")
	}
	p.secretsIn([]string{file, c.report}, c.stderr.String())
}
