package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// ignoring is the binary as it is started where signals are ignored.
type ignoring struct {
	*exec.Cmd
	stderr string // a file, that of standard output, too
	pid    string // a file with the binary's own, where a shell is around it
}

// Ways to be started with a signal ignored, and which of them are.
var ignoringShells = map[string]struct {
	script  string
	signals []syscall.Signal
}{
	"trap":          {`trap '' INT HUP; echo $$ >"$0"; exec "$@"`, []syscall.Signal{syscall.SIGINT, syscall.SIGHUP}},
	"nohup":         {`echo $$ >"$0"; exec nohup "$@"`, []syscall.Signal{syscall.SIGHUP}},
	"in background": {`"$@" & echo $! >"$0"; wait $!`, []syscall.Signal{syscall.SIGINT}},
}

func startIgnoring(t *testing.T, script string, stdin io.Reader, args ...string) *ignoring {
	t.Helper()
	dir := t.TempDir()
	c := &ignoring{stderr: filepath.Join(dir, "stderr"), pid: filepath.Join(dir, "pid")}
	stderr, err := os.Create(c.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	c.Cmd = exec.Command("sh", append([]string{"-c", script, c.pid, binary}, args...)...)
	c.Stdin, c.Stdout, c.Stderr, c.Dir = stdin, stderr, stderr, dir
	c.Env = append(os.Environ(), "HOME="+dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.ProcessState == nil {
			c.signal(t, syscall.SIGKILL)
			c.Process.Kill()
			c.Wait()
		}
	})
	return c
}

// says waits for a text on standard error.
func (c *ignoring) says(t *testing.T, text string) {
	t.Helper()
	bed.WaitFor(t, patience, text, func() bool {
		b, err := os.ReadFile(c.stderr)
		return err == nil && bytes.Contains(b, []byte(text))
	})
}

func (c *ignoring) signal(t *testing.T, signals ...syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(c.pid)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range signals {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Error(err)
		}
	}
}

// code waits for the end.
func (c *ignoring) code() int {
	var exit *exec.ExitError
	if err := c.Wait(); errors.As(err, &exit) {
		return exit.ExitCode()
	} else if err != nil {
		return -1
	}
	return 0
}

func (c *ignoring) end(t *testing.T) (end string) {
	t.Helper()
	var report struct{ End string }
	text, err := os.ReadFile(filepath.Join(c.Dir, "report"))
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil {
		t.Error(err)
	}
	return report.End
}

// TestIgnoredSignals: a signal that was ignored when we were started does nothing, and the others end a capture as ever.
func TestIgnoredSignals(t *testing.T) {
	t.Parallel()
	for how, shell := range ignoringShells {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			args := []string{"demo", "-o", "x.pcapng", "--report", "report", "--progress", "none"}
			c := startIgnoring(t, shell.script, nil, append(args, "-d", "1s")...)
			c.says(t, "Capturing on 3 instances, ")
			c.signal(t, shell.signals...)
			if code, end := c.code(), c.end(t); code != 0 || end != "duration" {
				t.Errorf("after signals that are ignored: exit code %d, end %q", code, end)
			}
			c = startIgnoring(t, shell.script, nil, append(args, "-d", "1h")...)
			c.says(t, "Capturing on 3 instances, ")
			text, _ := os.ReadFile(c.stderr)
			pid, _ := os.ReadFile(c.pid)
			if deaf := shell.signals[0] == syscall.SIGINT; deaf != strings.Contains(string(text), "to stop: kill "+strings.TrimSpace(string(pid))) {
				t.Errorf("it says how to stop it: %s", text)
			}
			c.signal(t, syscall.SIGTERM)
			if code, end := c.code(), c.end(t); code != 0 || end != "interrupted" {
				t.Errorf("after TERM: exit code %d, end %q", code, end)
			}
		})
	}
}

// TestIgnoredSignalsElsewhere: the same for the other commands.
func TestIgnoredSignalsElsewhere(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	shell := ignoringShells["trap"]
	for _, command := range []string{"check", "list"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			c := startIgnoring(t, shell.script, nil, command, "u@"+silent.Addr().String(), "-k", "--connect-timeout", "1500ms")
			bed.WaitFor(t, patience, "it dials", func() bool {
				conns, err := os.ReadFile("/proc/net/tcp")
				port := silent.Addr().(*net.TCPAddr).Port
				return err == nil && strings.Contains(string(conns), fmt.Sprintf(":%04X 01 ", port))
			})
			c.signal(t, shell.signals...)
			if code := c.code(); code != 1 {
				t.Errorf("exit code %d", code)
			}
			c.says(t, "1.5s")
		})
	}
	t.Run("merge", func(t *testing.T) {
		t.Parallel()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		c := startIgnoring(t, shell.script, r, "merge", "-o", "x.pcapng", "-")
		r.Close()
		header := "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00"
		io.WriteString(w, header)
		bed.WaitFor(t, patience, "it has read the header", func() bool { n, err := unix.IoctlGetInt(int(w.Fd()), unix.TIOCINQ); return err == nil && n == 0 })
		c.signal(t, shell.signals...)
		io.WriteString(w, "\x01\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x04\x00\x00\x00abcd")
		w.Close()
		if code := c.code(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if _, err := os.Stat(filepath.Join(c.Dir, "x.pcapng")); err != nil {
			t.Error(err)
		}
	})
}
