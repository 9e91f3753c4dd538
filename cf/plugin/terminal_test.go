//go:build linux

package plugin_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// TestInterrupt: ^C reaches the plugin only, and the prompt comes back when it has saved.
func TestInterrupt(t *testing.T) {
	inEach(t, func(t *testing.T, s *screen) {
		before := s.modes()
		c := s.captures("cf pcap -dir DIR -save 1s")
		if group := s.group(); group != c.pid || group != c.group || c.cf == 0 {
			t.Errorf("group %d has the terminal, the plugin is %d in group %d", group, c.pid, c.group)
		}
		s.types("\x03")
		if between := s.sees(prompt); !strings.Contains(between, "saving\r\nsaved\r\n") {
			t.Errorf("the prompt comes after %q", between)
		}
		c.saves()
		if after, err := os.ReadFile(filepath.Join(c.dir, "after")); err != nil || strings.TrimSpace(string(after)) != strconv.Itoa(c.cf) {
			t.Errorf("afterwards the plugin was in group %s, not in cf's %d, %v", after, c.cf, err)
		}
		s.status(0)
		s.usable(before)
	})
}

// TestTwice: one capture after the other, in one shell.
func TestTwice(t *testing.T) {
	t.Parallel()
	s := inBash(t)
	before := s.modes()
	for range 3 {
		s.captures("cf pcap -dir DIR -save 1ms")
		s.types("\x03")
		s.sees(`saved\r\n` + prompt)
	}
	s.usable(before)
}

// TestStatus: that the plugin has failed arrives, as 1.
func TestStatus(t *testing.T) {
	inEach(t, func(t *testing.T, s *screen) {
		before := s.modes()
		s.captures("cf pcap -dir DIR -exit 3")
		s.types("\x03")
		s.sees(`saved\r\n` + prompt)
		s.status(1)
		s.types("cf pcap -no-such-flag\n")
		s.sees("not defined")
		s.sees(prompt)
		s.status(1)
		s.usable(before)
	})
}

// TestSecondInterrupt reaches the plugin, while it saves, and only that.
func TestSecondInterrupt(t *testing.T) {
	inEach(t, func(t *testing.T, s *screen) {
		before := s.modes()
		c := s.captures("cf pcap -dir DIR -save 30s")
		s.types("\x03")
		s.sees(`saving\r\n`)
		s.types("\x03")
		if between := s.sees(prompt); !strings.Contains(between, "cut\r\n") {
			t.Errorf("the prompt comes after %q", between)
		}
		if c.saved() {
			t.Error("the plugin has saved")
		}
		s.status(1)
		s.usable(before)
	})
}

// TestSuspend: ^Z does nothing, for the shell would not see it.
func TestSuspend(t *testing.T) {
	inEach(t, func(t *testing.T, s *screen) {
		before := s.modes()
		s.captures("cf pcap -dir DIR")
		s.types("\x1a")
		s.sees(`\^Z`)
		s.types("\x03")
		s.sees(`saved\r\n` + prompt)
		s.status(0)
		s.usable(before)
	})
}

