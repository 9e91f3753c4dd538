package bed

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// login runs a command on an instance with OpenSSH's client.
func login(t *testing.T, b *Bed, args ...string) string {
	t.Helper()
	cmd := b.Hub.Command("ssh", append([]string{"-F", b.SSHConfig(), "-i", filepath.Join(b.Home(), ".ssh", "id_ed25519"),
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("ssh %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestLogins(t *testing.T) {
	t.Parallel()
	Require(t, "ssh", "sudo")
	b := New(t)
	b.Add("web1", Options{})
	b.Add("drop", Options{Dropbear: true, User: Sudoer, Port: 2222})
	if got := login(t, b, "web1", "id -un; pwd; echo ${SSH_CONNECTION##* }"); got != "root\n/root\n22" {
		t.Errorf("root on web1: %q", got)
	}
	if got := login(t, b, "plain@web1", "id -un"); got != Plain {
		t.Errorf("plain on web1: %q", got)
	}
	for host, user := range map[string]string{"web1": Sudoer + "@web1", "drop": "drop"} {
		if got := login(t, b, user, "sudo -n id -un"); got != "root" {
			t.Errorf("sudo on %s: %q", host, got)
		}
	}
	if got := login(t, b, "password@web1", "sudo -n id 2>&1; true"); !strings.Contains(got, "password is required") {
		t.Errorf("sudo of password: %q", got)
	}
	if got := login(t, b, "terminal@web1", "sudo -n id 2>&1; true"); !strings.Contains(got, "must have a tty") {
		t.Errorf("sudo of terminal: %q", got)
	}
}

func TestHiddenAndForced(t *testing.T) {
	t.Parallel()
	Require(t, "ssh", "tcpdump")
	b := New(t)
	b.Add("bare", Options{Hide: []string{"tcpdump", "dumpcap"}})
	b.Add("forced", Options{Config: "ForceCommand echo hello"})
	if got := login(t, b, "bare", "command -v tcpdump dumpcap || echo none"); got != "none" {
		t.Errorf("tcpdump where it is hidden: %q", got)
	}
	if got := login(t, b, "forced", "id"); got != "hello" {
		t.Errorf("forced command: %q", got)
	}
}

func TestJump(t *testing.T) {
	t.Parallel()
	Require(t, "ssh")
	b := New(t)
	bastion := b.Add("bastion", Options{Nets: []int{0, 1}})
	b.Add("inner", Options{Nets: []int{1}, Jump: "bastion"})
	before := bastion.Connections()
	cmd := b.Hub.Command("ssh", "-F", b.SSHConfig(), "-i", filepath.Join(b.Home(), ".ssh", "id_ed25519"), "-o", "BatchMode=yes",
		"-o", "ProxyCommand=ssh -F "+b.SSHConfig()+" -i "+filepath.Join(b.Home(), ".ssh", "id_ed25519")+" -W %h:%p bastion", "inner", "hostname -I")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "10.77.1.") {
		t.Errorf("through the jump host: %v: %s", err, out)
	}
	if got := bastion.Connections() - before; got != 1 {
		t.Errorf("the jump host logged %d connections, want 1", got)
	}
}

// TestFlow captures a flow on both of its ends with tcpdump, without SSH, and looks at what is left.
func TestFlow(t *testing.T) {
	t.Parallel()
	Require(t, "tcpdump")
	b := New(t)
	one, two := b.Add("one", Options{}), b.Add("two", Options{})
	flow := (&Flow{From: one, To: two, Port: 40001}).Open(t)

	var outs [2]bytes.Buffer
	for i, h := range []*Host{one, two} {
		tcpdump := h.Command("tcpdump", "-Z", "root", "-n", "-U", "--immediate-mode", "-B", "4096", "-s", "256", "-i", "any", "-c", "500", "-w", "-", "udp port 40001")
		ready, err := tcpdump.StderrPipe()
		must(t, err)
		tcpdump.Stdout = &outs[i]
		must(t, tcpdump.Start())
		t.Cleanup(func() { tcpdump.Wait() })
		buf := make([]byte, 4096)
		for text := ""; !strings.Contains(text, "listening on"); {
			n, err := ready.Read(buf)
			must(t, err)
			text += string(buf[:n])
		}
		if got := h.Leftovers(); len(got) != 1 || got[0].Name != "tcpdump" {
			t.Errorf("leftovers on %s while it captures: %v", h.Name, got)
		}
	}
	must(t, flow.Send(500, 2000))
	for _, h := range []*Host{one, two} {
		WaitFor(t, 10*time.Second, "tcpdump ends on "+h.Name, func() bool { return len(h.Leftovers()) == 0 })
	}
}

func TestLoopbackFlow(t *testing.T) {
	t.Parallel()
	b := New(t)
	h := b.Add("one", Options{})
	flow := (&Flow{From: h, To: h, Port: 40001, Loopback: true}).Open(t)
	must(t, flow.Send(10, 1000))
	if flow.Sent() != 10 {
		t.Errorf("sent %d", flow.Sent())
	}
}

func TestBlackHoleAndLinkDown(t *testing.T) {
	t.Parallel()
	Require(t, "nft", "ping")
	b := New(t)
	ping := func(h *Host) bool { return b.Hub.run("ping", "-c", "1", "-W", "1", h.Addr) == nil }
	one, two := b.Add("one", Options{}), b.Add("two", Options{})
	if !ping(one) || !ping(two) {
		t.Fatal("no answer before")
	}
	one.BlackHole()
	two.LinkDown()
	if ping(one) || ping(two) {
		t.Error("an answer from behind the cut")
	}
}

// TestClosed checks that a bed leaves nothing: no namespace, no directory, no mount, no process.
func TestClosed(t *testing.T) {
	t.Parallel()
	var dir, ns string
	var sleepers []*os.Process
	t.Run("bed", func(t *testing.T) {
		b := New(t)
		h := b.Add("one", Options{})
		b.Tmpfs("small", 65536)
		inside, onTheWay := h.Command("sleep", "1000"), h.Command("sleep", "1000")
		onTheWay.Path = "/bin/sh" // as ip does it, but takes its time
		onTheWay.Args = []string{"sh", "-c", `exec 3<"$0"; echo; sleep 1; exec nsenter --net=/proc/self/fd/3 sleep 1000`, "/run/netns/" + h.ns}
		holds, err := onTheWay.StdoutPipe()
		must(t, err)
		for _, cmd := range []*exec.Cmd{inside, onTheWay} {
			must(t, cmd.Start())
			sleepers = append(sleepers, cmd.Process)
		}
		holds.Read(make([]byte, 1))
		go inside.Wait()
		go onTheWay.Wait()
		dir, ns = b.Dir, "/run/netns/"+h.ns
	})
	for _, path := range []string{dir, ns} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	for _, p := range sleepers {
		WaitFor(t, 5*time.Second, "the process is gone", func() bool { return p.Signal(syscall.Signal(0)) != nil })
	}
}

func TestGone(t *testing.T) {
	for name, want := range map[string]bool{
		prefix + "4194305-1-hub": true, // above the kernel's largest pid
		prefix + "1-1":           false,
		prefix + "x":             false,
		prefix:                   false,
	} {
		if got := gone(name); got != want {
			t.Errorf("gone(%q) = %v", name, got)
		}
	}
}
