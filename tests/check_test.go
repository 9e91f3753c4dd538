package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/tests/bed"
)

// looked is what a command that looks at instances has said.
type looked struct {
	t              *testing.T
	stdout, stderr string
	status         int
}

// look runs `sshpcap ARGS` in the hub to its end.
func look(t *testing.T, b *bed.Bed, args ...string) looked {
	t.Helper()
	cmd := b.Hub.Command(binary, args...)
	cmd.Env, cmd.Dir = env(b), t.TempDir()
	return runLook(t, cmd)
}

func runLook(t *testing.T, cmd *exec.Cmd) looked {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	timer := time.AfterFunc(3*patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Run() // its status says all
	l := looked{t, stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%q: exit %d\nstdout:\n%s\nstderr:\n%s", cmd.Args, l.status, last(l.stdout, 8000), l.stderr)
		}
	})
	for _, r := range l.stdout + l.stderr {
		if r == 0x1b || r < ' ' && r != '\n' {
			t.Errorf("%q is in the output", r)
		}
	}
	if files, _ := os.ReadDir(cmd.Dir); len(files) > 0 {
		t.Errorf("it left %v", files)
	}
	return l
}

// checked is `check --json` as other programs read it.
type checked struct {
	Version   int
	Problem   string
	Hint      string
	Instances []checkedInstance
}

type checkedInstance struct {
	Name, Target, Address string
	Works                 bool
	Steps                 []struct{ Step, State string }
	Problems              []struct{ Step, Interface, Problem, Hint string }
	Notes                 []string
	Server, System        string
	Helper                string
	HelperVersion         string `json:"helper_version"`
	UID                   *int
	Sudo                  bool
	Captures              []struct {
		Interface string
		LinkType  string `json:"link_type"`
		Works     bool
	}
	Interfaces []struct {
		Name, State string
		Addresses   []string
	}
	Clock *struct {
		Offset float64 `json:"offset_ms"`
		Error  float64 `json:"error_ms"`
		Shift  int64   `json:"shift_ns"`
	}
	Sessions *struct {
		Free int
		More bool
	}
	RoundTrip  *float64 `json:"round_trip_ms"`
	Throughput *float64 `json:"bytes_per_second"`
}

// states are the steps in one text, a letter each: o(k), f(ailed), s(kipped).
func (in checkedInstance) states() (text string) {
	for _, s := range in.Steps {
		text += s.State[:1]
	}
	return text
}

func (l looked) json() checked {
	l.t.Helper()
	var c checked
	d := json.NewDecoder(strings.NewReader(l.stdout))
	d.DisallowUnknownFields()
	// Program, started and ended are of no interest, and unknown here.
	var raw map[string]json.RawMessage
	if err := d.Decode(&raw); err != nil {
		l.t.Fatalf("%v: %s", err, l.stdout)
	}
	for _, key := range []string{"program", "started", "ended"} {
		if len(raw[key]) == 0 {
			l.t.Errorf("no %q", key)
		}
		delete(raw, key)
	}
	text, _ := json.Marshal(raw)
	d = json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		l.t.Fatal(err)
	}
	if c.Version != 1 {
		l.t.Errorf("version %d", c.Version)
	}
	return c
}

// problem gives the problem that a table has for an instance, and its hint.
func (l looked) problem(name string) (problem, hint string) {
	lines := strings.Split(l.stdout, "\n")
	for i, line := range lines {
		if text, ok := strings.CutPrefix(line, "✗ "+name+": "); ok {
			hint, _ := strings.CutPrefix(lines[i+1], "  hint: ")
			return text, hint
		}
	}
	return "", ""
}

