// Package bed builds the network the end-to-end tests run in: network namespaces with real SSH servers, wired to a hub
// where the client runs. It knows nothing of the program under test, and touches neither the network nor the accounts of
// the machine: addresses, users, sudoers and homes exist inside the namespaces only.
package bed

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// prefix starts the name of everything the bed leaves in the file system: namespaces in /run/netns and directories below
// os.TempDir. The pid of the test follows, so that what a killed run left can be told from what is in use.
const prefix = "spcbed-"

// Bed is one hub with its instances. Make it with New.
type Bed struct {
	Dir string // readable by every user of the instances
	Hub *Host  // where the client runs

	Names string // more lines of /etc/hosts, on the instances that are added from now on

	t     testing.TB
	id    string
	hosts []*Host
	names map[string]*Host
	bases map[int]bool // nets that have a bridge
}

var beds atomic.Int32

var once sync.Once

// New makes a bed with an empty hub. It is taken apart when the test ends. Without root or without one of the tools the
// test is skipped, or failed where CI=true says that both must be there.
func New(t testing.TB, tools ...string) *Bed {
	t.Helper()
	Require(t, append([]string{"ip", "mount", "sshd"}, tools...)...)
	once.Do(func() {
		syscall.Umask(0o022) // the instances' users read what the bed writes
		sweep()
	})

	id := fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), beds.Add(1))
	b := &Bed{Dir: filepath.Join(os.TempDir(), id), t: t, id: id, names: map[string]*Host{}, bases: map[int]bool{}}
	t.Cleanup(b.close)
	must(t, os.Mkdir(b.Dir, 0o755))
	b.Hub = b.host("hub")
	b.bridge(0)
	must(t, b.Hub.ip("addr", "add", address(0, 1)+"/24", "dev", "br0"))
	b.home()
	return b
}

// Require skips the test unless it runs as root and every tool is installed; with CI=true it fails instead.
func Require(t testing.TB, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root for network namespaces")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, "needs "+tool+": run tests/install-deps.sh")
		}
	}
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// address is that of host number n in net number net.
func address(net, n int) string { return fmt.Sprintf("10.77.%d.%d", net, n) }

// bridge makes the bridge of a net in the hub. The hub has an address in net 0 only, so other nets are out of the
// client's reach but through a host that is in both.
func (b *Bed) bridge(net int) {
	if b.bases[net] {
		return
	}
	b.bases[net] = true
	name := "br" + strconv.Itoa(net)
	// Without snooping: it sends packets of its own.
	must(b.t, b.Hub.ip("link", "add", name, "type", "bridge", "mcast_snooping", "0"))
	must(b.t, b.Hub.ip("link", "set", name, "up"))
}

// host makes a namespace that has only a loopback interface.
func (b *Bed) host(name string) *Host {
	b.t.Helper()
	if b.names[name] != nil {
		b.t.Fatalf("bed: two hosts called %s", name)
	}
	h := &Host{Name: name, bed: b, ns: b.id + "-" + name, addrs: map[int]string{}}
	if err := run("ip", "netns", "add", h.ns); err != nil {
		missing(b.t, "needs network namespaces: "+err.Error())
	}
	b.hosts = append(b.hosts, h)
	b.names[name] = h
	// IPv6 autoconfiguration puts packets of its own on a new link.
	must(b.t, h.run("sh", "-c", "for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done"))
	must(b.t, h.ip("link", "set", "lo", "up"))
	return h
}

// WriteFile puts a file into the bed's directory and returns its path.
func (b *Bed) WriteFile(name string, mode os.FileMode, content string) string {
	b.t.Helper()
	path := filepath.Join(b.Dir, name)
	must(b.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(b.t, os.WriteFile(path, []byte(content), mode))
	must(b.t, os.Chmod(path, mode))
	return path
}

// Tmpfs mounts a file system of size bytes below the bed's directory and returns its path.
func (b *Bed) Tmpfs(name string, size int) string {
	b.t.Helper()
	path := filepath.Join(b.Dir, name)
	must(b.t, os.Mkdir(path, 0o755))
	must(b.t, syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", size)))
	return path
}

func (b *Bed) close() {
	if b.t.Failed() {
		for _, h := range b.hosts {
			if log, err := os.ReadFile(h.log()); err == nil {
				b.t.Logf("log of %s:\n%s", h.Name, tail(log, 3000))
			}
		}
	}
	for _, h := range b.hosts {
		h.killAll()
	}
	for _, h := range b.hosts {
		h.reap()
		if err := run("ip", "netns", "del", h.ns); err != nil {
			b.t.Errorf("bed: %v", err)
		}
	}
	removeDir(b.Dir)
}

// sweep removes what runs that were killed have left.
func sweep() {
	namespaces, _ := filepath.Glob("/run/netns/" + prefix + "*")
	for _, path := range namespaces {
		if name := filepath.Base(path); gone(name) {
			h := &Host{ns: name}
			h.killAll()
			run("ip", "netns", "del", name)
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range dirs {
		if gone(filepath.Base(dir)) {
			removeDir(dir)
		}
	}
}

// gone reports whether the process that a name carries has ended.
func gone(name string) bool {
	digits, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
	pid, err := strconv.Atoi(digits)
	if err != nil || pid <= 0 {
		return false
	}
	_, alive := readProcess("/proc/" + digits)
	return !alive
}

// removeDir unmounts what is mounted in a bed's directory, then removes it. Nothing is removed while a mount stays.
func removeDir(dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			if syscall.Unmount(f[1], syscall.MNT_DETACH) != nil {
				return
			}
		}
	}
	os.RemoveAll(dir)
}

// WaitFor polls until cond is true, and fails the test when it is not within d.
func WaitFor(t testing.TB, d time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !cond() {
		if time.Since(start) > d {
			t.Fatalf("%s: not within %v", what, d)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("bed: %v", err)
	}
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}
