package bed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is one network namespace of a bed: the hub, or an instance with an SSH server.
type Host struct {
	Name string
	Addr string // in the first of its nets
	Port int    // of the SSH server

	bed     *Bed
	ns      string
	options Options
	addrs   map[int]string // by net
	hostKey string         // a known_hosts line's key part, e.g. "ssh-ed25519 AAAA…"
	wires   []string       // the hub's ends of its links
	program []string       // the SSH server's command
	server  *exec.Cmd      // nil without an SSH server
	ended   chan error     // closed by the goroutine that waits for server

	mu       sync.Mutex
	commands []*exec.Cmd // that Command has given
}

// Process is a process in a host's namespace.
type Process struct {
	PID     int
	Name    string // the kernel's short name
	Command string
}

func (p Process) String() string { return fmt.Sprintf("%d (%s) %s", p.PID, p.Name, p.Command) }

// serverNames are the short names of SSH servers' processes: listener, session and, in new versions, separate programs; and
// of what may stand in front of one.
var serverNames = []string{"sshd", "sshd-session", "sshd-auth", "dropbear", "socat"}

// Namespace is the path of the namespace, for nsenter(1).
func (h *Host) Namespace() string { return "/run/netns/" + h.ns }

// Processes lists everything that runs in the namespace but the test itself; what has ended and waits to be reaped does
// not count.
func (h *Host) Processes() []Process {
	want, err := inode("/run/netns/" + h.ns)
	if err != nil {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var all []Process
	for _, dir := range dirs {
		if got, err := inode(dir + "/ns/net"); err != nil || got != want {
			continue
		}
		if p, ok := readProcess(dir); ok && p.PID != os.Getpid() {
			all = append(all, p)
		}
	}
	return all
}

// Leftovers lists what Host.Leftovers does for many hosts, in one look at all processes.
func Leftovers(hosts ...*Host) map[*Host][]Process {
	of := make(map[uint64]*Host)
	for _, h := range hosts {
		if ns, err := inode("/run/netns/" + h.ns); err == nil {
			of[ns] = h
		}
	}
	all := make(map[*Host][]Process)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		ns, err := inode(dir + "/ns/net")
		h := of[ns]
		if err != nil || h == nil {
			continue
		}
		if p, ok := readProcess(dir); ok && p.PID != os.Getpid() && !slices.Contains(serverNames, p.Name) {
			all[h] = append(all[h], p)
		}
	}
	return all
}

// Leftovers lists the processes that belong to a capture: all but the SSH server's own.
func (h *Host) Leftovers() []Process {
	return slices.DeleteFunc(h.Processes(), func(p Process) bool { return slices.Contains(serverNames, p.Name) })
}

// Sessions lists the processes of the SSH server that serve a connection.
func (h *Host) Sessions() []Process {
	return slices.DeleteFunc(h.Processes(), func(p Process) bool {
		return !slices.Contains(serverNames, p.Name) || h.server != nil && p.PID == h.server.Process.Pid
	})
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st.Ino, err
}

func readProcess(dir string) (Process, bool) {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Process{}, false
	}
	// PID (NAME) STATE …, where NAME may hold anything (proc_pid_stat(5)).
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || end+2 >= len(stat) || stat[end+2] == 'Z' || stat[end+2] == 'X' {
		return Process{}, false
	}
	pid, _ := strconv.Atoi(filepath.Base(dir))
	cmd, _ := os.ReadFile(dir + "/cmdline")
	return Process{
		PID:     pid,
		Name:    string(stat[open+1 : end]),
		Command: strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " ")),
	}, true
}

// Command is a command that runs in the namespace. Its pid is that of the program itself: ip execs it.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.ns, name}, args...)...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commands = append(h.commands, cmd)
	return cmd
}

// Do calls f on a thread that is in the namespace; sockets it opens stay there. f must not start goroutines that open any.
func (h *Host) Do(f func() error) error {
	runtime.LockOSThread()
	// Not a thread of its own that ends in the namespace: Go never ends the first thread, and that is what the process
	// is seen by.
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	ns, err := os.Open("/run/netns/" + h.ns)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns %s: %w", h.ns, err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic("bed: a thread is lost in " + h.ns + ": " + back.Error())
	}
	runtime.UnlockOSThread()
	return err
}

// LinkDown takes the links away, as a pulled cable does.
func (h *Host) LinkDown() {
	h.bed.t.Helper()
	for _, wire := range h.wires {
		must(h.bed.t, h.bed.Hub.ip("link", "set", wire, "down"))
	}
}

// BlackHole makes every packet to and from the host's sockets vanish without an answer.
func (h *Host) BlackHole() {
	h.bed.t.Helper()
	must(h.bed.t, h.run("nft", `table inet hole {
	chain arriving { type filter hook input priority 0; policy drop; }
	chain leaving { type filter hook output priority 0; policy drop; }
}`))
}

// Kill sends a signal to every process of that name in the namespace, and says to how many.
func (h *Host) Kill(name string, sig syscall.Signal) int {
	n := 0
	for _, p := range h.Processes() {
		if p.Name == name && syscall.Kill(p.PID, sig) == nil {
			n++
		}
	}
	return n
}

func (h *Host) log() string { return filepath.Join(h.bed.Dir, h.Name+".log") }

// Log is what the SSH server has logged so far.
func (h *Host) Log() string {
	log, err := os.ReadFile(h.log())
	must(h.bed.t, err)
	return string(log)
}

// Connections is how many connections the SSH server has seen.
func (h *Host) Connections() int {
	log := h.Log()
	return strings.Count(log, "Connection from ") + strings.Count(log, "Child connection from ")
}

func (h *Host) run(name string, args ...string) error {
	return run("ip", append([]string{"netns", "exec", h.ns, name}, args...)...)
}

func (h *Host) ip(args ...string) error {
	return run("ip", append([]string{"-n", h.ns}, args...)...)
}

// killAll ends every process in the namespace, twice over, since one may be forking meanwhile; and before them those that are
// only on their way into it.
func (h *Host) killAll() {
	h.mu.Lock()
	for _, cmd := range h.commands {
		if cmd.Process != nil {
			cmd.Process.Kill() // does nothing to one that was waited for
		}
	}
	h.mu.Unlock()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		all := h.Processes()
		if len(all) == 0 {
			return
		}
		for _, p := range all {
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
}

func (h *Host) reap() {
	if h.server != nil {
		<-h.ended
	}
}