// TestCheckGood: instances of every kind that work: nothing is captured, nothing is left, and all is known.
func TestCheckGood(t *testing.T) {
	t.Parallel()
	bed.Require(t, "sudo", "dropbear", "dumpcap")
	b := bed.New(t, tools...)
	bastion := b.Add("bastion", bed.Options{Nets: []int{0, 1}})
	hosts := []*bed.Host{bastion,
		b.Add("web1", bed.Options{}),
		b.Add("sudoer", bed.Options{User: bed.Sudoer}),
		b.Add("dropbear", bed.Options{Dropbear: true}),
		b.Add("dumpcap", bed.Options{Hide: []string{"tcpdump"}}),
		b.Add("inner", bed.Options{Nets: []int{1}, Jump: "bastion"}),
		b.Add("narrow", bed.Options{User: bed.Sudoer, Config: "MaxSessions 1"}),
	}
	targets := []string{"web1", "sudoer", "dropbear", "dumpcap", "inner", "narrow"}
	flow := (&bed.Flow{From: b.Hub, To: hosts[1], Port: 40001}).Open(t)
	sending := make(chan error, 1)
	go func() { sending <- flow.Send(2000, 2000) }()
	l := look(t, b, append([]string{"check", "--json", "-f", "udp or tcp", "--format", "pcapng"}, targets...)...)
	clean(t, patience, hosts...)
	if err := <-sending; err != nil {
		t.Error(err)
	}
	c := l.json()
	if l.status != 0 || l.stderr != "Checking 6 instances\n" || c.Problem != "" || len(c.Instances) != len(targets) {
		t.Fatalf("exit %d", l.status)
	}
	for i, in := range c.Instances {
		if in.Name != targets[i] || !in.Works || in.states() != "oooooooo" || len(in.Problems) != 0 {
			t.Errorf("%+v", in)
		}
		helper := "tcpdump"
		if in.Name == "dumpcap" {
			helper = "dumpcap"
		}
		if filepath.Base(in.Helper) != helper || in.HelperVersion == "" || !strings.HasPrefix(in.System, "Linux ") || !strings.HasPrefix(in.Server, "SSH-2.0-") {
			t.Errorf("%s: helper %s %s, system %s, server %s", in.Name, in.Helper, in.HelperVersion, in.System, in.Server)
		}
		sudo := in.Name == "sudoer" || in.Name == "narrow"
		if in.Sudo != sudo || in.UID == nil || (*in.UID == 0) != !sudo {
			t.Errorf("%s: sudo %v, uid %v", in.Name, in.Sudo, in.UID)
		}
		if in.Clock == nil || in.Clock.Offset > 1000 || in.RoundTrip == nil || *in.RoundTrip <= 0 || in.Throughput == nil || *in.Throughput < 1e5 {
			t.Errorf("%s: clock %v, round trip %v, throughput %v", in.Name, in.Clock, in.RoundTrip, in.Throughput)
		}
		free, more := 10, true
		if in.Name == "narrow" {
			free, more = 1, false
		}
		if in.Sessions == nil || in.Sessions.Free != free || in.Sessions.More != more {
			t.Errorf("%s: sessions %+v", in.Name, in.Sessions)
		}
		if names := fmt.Sprint(in.Interfaces); !strings.Contains(names, "{lo up [127.0.0.1/8]}") || !strings.Contains(names, "eth0 up [10.77.") {
			t.Errorf("%s: interfaces %s", in.Name, names)
		}
		if len(in.Captures) != 1 || in.Captures[0].Interface != "any" || !in.Captures[0].Works || !strings.HasPrefix(in.Captures[0].LinkType, "LINUX_SLL") {
			t.Errorf("%s: captures %+v", in.Name, in.Captures)
		}
	}
}

