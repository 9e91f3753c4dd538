//go:build unix && !aix

package plugin

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const terminal = 0 // standard input is what a shell's job control is about

// Foreground makes the plugin a process group of its own and gives it the terminal, so that ^C reaches only the plugin:
// cf dies of it at once, and the shell would prompt while the plugin still saves. It does nothing where there is no
// terminal at standard input, in the background, and where the plugin is a group of its own already.
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
	if now, err := unix.IoctlGetInt(terminal, unix.TIOCGPGRP); err != nil || now != former {
		return nothing, nil
	}
	ignore(unix.SIGTTOU, unix.SIGTSTP)
	if err := unix.Setpgid(0, 0); err != nil {
		return nothing, fmt.Errorf("cannot make a process group: %w", err)
	}
	if err := give(unix.Getpid()); err != nil {
		return nothing, errors.Join(fmt.Errorf("cannot take the terminal: %w", err), unix.Setpgid(0, former))
	}
	return sync.OnceFunc(func() { release(former) }), nil
}

// release gives the terminal to the former group, if it is still there to be given. A group whose last process has ended
// cannot have it; the session leader's, a shell as a rule, then gets it.
func release(former int) {
	if now, err := unix.IoctlGetInt(terminal, unix.TIOCGPGRP); err == nil && now == unix.Getpid() && give(former) != nil {
		if leader, err := unix.Getsid(0); err == nil {
			_ = give(leader) // there is nobody else to give it to
		}
	}
	_ = unix.Setpgid(0, former) // it may have ended; then we stay where we are
}

// give is tcsetpgrp.
func give(group int) error { return unix.IoctlSetPointerInt(terminal, unix.TIOCSPGRP, group) }
