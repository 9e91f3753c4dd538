package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
	yamlv3 "go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
)

var testSteps = []capture.Step{capture.StepReach, capture.StepHostKey, capture.StepLogin, capture.StepSessions, capture.StepHelper, capture.StepRights, capture.StepInterface, capture.StepFilter}

// steps are those of a text with a letter for each: o(k), f(ailed), s(kipped).
func steps(text string) (all []capture.StepCheck) {
	for i, state := range strings.Split(text, "") {
		all = append(all, capture.StepCheck{Step: testSteps[i], State: map[string]capture.StepState{"o": capture.StepPassed, "f": capture.StepFailed, "s": capture.StepSkipped}[state]})
	}
	return all
}

func testReport() capture.CheckReport {
	root, trip, rate := 0, 0.52, 11_200_000.0
	return capture.CheckReport{Instances: []capture.InstanceCheck{
		{Name: "web1", Works: true, Steps: steps("oooooooo"), Helper: "/usr/bin/tcpdump", HelperVersion: "4.99.3", User: &root,
			Captures: []capture.InterfaceCheck{{Interface: "any", Works: true}}, Clock: &capture.Clock{Known: true, Offset: 1500 * time.Microsecond, Error: time.Millisecond},
			Sessions: &capture.Room{Free: 10, More: true}, RoundTrip: &trip, Throughput: &rate, Notes: []string{"its clock is odd"}},
		{Name: "shop/web/0", Steps: steps("oooooofo"), Helper: "/tmp/lifecycle/cf-pcap", Sudo: true, Sessions: &capture.Room{Free: 2},
			Captures: []capture.InterfaceCheck{{Interface: "eth0", Works: true}, {Interface: "eth1"}},
			Problems: []capture.CheckProblem{{Step: capture.StepInterface, Interface: "eth1", Problem: "no such interface", Hint: "take\nanother"}}},
		{Name: "db1", Steps: steps("ofssssss"), Problems: []capture.CheckProblem{{Step: capture.StepHostKey, Problem: "unknown host key"}}},
	}}
}