// TestCheckCommand: what runs on an instance is what a capture runs, but for the filter, which lets nothing through.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
	bed.Require(t, "sudo")
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{User: bed.Sudoer})
	log := b.WriteFile("helpers.log", 0o666, "")
	helper := b.WriteFile("tcpdump-logged", 0o755, "#!/bin/sh\n[ \"$1\" = --version ] || printf '%s\\n' \"$*\" >>"+log+"\nexec tcpdump \"$@\"\n")
	port := regexp.MustCompile(`(port|=) \d{5}\b`) // that of the client
	ran := func() []string {
		t.Helper()
		text, err := os.ReadFile(log)
		must(t, err)
		must(t, os.WriteFile(log, nil, 0o666))
		lines := strings.Split(strings.TrimSpace(port.ReplaceAllString(string(text), "$1 N")), "\n")
		slices.Sort(lines) // of several interfaces, in any order
		return lines
	}
	for _, args := range [][]string{
		nil,
		{"-f", "udp or tcp"},
		{"-f", "udp", "--no-self-filter", "-o", output(t, "a.pcapng")},
		{"--interface", "eth0", "--interface", "lo", "-s", "100", "-p", "--helper-buffer", "8MiB", "--format", "pcapng"},
		{"--sudo", "always", "-f", "icmp and ip"},
	} {
		args = append([]string{"web1", "--helper", helper}, args...)
		if l := look(t, b, append([]string{"check"}, args...)...); l.status != 0 {
			t.Errorf("exit %d", l.status)
		}
		checked := ran()
		start(t, b, append(args, "--overwrite")...).ready().interrupt(0)
		captured := ran()
		filter := ""
		if i := slices.Index(args, "-f"); i >= 0 {
			filter = args[i+1]
		}
		for i, line := range checked {
			if filter == "" {
				line = strings.Replace(line, " and (less 0)", "", 1)
			}
			checked[i] = strings.Replace(line, "("+filter+") and less 0", filter, 1)
			if line == checked[i] && filter != "" || !strings.Contains(line, "less 0") && filter != "" {
				t.Errorf("a helper with a filter that lets packets through: %s", line)
			}
		}
		if !slices.Equal(checked, captured) {
			t.Errorf("%q\nchecks   %q\ncaptures %q", args, checked, captured)
		}
	}
	clean(t, patience, h)
}

