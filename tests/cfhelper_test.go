package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/internal/cftest/api"
	"github.com/sshpcap/sshpcap/internal/cftest/container"
	"github.com/sshpcap/sshpcap/tests/bed"
)

// platformHelper is where the platform has its helper in every container.
const platformHelper = "/tmp/lifecycle/cf-pcap"

// capable is a folder with a cf-pcap that captures whoever runs it, as the platform's does.
func (p *platform) capable() (dir string) {
	p.t.Helper()
	dir = p.t.TempDir()
	for _, words := range [][]string{
		{"cp", "-a", p.lifecycle + "/.", dir}, {"setcap", "cap_net_raw=ep", filepath.Join(dir, "cf-pcap")}, {"chmod", "755", dir, filepath.Dir(dir)},
	} {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			p.t.Fatalf("%q: %v %s", words, err, out)
		}
	}
	return dir
}

// TestCloudFoundryHelper: a container's own tcpdump is preferred where it may capture; else the platform's helper
// captures, without a word about the other one.
func TestCloudFoundryHelper(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 3)
	own, forbidden := p.containers[1], p.containers[2]
	own.Hidden, forbidden.Hidden = nil, nil
	forbidden.User, forbidden.Lifecycle = &container.User{UID: 2000, GID: 2000}, p.capable()
	lo := (&bed.Flow{From: p.hosts[2], To: p.hosts[2], Port: 40100, Loopback: true}).Open(t)
	file := output(t, "x.pcapng")
	c := p.start("cf:shop", "--interface", "eth0", "--interface", "lo", "-o", file, "-f", flowFilter).ready()
	sendAll(t, 100, 1000, append(p.flows, lo)...)
	arrived(t, file, 400)
	c.interrupt(0)
	clean(t, patience, p.hosts...)
	exactly(t, file, append(p.sights("eth0"), sight{lo, "shop/web/2:lo"})...)

	r := c.check(file)
	if got, want := r.states(), "shop/web/0=ok shop/web/1=ok shop/web/2=ok"; got != want {
		t.Errorf("states %s, want %s", got, want)
	}
	const notCounted = platformHelper + ": packets that it drops are not counted there; they are lost when the container is short of CPU"
	const passedOver = platformHelper + " captured in place of another helper: tcpdump has no permission to capture: "
	for i, want := range []struct {
		helper string
		counts bool
		notes  []string
	}{
		{platformHelper, false, []string{notCounted}},
		{"/tcpdump", true, nil},
		{platformHelper, false, []string{passedOver, notCounted}},
	} {
		in := r.Instances[i]
		if !strings.HasSuffix(in.Helper, want.helper) || len(in.Notes) != len(want.notes) {
			t.Errorf("%s: helper %s, notes %q", in.Name, in.Helper, in.Notes)
			continue
		}
		for n, note := range want.notes {
			if !strings.HasPrefix(in.Notes[n], note) {
				t.Errorf("%s: note %q, want %q", in.Name, in.Notes[n], note)
			}
		}
		if known := in.Interfaces[0].Dropped != nil; known != want.counts {
			t.Errorf("%s: counts what it drops: %v", in.Name, known)
		}
	}
	text := c.stderr.String()
	if !strings.Contains(text, "note: shop/web/0, shop/web/2: "+notCounted+"\n") {
		t.Errorf("no note of what is not counted:\n%s", text)
	}
	if strings.Contains(text, "permission") || strings.Contains(text, "in place of") || strings.Contains(text, "hint") {
		t.Errorf("a word about the helper that was passed over:\n%s", text)
	}
	about := capinfosText(t, file)
	for _, want := range []string{"shop/web/1 ", "by " + platformHelper, "/tcpdump"} {
		if !strings.Contains(about, want) {
			t.Errorf("the file does not tell of %q:\n%s", want, about)
		}
	}
	l := p.look(t, "check", "--json", "cf:shop/1", "cf:shop/2")
	for i, in := range l.json().Instances {
		if want := []string{"/tcpdump", platformHelper}[i]; !in.Works || !strings.HasSuffix(in.Helper, want) || (in.HelperVersion == "") != (i == 1) {
			t.Errorf("check: %s works %v with %s %q", in.Name, in.Works, in.Helper, in.HelperVersion)
		}
	}
}

