package capture

import (
	"strings"
	"testing"
	"time"
)

// TestSameHost: a boot ID and a namespace are shared by clones, but these did not begin to run at the same time.
func TestSameHost(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const boot = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
	told := func(text string, after, took time.Duration) host {
		log := newStderr(now.Add(after))
		log.Write([]byte("@sshpcap host " + text + "\n"))
		log.named = now.Add(after + took)
		return log.host()
	}
	const ms = time.Millisecond
	first := told(boot+" net:[1] 100.00", 0, 20*ms)
	for name, test := range map[string]struct {
		host          host
		same, unknown bool
	}{
		"at once":                       {told(boot+" net:[1] 100.01", 0, 30*ms), true, false},
		"a minute later":                {told(boot+" net:[1] 160.00", time.Minute, 20*ms), true, false},
		"a minute later, on a slow way": {told(boot+" net:[1] 161.50", time.Minute, 2*time.Second), true, false},
		"clone, restored before":        {told(boot+" net:[1] 101.00", 0, 20*ms), false, false},
		"clone, restored later":         {told(boot+" net:[1] 100.00", time.Minute, 20*ms), false, false},
		"does not tell for how long":    {told(boot+" net:[1]", 0, 20*ms), true, false},
		"another network":               {told(boot+" net:[2] 100.00", 0, 20*ms), false, false},
		"another kernel":                {told("x net:[1] 100.00", 0, 20*ms), false, false},
		"no network told":               {told(boot+" 100.00", 0, 20*ms), false, true},
		"no kernel told":                {told("net:[1] 100.00", 0, 20*ms), false, true},
		"nothing told":                  {told("", 0, 20*ms), false, true},
		"nonsense":                      {told(boot+" net:[1] -1e300", 0, 20*ms), true, false},
	} {
		if test.host.same(first) != test.same || first.same(test.host) != test.same {
			t.Errorf("%s: same %v: %+v and %+v", name, !test.same, first, test.host)
		}
		if test.host.unknown(first) != test.unknown {
			t.Errorf("%s: unknown %v", name, !test.unknown)
		}
	}
}

// TestClaims: two users of one server.
func TestClaims(t *testing.T) {
	t.Parallel()
	var notes []string
	r := newRun(Config{OnEvent: func(e Event) { notes = append(notes, e.Instance+": "+e.Text) }}.withDefaults(), nil)
	defer r.cut()
	defer r.stop(EndAll)
	instances := make(map[string]*instance)
	for _, name := range []string{"a", "b", "c", "d"} {
		instances[name] = newInstance(r, Instance{Name: name, Server: "gate 22"})
	}
	far := newInstance(r, Instance{Name: "far"})
	for _, step := range []struct {
		in      *instance
		host    host
		refused string
	}{
		{instances["a"], host{name: "x net:[1]"}, ""},
		{instances["a"], host{name: "x net:[1]"}, ""}, // another interface of it
		{instances["b"], host{name: "x net:[1]"}, "it is the same host as a"},
		{instances["b"], host{name: "x net:[2]"}, ""},
		{instances["c"], host{}, ""},
		{far, host{}, ""},
	} {
		err := r.claim(step.host, step.in)
		if step.refused == "" && err != nil || step.refused != "" && (err == nil || !strings.Contains(err.Error(), step.refused)) {
			t.Errorf("%s on %q: %v", step.in.Name, step.host.name, err)
		}
	}
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "c: it may be the same host as a,") {
		t.Errorf("%q", notes)
	}
	r.unclaim(instances["a"])
	if err := r.claim(host{name: "x net:[1]"}, instances["d"]); err != nil {
		t.Errorf("after a has gone: %v", err)
	}
}