// TestCheckAsCapture: for everything that can be wrong with an instance, check and capture say the same.
func TestCheckAsCapture(t *testing.T) {
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
		b.Add("narrow", bed.Options{Config: "MaxSessions 1"}),
		b.Add("closed", bed.Options{Config: "MaxSessions 0"}),
		b.Add("hole", bed.Options{}),
	}
	hosts[13].BlackHole()
	for _, how := range []struct {
		name, target string
		args         []string
		states       string // of the steps: reach, host key, login, sessions, helper, rights, interface, filter
	}{
		{"good", "good", nil, "oooooooo"},
		{"unknown host key", "unknown", nil, "ofssssss"},
		{"unknown host key, -k", "unknown", []string{"-k"}, "osoooooo"},
		{"changed host key", "changed", nil, "ofssssss"},
		{"unknown user", "nobody-there@good", nil, "oofsssss"},
		{"no such identity", "good", []string{"--identity", "/nonexistent/key"}, "oofsssss"},
		{"refused", "good:2222", nil, "fsssssss"},
		{"unknown host", "nosuch.invalid", nil, "fsssssss"},
		{"timeout", "hole", []string{"--connect-timeout", "1s"}, "fsssssss"},
		{"bad filter", "good", []string{"-f", "tcp prot 80"}, "ooooooof"},
		{"filter that rejects all", "good", []string{"-f", "tcp and udp"}, "ooooooof"},
		{"parentheses that do not match", "good", []string{"-f", "tcp) or (udp"}, "ooooooof"},
		{"blank filter", "good", []string{"-f", " "}, "ooooooof"},
		{"filter that asks for a length", "good", []string{"-f", "len > 0"}, "oooooooo"},
		{"filter for another link type", "good", []string{"-f", "ether host 02:00:00:00:00:01 and vlan 5", "--interface", "lo"}, "oooooooo"},
		{"bad interface", "good", []string{"--interface", "nope0"}, "oooooofs"},
		{"one bad interface of two", "good", []string{"--interface", "eth0", "--interface", "nope0"}, "oooooofo"},
		{"permission", "plain", []string{"--sudo", "never"}, "ooooofss"},
		{"no sudo rights", "plain", nil, "ooooofss"},
		{"sudo wants a password", "sudopw", nil, "ooooofss"},
		{"sudo wants a terminal", "sudotty", nil, "ooooofss"},
		{"no sudo", "nosudo", nil, "ooooofss"},
		{"no helper", "bare", nil, "oooofsss"},
		{"no such helper", "good", []string{"--helper", "/nonexistent/tcpdump"}, "oooofsss"},
		{"helper that is none", "good", []string{"--helper", "/bin/ls"}, "oooofsss"},
		{"no shell", "nologin", nil, "oofsssss"},
		{"something else than packets", "hello", nil, "oofsssss"},
		{"nothing at all", "silent", nil, "oofsssss"},
		{"one session", "narrow", nil, "oooooooo"},
		{"one session for two interfaces", "narrow", []string{"--interface", "lo", "--interface", "eth0"}, "oooooooo"}, // on two connections
		{"no session", "closed", nil, "ooofssss"},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			l := look(t, b, append([]string{"check", "--json", how.target}, how.args...)...)
			in := l.json().Instances[0]
			works := !strings.Contains(how.states, "f")
			if want := map[bool]int{true: 0, false: 1}[works]; l.status != want || in.Works != works || in.states() != how.states {
				t.Errorf("exit %d, works %v, steps %s, want %s", l.status, in.Works, in.states(), how.states)
			}
			c := start(t, b, append([]string{"-o", output(t, "a.pcap"), "--require-all", how.target}, how.args...)...)
			if works {
				c.ready().interrupt(0)
				return
			}
			c.wait(patience)
			if got := c.cmd.ProcessState.ExitCode(); got != 1 && got != 3 { // with two interfaces, one has captured perhaps
				t.Errorf("capture: exit code %d", got)
			}
			p := c.result().Instances[0]
			if len(in.Problems) != 1 || in.Problems[0].Hint == "" {
				t.Fatalf("problems %+v", in.Problems)
			}
			// check's hint knows which interfaces there are.
			if got := in.Problems[0]; got.Problem != p.Problem || got.Hint != p.Hint && got.Step != "interface" {
				t.Errorf("check says   %s (%s)\ncapture says %s (%s)", got.Problem, got.Hint, p.Problem, p.Hint)
			}
		})
	}
	t.Cleanup(func() { clean(t, patience, hosts...) }) // after the subtests
}

// TestCheckTable: what a person reads.
func TestCheckTable(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	hosts := []*bed.Host{b.Add("web1", bed.Options{}), b.Add("db1", bed.Options{Unknown: true})}
	l := look(t, b, "check", "web1", "db1", "db1:2222")
	problem, hint := l.problem("db1")
	if l.status != 3 || !strings.Contains(problem, "unknown host key") || !strings.Contains(hint, "known_hosts") {
		t.Errorf("exit %d, %q, %q", l.status, problem, hint)
	}
	if problem, hint := l.problem("db1:2222"); !strings.Contains(problem, "refused") || hint == "" {
		t.Errorf("%q, %q", problem, hint)
	}
	lines := strings.Split(l.stdout, "\n")
	for i, want := range []string{"INSTANCE REACH KEY LOGIN", "✓ web1 ✓ ✓ ✓ ✓ ≥10 ✓ tcpdump ", "✗ db1 ✓ ✗ - - - - - - - - -", "✗ db1:2222 ✗ - - - - - - - - - -", ""} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	if !strings.HasSuffix(l.stdout, "\nA capture would work on 1 of 3 instances.\n") {
		t.Error("no verdict")
	}
	if l := look(t, b, "doctor", "-k", "web1", "db1", "-q"); l.status != 0 || l.stdout+l.stderr != "" {
		t.Error("with -q something is said although all would work")
	}
	if l := look(t, b, "check", "-q", "db1"); l.status != 1 || strings.Contains(l.stdout, "INSTANCE") || !strings.Contains(l.stdout, "✗ db1: ") {
		t.Error("with -q only the problem is to be said")
	}
	clean(t, patience, hosts...)
}

