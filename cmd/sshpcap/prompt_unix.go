//go:build !windows

package main

import (
	"os/signal"
	"syscall"
)

const terminalDevice = "/dev/tty"

// ignoreStop makes ^Z do nothing: a shell that takes the terminal back would turn its echo on, and leave it on.
func ignoreStop() (heed func()) {
	signal.Ignore(syscall.SIGTSTP)
	return func() { signal.Reset(syscall.SIGTSTP) }
}
