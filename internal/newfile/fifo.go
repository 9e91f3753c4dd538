package newfile

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// LetGo has whoever opened a FIFO to read it, and waits for somebody who writes, see its end. It does not wait, and is for
// an output into which nothing was written. What was found at the path reports whether it is a FIFO; nil: nothing was.
func LetGo(path string, found fs.FileInfo) {
	if found == nil || found.Mode()&fs.ModeNamedPipe == 0 {
		return
	}
	if fd, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil { // else nobody waits
		fd.Close()
	}
}

// Found returns an open pipe or device if it is what was found at its path, and else closes it: something has taken its
// place.
func Found(fd *os.File, found fs.FileInfo) (*os.File, error) {
	if info, err := fd.Stat(); err != nil || !os.SameFile(info, found) {
		return nil, errors.Join(err, errReplaced, fd.Close())
	}
	return fd, nil
}

var errReplaced = errors.New("it was replaced meanwhile")
