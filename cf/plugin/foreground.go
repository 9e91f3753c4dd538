//go:build unix && !aix

package plugin

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Foreground makes the plugin a process group of its own and gives it the terminal, so that ^C reaches only the plugin:
// cf dies of it at once, and the shell would prompt while the plugin still saves. The terminal is the controlling one:
// ^C comes from it wherever the standard files lead. Foreground does nothing where there is none, in the background, and
// where the plugin is a group of its own already. Where SIGINT was ignored when the plugin started it must not be called:
// that is the background of a script, which is in the terminal's foreground all the same, and ^C is not meant for it.
//
// restore gives the terminal back to cf's group and rejoins that. It is to be called as the last thing on every way out,
// may be called again and from any goroutine, and takes nothing away from a shell that has taken the terminal back by
// itself because cf was killed.
//
// ignore is signal.Ignore: SIGTTOU stops a background process that reaches for the terminal, and is ignored from here on;
// so is SIGTSTP, because ^Z would stop the plugin without cf's or the shell's noticing, and nobody could continue it. What
// stands beside cf in a pipeline may write to the terminal meanwhile but not read.
//
// A plugin that dies without calling restore leaves the terminal to the interactive shell, which takes it back when its
// job ends. The rest of a script, which has no job control, is without ^C and keyboard until then.
func Foreground(ignore func(...os.Signal)) (restore func(), err error) {
	nothing := func() {}
	former, err := unix.Getpgid(0)
	if err != nil || former == unix.Getpid() {
		return nothing, err
	}
	tty, ok := openTerminal()
	if !ok {
		return nothing, nil
	}
	if now, err := tty.group(); err != nil || now != former {
		tty.close()
		return nothing, nil
	}
	ignore(unix.SIGTTOU, unix.SIGTSTP)
	if err := unix.Setpgid(0, 0); err != nil {
		tty.close()
		return nothing, fmt.Errorf("cannot make a process group: %w", err)
	}
	if err := tty.give(unix.Getpid()); err != nil {
		tty.close()
		return nothing, errors.Join(fmt.Errorf("cannot take the terminal: %w", err), unix.Setpgid(0, former))
	}
	return sync.OnceFunc(func() { tty.release(former); tty.close() }), nil
}

// terminal is the controlling terminal.
type terminal struct {
	fd  int
	own bool // opened here
}

// openTerminal finds the controlling terminal: /dev/tty, or where that cannot be used (there may be no /dev) a standard
// file that is on it.
func openTerminal() (terminal, bool) {
	if fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
		tty := terminal{fd: fd, own: true}
		if _, err := tty.group(); err == nil {
			return tty, true
		}
		tty.close()
	}
	for fd := range 3 {
		tty := terminal{fd: fd}
		if _, err := tty.group(); err == nil { // which fails on any terminal but the controlling one
			return tty, true
		}
	}
	return terminal{}, false
}

func (t terminal) close() {
	if t.own {
		_ = unix.Close(t.fd)
	}
}

// group is tcgetpgrp.
func (t terminal) group() (int, error) { return unix.IoctlGetInt(t.fd, unix.TIOCGPGRP) }

// give is tcsetpgrp.
func (t terminal) give(group int) error {
	return unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group)
}

// release gives the terminal to the former group, if it is still there to be given. A group whose last process has ended
// cannot have it; the session leader's, a shell as a rule, then gets it.
func (t terminal) release(former int) {
	if now, err := t.group(); err == nil && now == unix.Getpid() && t.give(former) != nil {
		if leader, err := unix.Getsid(0); err == nil {
			_ = t.give(leader) // there is no other group to give it to
		}
	}
	_ = unix.Setpgid(0, former) // it may have ended; then we stay where we are
}
