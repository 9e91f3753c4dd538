package container

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Container is an instance of an app. Its fields are set before [Proxy.Add] and left alone after it.
type Container struct {
	GUID  string // of the process; the user is cf:GUID/INDEX
	Index int

	// Prefix is put before the shell and must become what it is given, as `ip netns exec NAME` and `nsenter --net=FILE`
	// do. Empty is nothing.
	Prefix []string
	// Lifecycle is a folder that the container sees as /tmp/lifecycle, of which this machine gets an empty one; needs
	// root. "" is what is there.
	Lifecycle string
	Hidden    []string // files of this machine that the container does not have; only with Lifecycle
	User      *User    // who commands run as; nil is who runs the test
	Shell     []string // runs a command after its own words and -c; empty is bash, or else sh, as they are installed
	Env       []string // beside PATH=/bin:/usr/bin; a later word for the same name wins

	Unreachable atomic.Bool // logins succeed and the connection ends; may be changed at any time

	proxy  *Proxy
	cookie string // in the environment of all that runs here

	mu      sync.Mutex
	crashed bool
	running int // commands that have been started and not reaped
	started int
}

// User is whose rights a container's commands have.
type User struct{ UID, GID int }

func (c *Container) name() string { return c.GUID + "/" + strconv.Itoa(c.Index) }

func (c *Container) init(p *Proxy) {
	c.proxy = p
	if c.cookie == "" {
		c.cookie = "CFTEST_CONTAINER=" + rand.Text()
	}
}

// Commands is how many commands have been started so far.
func (c *Container) Commands() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started
}

// Crash ends the container at once: its connections die, without an exit status, and everything in it is killed. It
// cannot be logged in to until it is started again.
func (c *Container) Crash() error {
	c.mu.Lock()
	c.crashed = true
	c.mu.Unlock()
	c.proxy.Remove(c)
	c.proxy.cut(c)
	return c.kill()
}

// Restart makes a crashed container one that can be logged in to again.
func (c *Container) Restart() {
	c.mu.Lock()
	c.crashed = false
	c.mu.Unlock()
	c.proxy.Add(c)
}

// Close cuts the container's connections, kills everything in it and returns when it is gone.
func (c *Container) Close() error { return c.Crash() }

// kill kills all until nothing is left and nothing has to be reaped.
func (c *Container) kill() error {
	const limit = 10 * time.Second
	var left []Process
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		left = c.Processes()
		for _, p := range left {
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
		c.mu.Lock()
		running := c.running
		c.mu.Unlock()
		if len(left) == 0 && running == 0 {
			return nil
		}
	}
	return fmt.Errorf("container: %s: still there: %v", c.name(), left)
}

// Process is one that runs in a container.
type Process struct {
	PID  int
	Line string // what it was started as
}

// Processes are all that a command of the container has left, however far they went from it: each carries the
// container's mark in its environment. Those that only wait to be reaped are gone.
func (c *Container) Processes() (list []Process) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range files {
		env, err := os.ReadFile(path) // empty for one that waits to be reaped
		if err != nil || !strings.Contains("\x00"+string(env), "\x00"+c.cookie+"\x00") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		list = append(list, Process{PID: pid, Line: strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))})
	}
	return list
}

// lifecycleText gives the rest of its words, from the empty one on, a view of a folder that nobody else has, and takes
// away the files before that word.
const lifecycleText = `mkdir -p /tmp/lifecycle && mount --bind "$0" /tmp/lifecycle &&
while [ "$1" ]; do mount --bind /dev/null "$1" || exit; shift; done && shift && exec "$@"`

// command is what an exec request starts: a shell in a session of its own, that is the direct child of this process.
func (c *Container) command(line string, env []string) *exec.Cmd {
	words := append([]string{}, c.Prefix...)
	if c.Lifecycle != "" {
		words = append(words, "unshare", "--mount", "--propagation", "private", "sh", "-c", lifecycleText, c.Lifecycle)
		words = append(append(words, c.Hidden...), "")
	}
	if c.User != nil {
		words = append(words, "setpriv", "--reuid", strconv.Itoa(c.User.UID), "--regid", strconv.Itoa(c.User.GID), "--clear-groups", "--")
	}
	words = append(append(words, c.shell()...), "-c", line)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(append([]string{"PATH=/bin:/usr/bin"}, c.Env...), env...)
	cmd.Env = append(cmd.Env, c.cookie)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func (c *Container) shell() []string {
	if len(c.Shell) > 0 {
		return c.Shell
	}
	for _, name := range []string{"/bin/bash", "/usr/local/bin/bash", "bash"} {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}
		}
	}
	return []string{"/bin/sh"}
}