// TestCheckLikeCapture: a command line of capture works with check in its place, and nothing is written.
func TestCheckLikeCapture(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	file := output(t, "a.pcapng")
	args := []string{"check", "web1", "-o", file, "-d", "1s", "-c", "5", "--max-size", "1GB", "--rotate-size", "1MB", "--rotate-keep", "3", "--per-instance", "--grace", "2s",
		"--window", "1s", "--buffer", "1MB", "--follow", "--require-all", "--align-clocks", "--progress", "none", "--report", file + ".json"}
	if l := look(t, b, args...); l.status != 0 || !strings.Contains(l.stdout, "A capture would work.") {
		t.Errorf("exit %d", l.status)
	}
	if files, _ := os.ReadDir(filepath.Dir(file)); len(files) > 0 {
		t.Errorf("it wrote %v", files)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	connections := h.Connections()
	if l := look(t, b, "check", "web1", "-o", file); l.status != 2 || !strings.Contains(l.stderr, "exists") {
		t.Errorf("exit %d for an output that exists", l.status)
	}
	if h.Connections() != connections {
		t.Error("it connected")
	}
	clean(t, patience, h)
}

// TestCheckKilled: nothing is left of a check that had no chance to end, nor of one that is interrupted.
func TestCheckKilled(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Kill, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			b := bed.New(t, tools...)
			hangs := b.WriteFile("tcpdump", 0o755, "#!/bin/sh\nexec sleep 1000\n") // says nothing, whatever it is asked
			h := b.Add("web1", bed.Options{})
			cmd := b.Hub.Command(binary, "check", "web1", "--helper", hangs, "--connect-timeout", "60s")
			cmd.Env, cmd.Dir = env(b), t.TempDir()
			var out text
			cmd.Stdout = &out
			must(t, cmd.Start())
			t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			bed.WaitFor(t, patience, "the helper runs", func() bool { return h.Kill("sleep", 0) > 0 })
			must(t, cmd.Process.Signal(sig))
			since := time.Now()
			cmd.Wait()
			if sig == os.Interrupt && (cmd.ProcessState.ExitCode() != 1 || time.Since(since) > patience || !strings.Contains(out.String(), "stopped before")) {
				t.Errorf("%v after %v: %s", cmd.ProcessState, time.Since(since), out.String())
			}
			unattended(t, since, h)
		})
	}
}

