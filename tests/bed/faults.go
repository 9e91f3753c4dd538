package bed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Side gives the hub an address in another net, too, so that packets can be sent to a host on a link of their own. They are sent
// also when nobody answers for the host's address any more.
func (b *Bed) Side(net int, hosts ...*Host) {
	b.t.Helper()
	bridge := "br" + strconv.Itoa(net)
	must(b.t, b.Hub.ip("addr", "add", address(net, 1)+"/24", "dev", bridge))
	for _, h := range hosts {
		for i, n := range h.options.Nets {
			if n == net {
				mac, err := h.Command("cat", "/sys/class/net/eth"+strconv.Itoa(i)+"/address").Output()
				must(b.t, err)
				must(b.t, b.Hub.ip("neigh", "replace", h.addrs[net], "lladdr", strings.TrimSpace(string(mac)), "nud", "permanent", "dev", bridge))
			}
		}
	}
}

// Unplug takes the first of the host's links away, as a pulled cable does.
func (h *Host) Unplug() {
	h.bed.t.Helper()
	must(h.bed.t, h.bed.Hub.ip("link", "set", h.wires[0], "down"))
}

// Plug ends what Unplug does.
func (h *Host) Plug() {
	h.bed.t.Helper()
	must(h.bed.t, h.bed.Hub.ip("link", "set", h.wires[0], "up"))
}

// Lossy makes a part of the packets to and from the host vanish, in percent, each by chance.
func (h *Host) Lossy(percent int) {
	h.bed.t.Helper()
	must(h.bed.t, h.run("nft", fmt.Sprintf(`table inet lossy {
	chain arriving { type filter hook input priority 0; iif != lo numgen random mod 100 < %[1]d drop; }
	chain leaving { type filter hook output priority 0; oif != lo numgen random mod 100 < %[1]d drop; }
}`, percent)))
}

// Mend ends what Lossy, BlackHole and Reset do.
func (h *Host) Mend() {
	h.bed.t.Helper()
	must(h.bed.t, h.run("nft", "flush ruleset"))
}

// Reset answers what comes on connections to the SSH server with a reset, as a router does that has forgotten them. The
// server itself is told nothing.
func (h *Host) Reset() {
	h.bed.t.Helper()
	must(h.bed.t, h.run("nft", fmt.Sprintf(`table inet forgotten {
	chain arriving { type filter hook input priority 0; meta l4proto tcp tcp dport %d reject with tcp reset; }
}`, h.Port)))
}

// Slow lets only so many bits a second pass on the first of the host's links, each way.
func (h *Host) Slow(bits int) {
	h.bed.t.Helper()
	shape := []string{"root", "tbf", "rate", strconv.Itoa(bits), "burst", "5kb", "latency", "500ms"}
	must(h.bed.t, h.bed.Hub.run("tc", append([]string{"qdisc", "add", "dev", h.wires[0]}, shape...)...))
	must(h.bed.t, h.run("tc", append([]string{"qdisc", "add", "dev", "eth0"}, shape...)...))
}

// KillServer kills the SSH server's process that listens. Those of its connections go on.
func (h *Host) KillServer() {
	h.bed.t.Helper()
	must(h.bed.t, h.server.Process.Kill())
	<-h.ended
}

// PowerOff ends the host without a word to anybody: its links go, then all connections, and its processes.
func (h *Host) PowerOff() {
	h.bed.t.Helper()
	h.LinkDown()
	must(h.bed.t, h.run("ss", "-K", "-t", "-a")) // else the kernel would close them in good order once the links are back
	h.killAll()
	h.reap()
}

// PowerOn starts a host again that was powered off, with nothing left of what it knew of connections.
func (h *Host) PowerOn() {
	h.bed.t.Helper()
	// What was mounted there went with the processes.
	changed, _ := filepath.Glob(filepath.Join(h.bed.Dir, h.Name+".changed-*"))
	for _, dir := range changed {
		must(h.bed.t, os.Remove(dir))
	}
	for _, wire := range h.wires {
		must(h.bed.t, h.bed.Hub.ip("link", "set", wire, "up"))
	}
	h.bed.serve(h, h.program[0], h.program[1:]...)
}

// Capable makes a tcpdump that every user may capture with.
func (b *Bed) Capable() (path string) {
	b.t.Helper()
	Require(b.t, "setcap")
	tcpdump, err := exec.LookPath("tcpdump")
	must(b.t, err)
	program, err := os.ReadFile(tcpdump)
	must(b.t, err)
	path = b.WriteFile("capable/tcpdump", 0o755, string(program))
	must(b.t, run("setcap", "cap_net_raw,cap_net_admin=ep", path))
	return path
}

// Group is a group of processes of which something is bounded (cgroups(7)).
type Group struct {
	bed   *Bed
	dir   string
	procs string
}

// LimitMemory makes one of at most size bytes, or skips the test where that cannot be.
func (b *Bed) LimitMemory(size int) *Group {
	b.t.Helper()
	return b.group("memory", "memory.limit_in_bytes", "memory.max", size)
}

// LimitProcesses makes one of at most n processes. Those that are put in count, even if they are more.
func (b *Bed) LimitProcesses(n int) *Group {
	b.t.Helper()
	return b.group("pids", "pids.max", "pids.max", n)
}

// group makes one with a limit, whose file has a name in each of the two versions of the kernel's interface.
func (b *Bed) group(kind, first, second string, limit int) *Group {
	b.t.Helper()
	root, file := "/sys/fs/cgroup/"+kind, first
	if _, err := os.Stat(root); err != nil {
		if root, file = "/sys/fs/cgroup", second; os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+kind), 0) != nil {
			missing(b.t, "needs a cgroup of "+kind)
		}
	}
	g := &Group{bed: b, dir: filepath.Join(root, b.id)}
	g.procs = filepath.Join(g.dir, "cgroup.procs")
	must(b.t, os.Mkdir(g.dir, 0o755))
	b.t.Cleanup(g.remove)
	must(b.t, os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.Itoa(limit)), 0))
	return g
}

// Add puts a process into the group.
func (g *Group) Add(p Process) {
	g.bed.t.Helper()
	must(g.bed.t, os.WriteFile(g.procs, []byte(strconv.Itoa(p.PID)), 0))
}

// First puts a process into the group, as the one that the kernel ends first.
func (g *Group) First(p Process) {
	g.bed.t.Helper()
	must(g.bed.t, os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.PID), []byte("1000"), 0))
	g.Add(p)
}

// Fill has processes in the group want n times 25 MB, for two seconds at most.
func (g *Group) Fill(n int) {
	g.bed.t.Helper()
	// Not one process: the kernel would end the largest.
	hogs := exec.Command("sh", "-c", fmt.Sprintf("echo $$ >'%s'; i=0; while [ $((i+=1)) -le %d ]; do dd if=/dev/zero bs=25M count=1 2>/dev/null | sleep 2 & done; wait", g.procs, n))
	must(g.bed.t, hogs.Start())
	g.bed.t.Cleanup(func() { hogs.Wait() })
}

// remove ends what is in the group and takes it away.
func (g *Group) remove() {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		pids, _ := os.ReadFile(g.procs)
		for _, pid := range strings.Fields(string(pids)) {
			if n, err := strconv.Atoi(pid); err == nil {
				syscall.Kill(n, syscall.SIGKILL)
			}
		}
		if err := os.Remove(g.dir); err == nil || time.Now().After(deadline) {
			if err != nil {
				g.bed.t.Errorf("bed: %v", err)
			}
			return
		}
	}
}