// TestCrash: a plugin that can give nothing back leaves a terminal that the shell can use.
func TestCrash(t *testing.T) {
	for name, crash := range map[string]func(s *screen, c *captured){
		"panic": func(s *screen, _ *captured) { s.types("\x03"); s.sees("panic: on purpose") },
		"quit":  func(s *screen, _ *captured) { s.types("\x1c"); s.sees("SIGQUIT") },
		"kill":  func(s *screen, c *captured) { kill(s.t, c.pid) },
	} {
		t.Run(name, func(t *testing.T) {
			inEach(t, func(t *testing.T, s *screen) {
				before := s.modes()
				crash(s, s.captures("cf pcap -dir DIR -panic"))
				s.sees(prompt)
				s.status(1)
				s.usable(before)
			})
		})
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// TestCFKilled: the plugin sees that cf has gone, saves, and takes nothing away from the shell.
func TestCFKilled(t *testing.T) {
	inEach(t, func(t *testing.T, s *screen) {
		before := s.modes()
		c := s.captures("cf pcap -dir DIR -save 300ms")
		kill(t, c.cf)
		s.sees(prompt)
		c.saves()
		until(t, "the plugin has ended", func() bool { return syscall.Kill(c.pid, 0) != nil })
		s.types("\n")
		s.sees(prompt)
		s.usable(before)
	})
}

// TestTimeout: timeout(1) signals cf's group, in which the plugin is no longer.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s := inBash(t)
	before := s.modes()
	c := s.captures("timeout 1 cf pcap -dir DIR")
	s.sees(prompt)
	s.status(124)
	c.saves()
	until(t, "the plugin has ended", func() bool { return syscall.Kill(c.pid, 0) != nil })
	s.usable(before)
}

// TestPipeline: ^C ends the capture, and what reads it gets all of it.
func TestPipeline(t *testing.T) {
	inEach(t, func(t *testing.T, s *screen) {
		before := s.modes()
		s.captures("cf pcap -dir DIR -o - | cat | cat")
		s.types("\x03")
		if between := s.sees(prompt); !strings.Contains(between, "saved\r\n") || !strings.Contains(between, "packets\r\n") {
			t.Errorf("the prompt comes after %q", between)
		}
		s.status(0)
		s.usable(before)
	})
}

// TestBackground: a capture in the background leaves the terminal to the shell, and is stopped as any job.
func TestBackground(t *testing.T) {
	inEach(t, func(t *testing.T, s *screen) {
		before := s.modes()
		c := &captured{t: t, dir: t.TempDir()}
		s.types("cf pcap -dir " + c.dir + " &\n")
		until(t, "it captures", func() bool { return c.noted("pids") })
		c.read()
		s.sees(`(?s)capturing.*` + prompt + `|` + prompt + `.*capturing`)
		if c.group == c.pid || s.group() != s.shell.Process.Pid {
			t.Errorf("group %d has the terminal, the plugin %d is in group %d", s.group(), c.pid, c.group)
		}
		s.usable(before)
		s.types("kill -INT %1\n")
		c.saves()
		s.types("\n")
		s.sees(prompt)
	})
}

// TestStandardFiles: ^C comes from the terminal, wherever the standard files lead. The shell prompts when the capture has
// been saved.
func TestStandardFiles(t *testing.T) {
	for name, files := range map[string]string{
		"no input":           "</dev/null",
		"input from a pipe":  "< <(sleep 30)",
		"none of them":       "</dev/null >out 2>err",
		"no terminal device": "",
	} {
		t.Run(name, func(t *testing.T) {
			if name == "no terminal device" && os.Geteuid() != 0 {
				t.Skip("needs root, to take it away")
			}
			t.Parallel()
			s := inBash(t)
			if name == "no terminal device" {
				s.types("exec unshare --mount sh -c 'mount --bind /dev/null /dev/tty && exec bash --norc --noprofile --noediting -i'\n")
				s.types("PS1='[rea''dy]'\n")
				s.sees(`PS1=(?s:.*)` + prompt)
			}
			before := s.modes()
			c := &captured{t: t, dir: t.TempDir()}
			s.types("cf pcap -dir " + c.dir + " -save 1s " + files + "\n")
			until(t, "it captures", func() bool { return c.noted("pids") })
			c.read()
			if group := s.group(); group != c.pid || group != c.group {
				t.Errorf("group %d has the terminal, the plugin is %d in group %d", group, c.pid, c.group)
			}
			s.types("\x03")
			s.sees(prompt)
			if !c.saved() {
				t.Error("the prompt comes before the capture is saved")
			}
			s.status(0)
			s.usable(before)
		})
	}
}

// TestLoop: a capture in a loop that reads what to capture from a pipe. Each ^C ends one of them, which saves; the loop
// goes on with the next.
func TestLoop(t *testing.T) {
	t.Parallel()
	s := inBash(t)
	before := s.modes()
	dirs := []string{t.TempDir(), t.TempDir()}
	s.types("printf '%s\\n' " + strings.Join(dirs, " ") + " | while read dir; do cf pcap -dir $dir -save 500ms; echo st=$?.; done\n")
	for _, dir := range dirs {
		c := &captured{t: t, dir: dir}
		until(t, "it captures", func() bool { return c.noted("pids") })
		s.types("\x03")
		s.sees(`saved\r\nst=0\.`)
		c.saves()
	}
	s.sees(prompt)
	s.usable(before)
}

// TestScript: a shell without job control is in one group with cf, and goes on when the capture has been saved.
func TestScript(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bash", "dash"} {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := on(t, name, "-c", "cf pcap -dir "+dir+" -exit 7; echo st=$?.; read x; echo got=$x.")
			s.sees(`capturing\r\n`)
			s.types("\x03")
			s.sees(`saving\r\nsaved\r\nst=1\.`)
			s.types("hello\n")
			s.sees(`got=hello\.`)
			<-s.ended
		})
		t.Run(name+" below bash", func(t *testing.T) {
			t.Parallel()
			s := inBash(t)
			before := s.modes()
			c := s.captures(name + " -c 'cf pcap -dir DIR; echo st=$?.'")
			kill(t, c.pid)
			s.sees(`st=1\.`)
			s.sees(prompt)
			s.usable(before)
		})
		t.Run(name+" and its background", func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := on(t, name, "-c", "cf pcap -dir "+dir+" & wait")
			s.sees(`capturing\r\n`)
			c := &captured{t: t, dir: dir}
			c.read()
			if s.group() != s.shell.Process.Pid || c.group != s.shell.Process.Pid {
				t.Errorf("group %d has the terminal, the plugin is in group %d", s.group(), c.group)
			}
			if err := syscall.Kill(c.pid, syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			c.saves()
			<-s.ended
		})
	}
}

