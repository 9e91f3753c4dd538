package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
)

// said is what is printed of troubles.
func said(troubles []trouble) string {
	var b strings.Builder
	for _, c := range causes(troubles) {
		new(session).printCause(&b, c)
	}
	return b.String()
}

func fifty(make func(i int) trouble) (all []trouble) {
	for i := range 50 {
		all = append(all, make(i))
	}
	return all
}

// What is wrong with many instances in the same way is one message, whatever of their own the texts hold.
func TestOneCauseOneMessage(t *testing.T) {
	const names = "on 50 instances: web0, web1, web2, web3, web4, web5, web6, web7, …"
	for what, test := range map[string]struct {
		make func(i int) trouble
		want string
	}{
		"the same": {
			func(i int) trouble {
				return trouble{fmt.Sprint("web", i), "no answer from port 22 within 10s", "check"}
			},
			"sshpcap: " + names + ": no answer from port 22 within 10s\nhint: check\n",
		},
		"names and addresses": {
			func(i int) trouble {
				return trouble{fmt.Sprint("web", i), fmt.Sprintf("cannot reach 10.0.0.%d:22: web%[1]d said no to [fe80::%[1]d]:%[1]d", i), fmt.Sprintf("try: ssh web%d true", i)}
			},
			"sshpcap: " + names + ": cannot reach …: … said no to …\nhint: try: ssh … true\n",
		},
		"ports": {
			func(i int) trouble {
				return trouble{fmt.Sprint("web", i), fmt.Sprintf("refused on port %d", 1000+i), ""}
			},
			"sshpcap: " + names + ": refused on port …\n",
		},
		"ports in names": {
			func(i int) trouble {
				return trouble{fmt.Sprintf("u@h:%d", 1000+i), fmt.Sprintf("%d, h and h:%[1]d of u@h:%[1]d", 1000+i), ""}
			},
			"sshpcap: on 50 instances: u@h:1000, u@h:1001, u@h:1002, u@h:1003, u@h:1004, u@h:1005, u@h:1006, u@h:1007, …: …, h and … of …\n",
		},
		"not to be understood": {
			func(i int) trouble { return trouble{"\xff(", "\xff( is no name", ""} },
			"sshpcap: \uFFFD(: \uFFFD( is no name\n",
		},
	} {
		if got := said(fifty(test.make)); got != test.want {
			t.Errorf("%s: got\n%swant\n%s", what, got, test.want)
		}
	}
	if got := said(fifty(func(i int) trouble { return trouble{"a", fmt.Sprint("exit status ", i), ""} })); strings.Count(got, "\n") != 50 {
		t.Errorf("other causes are taken for one:\n%s", got)
	}
	if got := said([]trouble{{"web1", "no web1", "hint\nline"}}); got != "sshpcap: web1: no web1\nhint: hint\nline\n" {
		t.Errorf("a single one: %q", got)
	}
	if got := said([]trouble{{"a", "x", "h"}, {"b", "y", "h"}, {"a", "x", "h"}, {"c", "x", "h"}}); got != "sshpcap: on 2 instances: a, c: x\nhint: h\nsshpcap: b: y\nhint: h\n" {
		t.Errorf("%q", got)
	}
}

// Unknown host keys are one message; to compare them there are the fingerprints, and to add them the lines.
func TestOneCauseHostKeys(t *testing.T) {
	print := func(i int) string { return fmt.Sprintf("SHA256:%043d", i) }
	host := func(i int) trouble {
		return trouble{fmt.Sprint("web", i), "unknown host key: ED25519 " + print(i), fmt.Sprintf("compare, or add this line:\nweb%d ssh-ed25519 AAAA%d", i, i)}
	}
	got := said([]trouble{host(1), host(2)})
	want := "sshpcap: on 2 instances: web1, web2: unknown host key: ED25519 …\n  web1  " + print(1) + "\n  web2  " + print(2) +
		"\nhint: compare, or add this line:\nweb1 ssh-ed25519 AAAA1\nweb2 ssh-ed25519 AAAA2\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := said(fifty(host)); strings.Count(got, "SHA256:") != mostLines || strings.Count(got, "AAAA") != mostLines || strings.Count(got, "and 30 more: ") != 2 {
		t.Errorf("fifty:\n%s", got)
	}
	same := func(name string) trouble { return trouble{name, "unknown host key: " + print(1), ""} }
	if got := said([]trouble{same("a"), same("b")}); got != "sshpcap: on 2 instances: a, b: unknown host key: "+print(1)+"\n" {
		t.Errorf("one key of two: %q", got)
	}
}