// TestList: every instance for itself, in every form.
func TestList(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	hosts := []*bed.Host{b.Add("bastion", bed.Options{Nets: []int{0, 1}}), b.Add("web1", bed.Options{User: bed.Plain}),
		b.Add("inner", bed.Options{Nets: []int{1}, Jump: "bastion"}), b.Add("bare", bed.Options{Hide: []string{"ip", "tcpdump", "dumpcap"}}),
		b.Add("db1", bed.Options{Unknown: true})}
	targets := []string{"web1", "bastion", "inner", "bare", "db1"}
	l := look(t, b, append([]string{"list"}, targets...)...)
	lines := strings.Split(l.stdout, "\n")
	for i, want := range []string{"INSTANCE STATE ADDRESS INTERFACES", "web1 up " + hosts[1].Addr + ":22 lo eth0", "bastion up " + hosts[0].Addr + ":22 lo eth0 eth1",
		"inner up " + hosts[2].Addr + ":22 lo eth0", "bare up " + hosts[3].Addr + ":22 lo eth0", "db1 failed - ?"} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	if l.status != 3 || !strings.Contains(l.stderr, "sshpcap: db1: unknown host key") || strings.Count(l.stderr, "hint: ") != 1 {
		t.Errorf("exit %d", l.status)
	}
	if l := look(t, b, "list", "web1", "-o", "wide", "--no-headers"); l.status != 0 || l.stderr != "" || !strings.HasPrefix(l.stdout, "web1  up") ||
		!strings.Contains(l.stdout, "eth0="+hosts[1].Addr+"/24") || !strings.Contains(l.stdout, "SSH-2.0-OpenSSH") {
		t.Errorf("wide: exit %d", l.status)
	}
	if l := look(t, b, append([]string{"list", "-o", "name"}, targets...)...); l.status != 3 || l.stdout != "web1\nbastion\ninner\nbare\n" {
		t.Errorf("names: exit %d", l.status)
	}
	if l := look(t, b, "list", "db1"); l.status != 1 {
		t.Errorf("exit %d where nothing could be listed", l.status)
	}
	if l := look(t, b, "list", "web1", "-o", "xml"); l.status != 2 || !strings.Contains(l.stderr, "hint: give table") {
		t.Errorf("exit %d for a form that there is not", l.status)
	}
	asJSON, asYAML := look(t, b, "list", "-o", "json", "web1", "db1"), look(t, b, "list", "-o", "yaml", "web1", "db1")
	var doc struct {
		Version   int
		Instances []struct {
			Name, Target, State, Address, Details, Problem, Hint string
			Interfaces                                           []struct{ Name, State string }
		}
	}
	if err := json.Unmarshal([]byte(asJSON.stdout), &doc); err != nil || doc.Version != 1 || len(doc.Instances) != 2 || len(doc.Instances[0].Interfaces) != 2 ||
		doc.Instances[1].Interfaces != nil || doc.Instances[1].State != "failed" || doc.Instances[1].Problem == "" {
		t.Errorf("json: %v, %+v", err, doc)
	}
	if !strings.HasPrefix(asYAML.stdout, "version: 1\ninstances:\n  - name: \"web1\"\n    target: \"web1\"\n    state: \"up\"\n") {
		t.Error("yaml")
	}
	clean(t, patience, hosts...)
}

// honest plays a host with tcpdump for those that only look.
func honest(s *sshserver.Session) int {
	switch {
	case strings.Contains(s.Command, "part system"):
		io.WriteString(s.Stdout, "@sshpcap version\ntcpdump version 4.99.3\n@sshpcap dev\neth0: 0\n@sshpcap end\n")
		return 0
	case strings.Contains(s.Command, "dd if=/dev/zero"):
		return 1
	}
	return new(goodHelper).run(s)
}

// TestHostileLooks: whatever an instance does, check and list end in bounded time and memory, tell of the other one, and
// let nothing but characters through.
func TestHostileLooks(t *testing.T) {
	t.Parallel()
	for name, h := range hostiles {
		for _, args := range [][]string{{"check", "--format", "pcapng", "--grace", "1s"}, {"list"}} {
			t.Run(name+"/"+args[0], func(t *testing.T) {
				t.Parallel()
				l := newLoopback(t)
				l.server("good", &sshserver.Server{Handler: honest})
				if h.raw != nil {
					l.raw("bad", h.raw)
				} else {
					l.server("bad", &sshserver.Server{Handler: h.handler})
				}
				c := l.command()
				c.cmd = exec.Command(binary, append(args, "good", "bad", "--connect-timeout", "2s")...)
				c.cmd.Env, c.cmd.Dir = l.env(), t.TempDir()
				var stdout text
				c.cmd.Stdout, c.cmd.Stderr = &stdout, &c.stderr
				must(t, c.cmd.Start())
				c.watch()
				memory := peak(c)
				c.wait(3 * patience)
				out := stdout.String()
				printable(t, "stdout", out)
				printable(t, "stderr", c.stderr.String())
				if code := c.cmd.ProcessState.ExitCode(); code != 0 && code != 3 {
					t.Errorf("exit code %d", code)
				}
				if got := strings.Join(strings.Fields(out), " "); !strings.Contains(got, "✓ good ✓ ✓ ✓ ✓ ≥10 ✓ tcpdump 4.99.3 ") && !strings.Contains(got, "good up 127.0.0.1:") {
					t.Errorf("nothing of the good instance: %s", out)
				}
				if most := max(h.most, mostMemory); memory() > most {
					t.Errorf("it took %d MiB of memory, more than %d", memory(), most)
				}
			})
		}
	}
}
