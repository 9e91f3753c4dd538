//go:build unix

package capture

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mostOpen is how many files and connections may be open at once, if that is known. Go raises the soft limit to the hard
// one by itself.
func mostOpen() (n int, known bool) {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0, false
	}
	return int(min(limit.Cur, 1<<30)), true
}

// writable reports whether files can be created in a directory.
func writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}

// openSpecial opens a device, or a FIFO that somebody reads or is about to: the first packet waits some seconds for
// the reader, the capture does not wait for ever.
func openSpecial(path string, stop <-chan struct{}) (*os.File, error) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		fd, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if !errors.Is(err, syscall.ENXIO) || time.Now().After(deadline) {
			return fd, err
		}
		select {
		case <-time.After(20 * time.Millisecond): // there is no event for "a reader has come"
		case <-stop:
			return nil, err
		}
	}
}

// reopened is a pipe opened once more, so that writes to it can have a deadline without any change to what others may
// share with us; nil where that is not possible.
func reopened(pipe *os.File) *os.File {
	fd, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", pipe.Fd()), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	return fd
}

// hungUp reports whether the other end of a pipe or socket is closed.
func hungUp(fd *os.File) bool {
	conn, err := fd.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	conn.Control(func(number uintptr) {
		poll := []unix.PollFd{{Fd: int32(number)}}
		n, err := unix.Poll(poll, 0)
		gone = err == nil && n > 0 && poll[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	})
	return gone
}

// nameless reports whether an open file has no name any more.
func nameless(fd *os.File) bool {
	info, err := fd.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
