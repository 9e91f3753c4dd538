//go:build !windows

package main

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

const terminalDevice = "/dev/tty"

// ignoreStop makes ^Z do nothing: a shell that takes the terminal back would turn its echo on, and leave it on.
func ignoreStop() (heed func()) {
	signal.Ignore(syscall.SIGTSTP)
	return func() { signal.Reset(syscall.SIGTSTP) }
}

// silence has a terminal show nothing of what is typed: termios(3).
func silence(fd int) error {
	t, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, setTermios, t)
}
