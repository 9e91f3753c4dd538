//go:build linux

package plugin_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

const (
	patience = 15 * time.Second
	prompt   = `\[ready\]`
)

// screen is a terminal on which a program runs, as its session leader, and somebody who types and reads.
type screen struct {
	t      *testing.T
	home   string
	master *os.File
	shell  *exec.Cmd
	ended  chan struct{} // closed when shell has ended

	mu   sync.Mutex
	text []byte
	seen int           // of text
	more chan struct{} // has one in it when text has grown; closed when nothing will come
}

// on starts a program on a terminal of its own.
func on(t *testing.T, args ...string) *screen {
	t.Helper()
	plugins, err := pluginHome()
	if err != nil {
		t.Fatal(err)
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	master = pollable(t, master)
	s := &screen{t: t, home: login(t), master: master, ended: make(chan struct{}), more: make(chan struct{}, 1)}
	s.shell = exec.Command(args[0], args[1:]...)
	s.shell.Dir = t.TempDir()
	s.shell.Env = environment(s.home, plugins)
	s.shell.Stdin, s.shell.Stdout, s.shell.Stderr = slave, slave, slave
	s.shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.shell.Start(); err != nil {
		t.Fatal(err)
	}
	var started sync.WaitGroup
	started.Go(s.read)
	started.Go(func() {
		defer close(s.ended)
		_ = s.shell.Wait()
	})
	t.Cleanup(func() {
		_ = s.shell.Process.Kill()
		master.Close()
		started.Wait()
		if t.Failed() {
			t.Logf("%q: the screen was\n%s", args, s.text)
		}
	})
	return s
}

// pollable gives a file that Close takes from a Read that waits.
func pollable(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err := errors.Join(err, f.Close(), unix.SetNonblock(fd, true)); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// shells are those of this machine, each as somebody would use it but for the editing of lines.
func shells() map[string][]string {
	all := map[string][]string{
		"bash": {"bash", "--norc", "--noprofile", "--noediting", "-i"},
		"dash": {"dash", "-i"},
		"zsh":  {"zsh", "-f", "-i", "-o", "no_zle", "-o", "no_prompt_sp", "-o", "no_prompt_cr"},
		"ksh":  {"ksh", "-i", "+o", "emacs"},
	}
	for name := range all {
		if _, err := exec.LookPath(name); err != nil {
			delete(all, name)
		}
	}
	return all
}

// inEach runs a test in every shell there is.
func inEach(t *testing.T, test func(t *testing.T, s *screen)) {
	t.Parallel()
	for name, args := range shells() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, interactive(t, args...))
		})
	}
}

func inBash(t *testing.T) *screen {
	t.Helper()
	return interactive(t, shells()["bash"]...)
}

func interactive(t *testing.T, args ...string) *screen {
	t.Helper()
	s := on(t, args...)
	s.types("PS1='[rea''dy]'\n")
	s.sees(prompt)
	return s
}

func (s *screen) read() {
	defer close(s.more)
	buf := make([]byte, 4096)
	for {
		n, err := s.master.Read(buf)
		s.mu.Lock()
		s.text = append(s.text, buf[:n]...)
		s.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

func (s *screen) types(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// sees waits for something that was not seen yet, and gives all that came until its end.
func (s *screen) sees(expr string) string {
	s.t.Helper()
	re, timeout := regexp.MustCompile(expr), time.After(patience)
	for open := true; ; {
		s.mu.Lock()
		fresh := s.text[s.seen:]
		at := re.FindIndex(fresh)
		if at != nil {
			s.seen += at[1]
		}
		s.mu.Unlock()
		switch {
		case at != nil:
			return string(fresh[:at[1]])
		case !open:
			s.t.Fatalf("the terminal was closed before it showed %q, only %q", expr, fresh)
		}
		select {
		case _, open = <-s.more:
		case <-timeout:
			s.t.Fatalf("the terminal does not show %q, only %q", expr, fresh)
		}
	}
}

// group is the process group that has the terminal.
func (s *screen) group() (group int) {
	s.t.Helper()
	s.control(func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return group
}

func (s *screen) modes() (modes unix.Termios) {
	s.t.Helper()
	s.control(func(fd int) error {
		got, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			modes = *got
		}
		return err
	})
	return modes
}

// control works on the master, which Fd would make a file whose Close waits for a Read.
func (s *screen) control(work func(fd int) error) {
	s.t.Helper()
	raw, err := s.master.SyscallConn()
	if err == nil {
		var worked error
		err = raw.Control(func(fd uintptr) { worked = work(int(fd)) })
		err = errors.Join(err, worked)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// captures types a command line and waits until the plugin captures; DIR in it is the folder for the plugin's notes.
func (s *screen) captures(line string) *captured {
	s.t.Helper()
	c := &captured{t: s.t, dir: s.t.TempDir()}
	s.types(strings.ReplaceAll(line, "DIR", c.dir) + "\n")
	s.sees(`capturing\r\n`)
	c.read()
	return c
}

// captured is a plugin that was started.
type captured struct {
	t              *testing.T
	dir            string
	pid, cf, group int
}

func (c *captured) read() {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "pids"))
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(text), &c.pid, &c.cf, &c.group); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { // of a failed test; a plugin that is stopped would stay for ever
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.pid))
		if err == nil && strings.Contains(string(line), c.dir) {
			_ = syscall.Kill(c.pid, syscall.SIGKILL)
		}
	})
}

// noted reports whether the plugin has left a note.
func (c *captured) noted(name string) bool {
	_, err := os.Stat(filepath.Join(c.dir, name))
	return err == nil
}

func (c *captured) saved() bool { return c.noted("saved") }

// saves waits until the plugin has ended, and saved before.
func (c *captured) saves() {
	c.t.Helper()
	until(c.t, "the plugin has ended", func() bool { return c.noted("after") })
	if !c.saved() {
		c.t.Error("the plugin has not saved")
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// status is what the shell says the last command ended with.
func (s *screen) status(want int) {
	s.t.Helper()
	s.types("echo st=$?.\n")
	if got := s.sees(`st=\d+\.`); !strings.HasSuffix(got, fmt.Sprintf("st=%d.", want)) {
		s.t.Errorf("the command ended with %q, not with %d", got, want)
	}
	s.sees(prompt)
}

// usable checks at a prompt that the terminal is the shell's, that it and its children can read from it, that ^C and ^Z
// reach them.
func (s *screen) usable(before unix.Termios) {
	s.t.Helper()
	if group := s.group(); group != s.shell.Process.Pid {
		s.t.Errorf("group %d has the terminal, not the shell %d", group, s.shell.Process.Pid)
	}
	if after := s.modes(); after != before {
		s.t.Errorf("the terminal's modes were %+v, now they are %+v", before, after)
	}
	s.types("read x; echo got=$x.\n")
	s.types("hello\n")
	s.sees(`got=hello\.`)
	s.sees(prompt)
	s.types("cat\n")
	until(s.t, "cat has the terminal", func() bool { return s.group() != s.shell.Process.Pid })
	s.types("line\n")
	s.sees(`line\r\nline\r\n`)
	s.types("\x1a")
	s.sees(`(?i)stopped|suspended`)
	s.sees(prompt)
	s.types("fg\n")
	until(s.t, "cat has the terminal again", func() bool { return s.group() != s.shell.Process.Pid })
	s.types("more\n")
	s.sees(`more\r\nmore\r\n`)
	s.types("\x03")
	s.sees(prompt)
}