// TestDirect: cf is what the terminal was made for, as in a terminal's -e.
func TestDirect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, err := cfProgram()
	if err != nil {
		t.Fatal(err)
	}
	s := on(t, program, "pcap", "-dir", dir)
	s.sees(`capturing\r\n`)
	s.types("\x03")
	s.sees(`saved\r\n`)
	<-s.ended
	if status := s.shell.ProcessState.ExitCode(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// TestNobodyTakesIt: where cf's group has died and no shell has taken the terminal, the session's leader gets it.
func TestNobodyTakesIt(t *testing.T) {
	t.Parallel()
	program, err := cfProgram()
	if err != nil {
		t.Fatal(err)
	}
	c := &captured{t: t, dir: t.TempDir()}
	s := on(t, os.Args[0], "launch", program, "pcap", "-dir", c.dir)
	s.sees(`capturing\r\n`)
	c.read()
	kill(t, c.cf)
	s.sees(`ended: signal: killed`)
	s.sees(`given back`)
	c.saves()
	<-s.ended
}

// TestHangup: the plugin saves also when its terminal is gone.
func TestHangup(t *testing.T) {
	inEach(t, func(t *testing.T, s *screen) {
		c := s.captures("cf pcap -dir DIR")
		s.master.Close()
		c.saves()
		<-s.ended
	})
}

// TestNoTerminal: there is none at all.
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	plugins, err := pluginHome()
	if err != nil {
		t.Fatal(err)
	}
	program, _ := cfProgram()
	home, dir := login(t), t.TempDir()
	for _, stdin := range []func() *os.File{
		func() *os.File { f, _ := os.Open(os.DevNull); return f },
		func() *os.File { // somebody else's terminal
			master, slave, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { master.Close() })
			return slave
		},
	} {
		cmd := exec.Command(program, "pcap", "-dir", dir)
		cmd.Env, cmd.SysProcAttr = environment(home, plugins), &syscall.SysProcAttr{Setsid: true}
		in := stdin()
		cmd.Stdin = in
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in.Close()
		c := &captured{t: t, dir: dir}
		until(t, "it captures", func() bool { return c.noted("pids") })
		c.read()
		if c.group != cmd.Process.Pid {
			t.Errorf("the plugin is in group %d, cf is %d", c.group, cmd.Process.Pid)
		}
		if err := syscall.Kill(c.pid, syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil || !c.saved() {
			t.Errorf("%v, saved: %v", err, c.saved())
		}
		for _, name := range []string{"pids", "saved", "after"} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
}