func TestOneCauseInCheck(t *testing.T) {
	var report capture.CheckReport
	for i := range 50 {
		report.Instances = append(report.Instances, capture.InstanceCheck{Name: fmt.Sprint("web", i), Notes: []string{"odd"},
			Problems: []capture.CheckProblem{{Interface: "eth9", Problem: "no such interface", Hint: "take\nanother"}}})
	}
	var b strings.Builder
	checkProblems(&b, report)
	const names = "on 50 instances: web0, web1, web2, web3, web4, web5, web6, web7, …: "
	if want := "✗ " + names + "eth9: no such interface\n  hint: take\n  another\n! " + names + "odd\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}

// many is a session with so many instances.
func many(n int) (*session, *screen) {
	s, out := new(session), new(screen)
	s.display, s.cfg.Instances = &display{w: out, progress: new(capture.Progress)}, make([]capture.Instance, n)
	return s, out
}

func event(kind capture.EventKind, instance string) capture.Event {
	return capture.Event{Kind: kind, Instance: instance, Err: &usageError{"no", "do this"}}
}

// Events are one message where they come together, and none is held back for long.
func TestEventsAreGathered(t *testing.T) {
	s, out := many(50)
	for i := range 49 {
		s.tell(event(capture.Failed, fmt.Sprint("web", i)))
	}
	if out.String() != "" {
		t.Errorf("it does not wait: %q", out)
	}
	s.tell(capture.Event{Kind: capture.Ready, Ready: 1})
	want := "sshpcap: on 49 instances: web0, web1, web2, web3, web4, web5, web6, web7, …: no\nhint: do this\nCapturing on 1 instance, press ^C to stop\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	start := time.Now()
	for _, name := range []string{"a", "b", "c"} {
		s.tell(event(capture.Left, name))
	}
	s.tell(event(capture.Joined, "a")) // which shows that it had left
	s.tell(event(capture.Joined, "b"))
	out.waitFor(t, "- 3 instances: a, b, c (no)\n+ 2 instances: a, b\n")
	s.tell(event(capture.Lost, "d"))
	out.waitFor(t, "sshpcap: d: no\n")
	if took := time.Since(start); took < holdLater {
		t.Errorf("it was not held back: %v", took)
	}
	for _, name := range []string{"x", "y", "x", "y"} { // two interfaces of each
		s.tell(capture.Event{Kind: capture.Note, Instance: name, Text: "its time is over"})
	}
	out.waitFor(t, "on 2 instances: x, y: its time is over\n")
	s.tell(event(capture.Left, "e"))
	s.tell(event(capture.Left, "f"))
	s.gatherer.close()
	s.tell(event(capture.Left, "g"))
	if !strings.HasSuffix(out.String(), "- 2 instances: e, f (no)\n") {
		t.Errorf("at the end %q", out)
	}
}

func TestEventsBeforeReady(t *testing.T) {
	s, out := many(2)
	s.tell(event(capture.Failed, "a")) // the other one takes long
	out.waitFor(t, "sshpcap: a: no\n")
	s.gatherer.close()
	s, out = many(1)
	s.tell(event(capture.Failed, "a"))
	if out.String() == "" {
		t.Error("the only one is held back")
	}
}

func TestLeftOut(t *testing.T) {
	s, out := many(0)
	skipped := []cf.Instance{{App: "shop", Process: "web", Index: 1, State: "CRASHED", Details: "out of memory"}, {App: "shop", Process: "web", Index: 2, State: "DOWN"}}
	tellLeftOut(s.display, skipped)
	if want := "shop/web/1 is crashed and is left out (out of memory)\nshop/web/2 is down and is left out\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	s, out = many(0)
	skipped = nil
	for i := range 50 {
		skipped = append(skipped, cf.Instance{App: "shop", Process: "web", Index: i, State: "CRASHED", Details: "100% full: %s"})
	}
	tellLeftOut(s.display, skipped)
	want := "50 instances are crashed and are left out: shop/web/0, shop/web/1, shop/web/2, shop/web/3, shop/web/4, shop/web/5, shop/web/6, … (100% full: %s)\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	var b strings.Builder
	report := capture.Report{}
	for i := range 60 {
		report.LeftOut = append(report.LeftOut, capture.LeftOut{Name: fmt.Sprint("shop/web/", i), State: "crashed", Details: "full"})
	}
	printTable(&b, report)
	if text := b.String(); !strings.Contains(text, "shop/web/49  -        -      -        -     -      -     left out: crashed (full)\n10 more") {
		t.Errorf("%s", text)
	}
}

// Without a terminal there is a line only where there is something new to tell.
func TestPlainProgress(t *testing.T) {
	out, progress := new(screen), new(capture.Progress)
	d := &display{w: out, progress: progress}
	for range 3 {
		d.show()
	}
	progress.Capturing.Store(1)
	d.show()
	d.show()
	progress.Packets.Store(7)
	d.show()
	d.show()
	if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "  7 packets") {
		t.Errorf("%d lines:\n%s", n, out)
	}
}
