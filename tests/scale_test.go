package tests

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
	"github.com/sshpcap/sshpcap/tests/farm"
)

// grow starts a farm for the test's time.
func grow(t *testing.T, f farm.Farm) *farm.Process {
	t.Helper()
	p, err := farm.Launch(t.TempDir(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("farm: %v", err)
		}
	})
	return p
}

// captureFarm gives a command that captures on all instances of a farm.
func captureFarm(p *farm.Process, args ...string) *exec.Cmd {
	return exec.Command(binary, append([]string{"capture", "@" + p.Targets, "-F", p.Config}, args...)...)
}

// TestManyInstances: hundreds in one capture, stopped by ^C, and every packet is in the file and in the report. With
// SSHPCAP_SOAK=1 there are a thousand.
func TestManyInstances(t *testing.T) {
	t.Parallel()
	n := 300
	if os.Getenv("SSHPCAP_SOAK") != "" {
		n = 1000
	}
	const first, last = 20, 30
	p := grow(t, farm.Farm{Instances: n, First: first, Last: last})
	for _, format := range []string{"pcapng", "pcap"} {
		t.Run(format, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "a."+format)
			c := client{t: t, report: filepath.Join(t.TempDir(), "report")}
			cmd := captureFarm(p, "-o", out, "--report", c.report, "--connect-timeout", "1m", "--grace", "30s")
			cmd.Stderr = &c.stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill() // if it has not ended
			bed.WaitFor(t, time.Minute, "all are capturing", func() bool {
				return strings.Contains(c.stderr.String(), fmt.Sprintf("Capturing on %d instances", n)) ||
					strings.Contains(c.stderr.String(), "Capturing on 1,000 instances")
			})
			cmd.Process.Signal(syscall.SIGINT)
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, &c.stderr)
			}
			everything(t, c.report, n, first+last)
			if got := countRecords(out); got != n*(first+last) {
				t.Errorf("%d packets in the file", got)
			}
			said := c.stderr.String()
			if lines := strings.Count(said, "\n"); lines > 70 || !strings.Contains(said, fmt.Sprint(n-50, " more ")) {
				t.Errorf("%d lines: %s", lines, said)
			}
		})
	}
}

// everything checks that a report has each packet of each instance.
func everything(t *testing.T, path string, n, each int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Instances) != n || r.Packets != uint64(n*each) {
		t.Errorf("%d packets of %d instances", r.Packets, len(r.Instances))
	}
	for _, in := range r.Instances {
		if in.State != "ok" || len(in.Interfaces) != 1 || in.Interfaces[0].Written != uint64(each) || in.Interfaces[0].Received != uint64(each) {
			t.Errorf("%+v", in)
		}
	}
}

// TestOpenFiles: a limit that is too low is told of before anything connects; one that just suffices does.
func TestOpenFiles(t *testing.T) {
	t.Parallel()
	const n = 100
	p := grow(t, farm.Farm{Instances: n, First: 1})
	limited := func(limit int, args ...string) (string, error) {
		out := filepath.Join(t.TempDir(), "a.pcapng")
		cmd := captureFarm(p, append(args, "-o", out, "-c", fmt.Sprint(n))...)
		cmd = exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, limit), "sh"}, cmd.Args...)...)
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	said, err := limited(n + 63)
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != 1 || !strings.Contains(said, "100 instances need 164 open files, and this process may have 163\nhint: allow more with ulimit -Hn 164") ||
		strings.Count(said, "\n") != 2 {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := limited(n + 64); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := limited(n+64, "--per-instance"); err == nil || !strings.Contains(said, "need 264 open files") {
		t.Errorf("%v: %s", err, said)
	}
}

// TestTarpit: an instance that accepts connections and says nothing holds up no other, and is told of when its time is
// up.
func TestTarpit(t *testing.T) {
	t.Parallel()
	const n, patience = 20, 6 * time.Second
	p := grow(t, farm.Farm{Instances: n, First: 1})
	tarpit, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody else does
	if err != nil {
		t.Fatal(err)
	}
	defer tarpit.Close()
	c := client{t: t, report: filepath.Join(t.TempDir(), "report")}
	cmd := captureFarm(p, tarpit.Addr().String(), "-o", filepath.Join(t.TempDir(), "a.pcapng"), "--report", c.report,
		"--connect-timeout", patience.String(), "-d", "100ms")
	said, err := cmd.CombinedOutput()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != 3 || !strings.Contains(string(said), "said nothing within 6s") {
		t.Errorf("%v: %s", err, said)
	}
	r := c.result()
	started, err := time.Parse(time.RFC3339, r.Started)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range r.Instances[:n] {
		first, err := time.Parse(time.RFC3339, in.Interfaces[0].First)
		if err != nil || first.Sub(started) > patience-time.Second {
			t.Errorf("%s captures from %v on, begun at %v: %v", in.Name, first, started, err)
		}
	}
}

// TestManyInterfaces: more of them than an sshd allows sessions on one connection.
func TestManyInterfaces(t *testing.T) {
	t.Parallel()
	const more = 12 // MaxSessions is 10
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	file := output(t, "a.pcapng")
	args := []string{"web1", "--interface", "eth0", "-o", file, "-f", flowFilter, "-s", snaplen}
	for i := range more / 2 {
		one, two := fmt.Sprint("x", i), fmt.Sprint("y", i)
		script := fmt.Sprintf("ip link add %s type veth peer name %s; ip link set %s up; ip link set %s up", one, two, one, two)
		if out, err := h.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		args = append(args, "--interface", one, "--interface", two)
	}
	c := start(t, b, args...).ready()
	sendAll(t, 50, 1000, flow)
	arrived(t, file, 50)
	c.interrupt(0)
	clean(t, patience, h)
	exactly(t, file, sight{flow, "web1:eth0"})
	r := c.check(file)
	if len(r.Instances) != 1 || len(r.Instances[0].Interfaces) != more+1 || r.Instances[0].State != "ok" {
		t.Errorf("%+v", r.Instances)
	}
	if n := strings.Count(h.Log(), "Accepted publickey"); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}
