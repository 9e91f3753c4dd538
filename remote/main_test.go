package remote

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// helperEnv makes the test binary a helper of the kind it names.
const helperEnv = "REMOTE_TEST_HELPER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		helperMain(mode)
		return
	}
	runtime.LockOSThread() // so that no other goroutine moves the main thread to a namespace
	flag.Parse()
	flag.Set("test.parallel", "12") // the tests wait more than they compute
	goleak.VerifyTestMain(m)
}

// helperMain writes to standard output when it is ready for signals, and ends
// in its own way.
func helperMain(mode string) {
	ask := make(chan os.Signal, 1)
	switch mode {
	case "exit":
		os.Exit(3)
	case "polite", "frozen":
		signal.Notify(ask, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	default:
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	}
	fmt.Printf("ready %d\n", os.Getpid())
	switch mode {
	case "frozen":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "flood":
		for {
			os.Stdout.Write(make([]byte, 1<<16))
		}
	case "stubborn":
		time.Sleep(time.Minute)
	}
	<-ask
	fmt.Println("bye")
	os.Exit(7)
}

// need skips a test whose tools are missing, except in CI, where none may be.
func need(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, tool)
		}
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "root")
	}
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is needed", what)
	}
	t.Skipf("no %s", what)
}

// shell is a program that runs a line as a login shell does.
type shell struct {
	name string
	args []string // before the line
	env  []string
}

func (s shell) command(line string) *exec.Cmd {
	path, err := exec.LookPath(s.args[0])
	if err != nil {
		path = s.args[0]
	}
	cmd := exec.Command(path, append(s.args[1:len(s.args):len(s.args)], "-c", line)...)
	cmd.Env = append(os.Environ(), s.env...)
	if s.name == "bash as sh" {
		cmd.Args[0] = "sh"
	}
	return cmd
}

// posixShells are those that may be an instance's sh; the last one has
// nothing but busybox in its PATH.
func posixShells(t testing.TB) []shell {
	shells := []shell{
		{name: "dash", args: []string{"dash"}},
		{name: "bash as sh", args: []string{"bash"}},
		{name: "busybox", args: []string{"busybox", "sh"}},
	}
	for _, s := range shells {
		need(t, s.args[0])
	}
	bin := t.TempDir()
	busybox, _ := exec.LookPath("busybox")
	for _, name := range []string{"sh", "sleep", "kill", "id"} {
		if err := os.Symlink(busybox, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return append(shells, shell{name: "busybox only", args: []string{busybox, "sh"}, env: []string{"PATH=" + bin}})
}

// quotingShells are those that read what Quote makes as a POSIX shell does, as far as they are installed.
func quotingShells(t testing.TB) []shell {
	return append(posixShells(t), installed(t, "bash", "zsh", "tcsh", "fish")...)
}

// loginShells are all that a user may have, as far as they are installed.
func loginShells(t testing.TB) []shell {
	return append(quotingShells(t), installed(t, otherLogins...)...)
}

// otherLogins are login shells whose quoting is another, or which the rest of the tests leaves out.
var otherLogins = []string{"rc", "elvish", "xonsh", "bsd-csh", "mksh", "ksh93", "yash", "posh"}

func installed(t testing.TB, names ...string) (shells []shell) {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Logf("no %s", name)
			continue
		}
		shells = append(shells, shell{name: name, args: []string{name}})
	}
	return shells
}

// alive lists the processes for which keep is true; those that only wait to
// be reaped are gone.
func alive(keep func(pid int, stat []string) bool) (list []string) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		i := strings.LastIndexByte(string(b), ')')
		f := strings.Fields(string(b)[i+1:]) // from the state on
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if f[0] != "Z" && f[0] != "X" && keep(pid, f) {
			cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			list = append(list, fmt.Sprintf("%d %s %.60q", pid, f[0], strings.ReplaceAll(string(cmd), "\x00", " ")))
		}
	}
	return list
}

// waitFor waits until nothing is left, and says what is if it does not.
func waitFor(t testing.TB, limit time.Duration, left func() []string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	var list []string
	for time.Now().Before(deadline) {
		if list = left(); len(list) == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("still there after %v: %q", limit, list)
}

// openDir is a temporary directory that every user may enter, unlike those
// that the testing package makes.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshpcap-remote-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