func TestCheckTable(t *testing.T) {
	var b strings.Builder
	checkTable(&b, testReport(), false, 0)
	checkProblems(&b, testReport())
	want := `   INSTANCE    REACH  KEY  LOGIN  SESSIONS  HELPER            RIGHTS  INTERFACE      FILTER  CLOCK        RTT     RATE
✓  web1        ✓      ✓    ✓      ✓ ≥10     ✓ tcpdump 4.99.3  ✓ root  ✓ any          ✓       +1.5±1.0 ms  0.5 ms  11 MB/s
✗  shop/web/0  ✓      ✓    ✓      ✓ 2       ✓ cf-pcap ?       ✓ sudo  ✓ eth0 ✗ eth1  ✓       ?            ?       ?
✗  db1         ✓      ✗    -      -         -                 -       -              -       -            -       -
✗ shop/web/0: eth1: no such interface
  hint: take
  another
✗ db1: unknown host key
! web1: its clock is odd
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

// TestCheckNarrow: nothing is wider than a narrow terminal, and nothing is missing.
func TestCheckNarrow(t *testing.T) {
	var b strings.Builder
	checkTable(&b, testReport(), true, 60)
	want := `✓ web1
   reach ✓  key ✓  login ✓  sessions ✓ ≥10
   helper ✓ tcpdump 4.99.3  rights ✓ root  interface ✓ any
   filter ✓  clock +1.5±1.0 ms  rtt 0.5 ms  rate 11 MB/s
`
	if got := b.String(); !strings.HasPrefix(got, want) || widest(got) > 60 {
		t.Errorf("got\n%swant\n%s…", got, want)
	}
	var wide strings.Builder
	checkTable(&wide, testReport(), true, 200)
	if widest(wide.String()) < 60 || !strings.Contains(wide.String(), "INSTANCE") {
		t.Errorf("a table that fits is\n%s", wide.String())
	}
}

func TestCheckStatus(t *testing.T) {
	report := testReport()
	verdicts := map[int]string{exitSome: "A capture would work on 1 of 3 instances.", exitNothing: "A capture would not work.", exitOK: "A capture would work on all 3 instances."}
	expect := func(status int) {
		t.Helper()
		if got := checkStatus(report); got != status || checkVerdict(report) != verdicts[status] {
			t.Errorf("status %d, %s", got, checkVerdict(report))
		}
	}
	expect(exitSome)
	report.Problem = "the whole would fail"
	expect(exitNothing)
	report.Problem = ""
	for i := range report.Instances {
		report.Instances[i].Works = true
	}
	expect(exitOK)
}

func TestClockText(t *testing.T) {
	for off, want := range map[time.Duration]string{-2500 * time.Microsecond: "-2.5±0.1 ms", 3210 * time.Millisecond: "+3.2 s", -time.Hour: "-1h0m0s", 25*time.Hour + 10*time.Second: "+25h0m0s"} {
		in := capture.InstanceCheck{Clock: &capture.Clock{Known: true, Offset: off, Error: 100 * time.Microsecond}}
		if got := clockText(in); got != want {
			t.Errorf("%v: %q", off, got)
		}
	}
}

// TestCheckTakesCapturesFlags: every flag of capture is one of check, under the same names.
func TestCheckTakesCapturesFlags(t *testing.T) {
	names := make(map[string]bool)
	visible := 0
	for _, f := range checkFlags() {
		for _, name := range f.Names() {
			names[name] = true
		}
		if f.(cli.VisibleFlag).IsVisible() {
			visible++
		}
	}
	for _, f := range captureFlags() {
		for _, name := range f.Names() {
			if !names[name] {
				t.Errorf("check does not take --%s", name)
			}
		}
		if !f.(cli.VisibleFlag).IsVisible() {
			t.Errorf("%s is hidden in capture, too", f)
		}
	}
	if visible >= len(captureFlags()) {
		t.Errorf("all %d are shown", visible)
	}
}

func TestListTables(t *testing.T) {
	list := []capture.Listing{
		{Name: "web1", Target: "web1", State: "up", Address: "10.0.0.1:22", Details: "Linux", Interfaces: []capture.NetInterface{
			{Name: "lo", State: "up", Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}}, {Name: "eth0", State: "down"}}},
		{Name: "shop/web/0", Target: "cf:shop/web/0", State: "RUNNING", Address: "10.1.0.1"},
		{Name: "shop/web/1", Target: "cf:shop/web/1", State: "CRASHED"},
		{Name: "db1", Target: "db1", State: "failed", Problem: "no"},
	}
	for kind, want := range map[string]string{
		"table": "INSTANCE    STATE    ADDRESS      INTERFACES\nweb1        up       10.0.0.1:22  lo eth0(down)\nshop/web/0  RUNNING  10.1.0.1     ?\nshop/web/1  CRASHED  -            ?\ndb1         failed   -            ?\n",
		"wide": "INSTANCE    STATE    ADDRESS      TARGET         DETAILS  INTERFACES\nweb1        up       10.0.0.1:22  web1           Linux    lo=127.0.0.1/8,::1/128 eth0(down)\n" +
			"shop/web/0  RUNNING  10.1.0.1     cf:shop/web/0  -        ?\nshop/web/1  CRASHED  -            cf:shop/web/1  -        ?\ndb1         failed   -            db1            -        ?\n",
		"name": "web1\ncf:shop/web/0\n",
	} {
		var b strings.Builder
		if err := listPrinters[kind](&b, list, true); err != nil || b.String() != want {
			t.Errorf("%s: %v\n%swant\n%s", kind, err, b.String(), want)
		}
	}
	var b strings.Builder
	printList(&b, list[:1], false)
	if b.String() != "web1  up  10.0.0.1:22  lo eth0(down)\n" {
		t.Errorf("without headers: %q", b.String())
	}
	if listStatus(list) != exitSome || listStatus(list[:3]) != exitOK || listStatus(list[3:]) != exitNothing {
		t.Error("status")
	}
	if got := namesOf(make([]capture.NetInterface, 300)); !strings.HasSuffix(got, "and 292 more") {
		t.Errorf("%q", got)
	}
}

// TestListApps: what the platform says, each thing once, and nothing hides the rest.
func TestListApps(t *testing.T) {
	run := cf.Instance{App: "shop", Process: "web", Index: 1, State: "RUNNING", InternalIP: "10.1.0.2", Cell: "10.0.16.5", Uptime: 90 * time.Second}
	crashed := cf.Instance{App: "shop", Process: "web", Index: 0, State: "CRASHED", Details: "out of memory"}
	found := &targets{apps: []appFound{
		{target: "cf:shop", found: cf.Found{Running: []cf.Instance{run}, Skipped: []cf.Instance{crashed}}},
		{target: "cf:shop/0", found: cf.Found{Skipped: []cf.Instance{crashed}}, err: &cf.Error{Kind: cf.KindNotRunning}},
		{target: "cf:empty", err: &cf.Error{Kind: cf.KindNotRunning}},
		{target: "cf:stopped", err: &cf.Error{Kind: cf.KindStopped}},
		{target: "cf:nope", err: &cf.Error{Kind: cf.KindNoApp, Problem: "App 'nope' not found.", Tip: "look"}},
	}}
	var got []string
	for _, l := range found.listApps() {
		got = append(got, strings.Join([]string{l.Name, l.Target, l.State, l.Address, l.Details, l.Problem, l.Hint}, "|"))
	}
	want := "shop/web/0|cf:shop/web/0|CRASHED||out of memory||\nshop/web/1|cf:shop/web/1|RUNNING|10.1.0.2|cell 10.0.16.5, up for 1m30s||\n" +
		"cf:empty|cf:empty|EMPTY||||\ncf:stopped|cf:stopped|STOPPED||||\ncf:nope|cf:nope|failed|||App 'nope' not found.|look"
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// TestYAML: whatever is in the strings, a reader of YAML gets what a reader of JSON gets.
func TestYAML(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[-?:,\[\]{}#&*!|>'"%@\x60 \n\t\\~a]{0,9}`), rapid.SampledFrom([]string{"null", "yes", "1", "", "\u0085", "\u2028", "\x7f", "😀"}))
		doc := listDocument{Version: 1, Instances: []capture.Listing{}}
		for range rapid.IntRange(0, 3).Draw(t, "instances") {
			l := capture.Listing{Name: text.Draw(t, "name"), Details: text.Draw(t, "details")}
			for range rapid.IntRange(0, 3).Draw(t, "interfaces") {
				i := capture.NetInterface{Name: text.Draw(t, "interface"), Addresses: []netip.Prefix{}}
				for range rapid.IntRange(0, 2).Draw(t, "addresses") {
					i.Addresses = append(i.Addresses, netip.MustParsePrefix("10.0.0.1/8"))
				}
				l.Interfaces = append(l.Interfaces, i)
			}
			doc.Instances = append(doc.Instances, l)
		}
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := writeYAML(&b, raw); err != nil {
			t.Fatal(err)
		}
		var fromJSON, fromYAML any
		if err := json.Unmarshal(raw, &fromJSON); err != nil {
			t.Fatal(err)
		}
		if err := yamlv3.Unmarshal([]byte(b.String()), &fromYAML); err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		again, err := json.Marshal(fromYAML)
		if want, _ := json.Marshal(fromJSON); err != nil || string(again) != string(want) {
			t.Fatalf("%s\nbecomes\n%s\nby way of\n%s", want, again, b.String())
		}
	})
}

// TestOnlyTextOfLooks: whatever an instance has smuggled into a result, what is written holds no control characters but
// line ends.
func TestOnlyTextOfLooks(t *testing.T) {
	const evil = "\x1b]0;pwned\x07\u009b31m\u202e\x00\r\b\xff"
	report := testReport()
	report.Problem, report.Hint = evil, evil
	for i := range report.Instances {
		in := &report.Instances[i]
		in.Name, in.HelperVersion, in.Notes = evil, evil, []string{evil}
		in.Problems = []capture.CheckProblem{{Problem: evil, Hint: evil}}
	}
	list := []capture.Listing{{Name: evil, Target: evil, State: evil, Address: evil, Details: evil, Interfaces: []capture.NetInterface{{Name: evil}}}}
	var out strings.Builder
	checkTable(plain{&out}, report, false, 0)
	checkTable(plain{&out}, report, false, 20)
	checkProblems(plain{&out}, report)
	for _, show := range listPrinters {
		if err := show(plain{&out}, list, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%U in %q", r, out.String())
		}
	}
}
