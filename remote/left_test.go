package remote

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// moreShells are posixShells and others that are some system's sh.
func moreShells(t testing.TB) []shell {
	return append(posixShells(t), installed(t, "mksh", "yash")...)
}

// wrappers are helpers that run another program, which is the test binary, instead of becoming it.
func wrappers(t *testing.T) map[string]string {
	t.Helper()
	need(t, "python3")
	dir := openDir(t)
	list := make(map[string]string)
	for name, text := range map[string]string{
		"no exec":    "#!/bin/sh\n" + os.Args[0] + "\n:\n",
		"cat":        "#!/bin/sh\n" + os.Args[0] + " | cat\n",
		"twice":      "#!/bin/sh\nsh -c '" + os.Args[0] + "; :'\n:\n",
		"subprocess": "#!/usr/bin/python3\nimport subprocess\nsubprocess.run(['" + os.Args[0] + "'])\n",
		"goes away":  "#!/bin/sh\n" + os.Args[0] + " &\n",
	} {
		list[name] = filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(list[name], []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// withoutSetsid is a PATH in which that program is missing.
func withoutSetsid(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"sh", "cat", "sleep", "python3", "env"} {
		if err := os.Symlink(where(t, name), filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return "PATH=" + bin
}

// TestWrappers: a helper that is a script which runs another program, and does not become it, ends with all that it runs,
// also where there is no setsid to make a group of them.
func TestWrappers(t *testing.T) {
	t.Parallel()
	list, plain := wrappers(t), withoutSetsid(t)
	for i, sh := range moreShells(t) {
		if sh.name == "busybox only" {
			continue // it has not got what they run
		}
		for name, path := range list {
			sh := sh
			wrapper(t, sh.name+"/"+name, sh, path)
			if i > 0 || name == "goes away" {
				continue // the shell has no way to find what a helper has left that is gone
			}
			sh.args, sh.env = []string{where(t, sh.args[0])}, []string{plain}
			wrapper(t, sh.name+", no setsid/"+name, sh, path)
		}
	}
}

// wrapper ends such a helper in two ways.
func wrapper(t *testing.T, name string, sh shell, path string) {
	for _, mode := range []string{"polite", "stubborn"} {
		t.Run(name+"/"+mode, func(t *testing.T) {
			t.Parallel()
			cmd := sh.command(stopLine("TERM", short))
			cmd.Args = append(cmd.Args, "sshpcap", path)
			cmd.Env = append(cmd.Env, helperEnv+"="+mode)
			r := begun(t, cmd)
			r.ready()
			if mode == "stubborn" { // the other one ends for want of signs of life
				r.stdin.Close()
			}
			ended := make(chan error, 1)
			go func() { _, err := cmd.Process.Wait(); ended <- err }()
			select {
			case <-ended:
			case <-time.After(3 * slack):
				t.Error("the shell does not end")
			}
			r.stdin.Close() // as every server does once the shell is gone
			waitFor(t, slack, r.left)
		})
	}
}

// shells of a run: the first, the watch and the countdown. There is none of the last where no process runs it yet.
func (r *run) shells() (pids [3]int) {
	pids[0] = r.cmd.Process.Pid
	child := func(of int) (pid int) {
		alive(func(p int, stat []string) bool {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
			if stat[1] == strconv.Itoa(of) && p != r.helper && bytes.Contains(line, []byte("watched")) {
				pid = p
			}
			return false
		})
		return pid
	}
	pids[1] = child(pids[0])
	if pids[1] != 0 {
		pids[2] = child(pids[1])
	}
	return pids
}

// TestOneShellLeft kills all of our shells but one, of which each ends the helper by itself.
func TestOneShellLeft(t *testing.T) {
	t.Parallel()
	for _, sh := range moreShells(t) {
		for left, name := range []string{"the first", "the watch", "the countdown"} {
			for _, mode := range []string{"polite", "stubborn"} {
				t.Run(sh.name+"/"+name+"/"+mode, func(t *testing.T) {
					t.Parallel()
					limits := short
					limits.silence = "2"
					r := wrappedBy(t, stopLine("TERM", limits), sh, mode)
					var pids [3]int
					waitFor(t, 5*time.Second, func() []string {
						if pids = r.shells(); pids[2] == 0 {
							return []string{"no countdown yet"}
						}
						return nil
					})
					r.watched()
					for i, pid := range pids {
						if i != left {
							syscall.Kill(pid, syscall.SIGKILL)
						}
					}
					if left == 1 {
						r.stdin.Close() // as every server does once the shell is gone
					}
					waitFor(t, 3*time.Second+2*slack, r.left)
					r.stdin.Close()
					r.cmd.Wait()
				})
			}
		}
	}
}

// TestProcessLimits: with so few processes allowed that not all of ours can be made, the helper does not stay, and it is
// told that all is there only if it is.
func TestProcessLimits(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "prlimit", "sleep")
	uid := 61200
	for _, sh := range moreShells(t) {
		if sh.name == "busybox only" || sh.name == "mksh" {
			continue // other users may not use its programs; it tries again for half a minute
		}
		for most := 1; most <= 8; most++ {
			if os.Getenv("SSHPCAP_SOAK") == "" && (sh.name != "dash" || most != 3 && most != 4) {
				continue // some shells try again for long
			}
			if most > 3 && sh.name == "bash as sh" {
				continue // it tries again for some seconds each time
			}
			uid++
			uid := uid
			who := &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			t.Run(fmt.Sprintf("%s/%d", sh.name, most), func(t *testing.T) {
				t.Parallel()
				cmd := sh.command(stopLine("TERM", timing{silence: "9", step: "0.2"}))
				cmd.Args = append([]string{"prlimit", "--nproc=" + itoa(most), cmd.Path}, cmd.Args[1:]...)
				cmd.Args = append(cmd.Args, "sshpcap", "sleep", "300")
				cmd.Path, cmd.Dir, cmd.SysProcAttr = where(t, "prlimit"), "/", who
				told, stderr, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				cmd.Stderr = stderr
				r := begun(t, cmd)
				stderr.Close()
				said := new(Log)
				said.Write([]byte("@sshpcap start\n"))
				ended := make(chan struct{}) // closed when it has said all
				go func() {
					defer close(ended)
					buf := make([]byte, 1<<10)
					for n, err := told.Read(buf); err == nil; n, err = told.Read(buf) {
						said.Write(buf[:n])
					}
					told.Close()
				}()
				of := func() []string {
					return alive(func(pid int, _ []string) bool {
						info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
						return err == nil && info.Sys().(*syscall.Stat_t).Uid == uint32(uid)
					})
				}
				t.Cleanup(func() {
					if t.Failed() {
						for _, line := range of() {
							var pid int
							fmt.Sscan(line, &pid)
							syscall.Kill(pid, syscall.SIGKILL)
						}
					}
				})
				waitFor(t, 40*time.Second, func() []string {
					if said.Report().Watched {
						return nil
					}
					if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)); err != nil || bytes.Contains(stat, []byte(") Z ")) {
						r.stdin.Close() // as every server does once the shell is gone
					}
					return of()
				})
				watched := said.Report().Watched
				r.stdin.Close()
				waitFor(t, 20*time.Second, of)
				<-ended
				err = cmd.Wait()
				t.Logf("watched %v, %v, %+v", watched, err, said.Failure(cmd.ProcessState.ExitCode()))
				if watched && most < 4 {
					t.Error("it cannot be so")
				}
				if most == 8 && !watched {
					t.Error("there is room")
				}
			})
		}
	}
}