// TestCloudFoundryLoss: two containers get no processor time for a moment. What the platform's helper loses then is not
// known, and the report says so; a tcpdump loses nothing.
func TestCloudFoundryLoss(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 2, "CFPCAP_SLOTS=") // as many as the real one has
	p.containers[1].Hidden = nil
	file := output(t, "x.pcapng")
	c := p.start("cf:shop", "-o", file, "-f", flowFilter).ready()
	helpers := []int{p.helper(0, "/cf-pcap "), p.helper(1, "/tcpdump ")}
	signal := func(s syscall.Signal) {
		for _, pid := range helpers {
			must(t, syscall.Kill(pid, s))
		}
	}
	t.Cleanup(func() { // of a failed test
		for _, pid := range helpers {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	})
	const before, held, after = 20, 40, 20
	sendAll(t, before, 100, p.flows...)
	arrived(t, file, before) // of both together
	signal(syscall.SIGSTOP)
	sendAll(t, held, 100, p.flows...)
	signal(syscall.SIGCONT)
	sendAll(t, after, 100, p.flows...)
	arrived(t, file, before+held+after+after)
	c.interrupt(0)
	clean(t, patience, p.hosts...)

	r := c.check(file)
	lossy, sound := r.Instances[0], r.Instances[1]
	if n := lossy.Interfaces[0].Received; n == 0 || n >= before+held+after {
		t.Errorf("cf-pcap gave %d packets of %d: it has lost none", n, before+held+after)
	}
	if in := lossy.Interfaces[0]; in.Captured != nil || in.Filtered != nil || in.Dropped != nil || len(lossy.Notes) != 1 || !strings.Contains(lossy.Notes[0], "not counted there") {
		t.Errorf("the report claims to know what it lost: %+v", lossy)
	}
	if n, dropped := sound.Interfaces[0].Received, sound.Interfaces[0].Dropped; n != before+held+after || dropped == nil || *dropped != 0 || len(sound.Notes) != 0 {
		t.Errorf("tcpdump gave %d packets: %+v", n, sound)
	}
	text := c.stderr.String()
	for _, name := range []string{"shop/web/0", "shop/web/1"} {
		for line := range strings.Lines(text) {
			if fields := strings.Fields(line); len(fields) > 5 && fields[0] == name && (fields[4] == "?") != (name == "shop/web/0") {
				t.Errorf("DROPPED of %s is %s", name, fields[4])
			}
		}
	}
	if !strings.Contains(text, "note: shop/web/0: "+platformHelper+": packets that it drops are not counted there; they are lost when the container is short of CPU\n") {
		t.Errorf("no note:\n%s", text)
	}
}

// helper is the process of the helper that captures in a container.
func (p *platform) helper(i int, program string) (pid int) {
	p.t.Helper()
	bed.WaitFor(p.t, patience, "a helper runs in container "+fmt.Sprint(i), func() bool {
		for _, process := range p.containers[i].Processes() {
			if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", process.PID)); strings.HasSuffix(exe+" ", program) {
				pid = process.PID
			}
		}
		return pid != 0
	})
	return pid
}

// TestCloudFoundryDeadLink: a network that loses everything, between us and the platform's proxy, while the API does not
// answer: the loss is told within 30 s.
func TestCloudFoundryDeadLink(t *testing.T) {
	if !soak {
		t.Skip("takes 25 s: part of make soak")
	}
	t.Parallel()
	p := newPlatform(t, 1)
	file := output(t, "x.pcapng")
	c := p.start("cf:shop", "-o", file, "-f", flowFilter).ready()
	sendAll(t, 100, 1000, p.flows...)
	arrived(t, file, 100)
	p.api.Change(func(s *api.Server) { s.Delay = map[string]time.Duration{"/v3/processes": time.Minute} })
	p.proxy.Freeze()
	cut := time.Now()
	c.exit(30*time.Second, 3)
	t.Logf("told after %v", time.Since(cut))
	if _, hint := c.complaint("shop/web/0", "connection lost: nothing has come for 16s"); !strings.Contains(hint, "platform's SSH endpoint "+p.proxy.Addr()) {
		t.Errorf("hint %q", hint)
	}
	clean(t, patience, p.hosts...)
	exactly(t, file, p.sights("eth0")...)
}
