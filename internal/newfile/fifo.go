package newfile

import (
	"io/fs"
	"os"
	"syscall"
)

// LetGo has whoever opened a FIFO to read it, and waits for somebody who writes, see its end. It does not wait, and is for
// an output into which nothing was written. What was found at the path says whether it is a FIFO; nil: nothing was.
func LetGo(path string, found fs.FileInfo) {
	if found == nil || found.Mode()&fs.ModeNamedPipe == 0 {
		return
	}
	if fd, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil { // else nobody waits
		fd.Close()
	}
}
