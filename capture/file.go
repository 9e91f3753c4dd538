package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/internal/newfile"
)

// Output says where the packets go.
type Output struct {
	Path      string   // a file, created 0600 with the first packet; or a FIFO or device that exists
	File      *os.File // instead of Path: written as it is, and not closed
	Format    Format
	Overwrite bool // an existing file may be replaced; it is, when the first packet is written
}

// file is an output that is opened by its first write, so that a capture that fails before leaves nothing behind and
// destroys nothing.
type file struct {
	Output
	fd       *os.File      // nil until the first write
	special  bool          // a pipe, socket or device: neither truncated nor synced
	found    fs.FileInfo   // of what is special, when it was checked
	empty    bool          // it was closed before anything whole was in it, and removed
	own      bool          // fd is ours to close
	stopping chan struct{} // closed by stopWaiting: the capture ends

	mu     sync.Mutex // of what giveUp looks at: giving, and fd when it changes
	giving bool       // nothing may take long any more
}

// newFile checks what can be checked without touching anything.
func newFile(out Output) (*file, error) {
	f := &file{Output: out, stopping: make(chan struct{})}
	if out.File != nil {
		info, err := out.File.Stat()
		f.special = err != nil || !info.Mode().IsRegular()
		f.fd, f.own = out.File, false
		if fd := reopened(out.File); f.special && fd != nil {
			f.fd, f.own = fd, true
		}
		return f, nil
	}
	if err := newfile.Planted(out.Path); err != nil {
		return nil, &Error{Problem: err.Error(), Tip: "name a file with -o in a directory of your own", Usage: true, Err: err}
	}
	info, err := os.Stat(out.Path)
	if path, err := filepath.EvalSymlinks(out.Path); err == nil {
		f.Path = path // what a link leads to is replaced, never the link
	} else if _, err := os.Lstat(out.Path); err == nil && info == nil { // else it is a link of /proc, which is more than its text
		return nil, &Error{Problem: out.Path + " is a link to nothing", Tip: "remove it, or name another file with -o", Usage: true, Err: fs.ErrExist}
	}
	switch {
	case err == nil && info.IsDir():
		return nil, &Error{Problem: out.Path + " is a directory", Tip: "name a file: -o " + filepath.Join(out.Path, "capture.pcapng"), Usage: true}
	case err == nil && !info.Mode().IsRegular():
		f.special, f.found = true, info
		return f, nil
	case err == nil && !out.Overwrite:
		return nil, &Error{Problem: out.Path + " exists", Tip: "use --overwrite, or another -o", Usage: true, Err: fs.ErrExist}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Problem: plain(err), Tip: "name another file with -o", Usage: true, Err: err}
	}
	return f, f.checkDirectory()
}

// checkDirectory says early what creating the file would say late.
func (f *file) checkDirectory() error {
	dir := filepath.Dir(f.Path)
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New(dir + " is not a directory")
	}
	if err == nil {
		err = writable(dir)
	}
	if err != nil {
		return &Error{Problem: fmt.Sprintf("cannot create %s: %s", f.Path, plain(err)), Tip: "name another file with -o", Usage: true, Err: err}
	}
	return nil
}

// plain is an error without the system call's name in front.
func plain(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Path + ": " + path.Err.Error()
	}
	return err.Error()
}

func (f *file) name() string {
	switch {
	case f.File == nil:
		return f.Path
	case f.File == os.Stdout:
		return "standard output"
	}
	return f.File.Name()
}

// Write opens the file if it is not, and appends to it.
func (f *file) Write(p []byte) (int, error) {
	if f.fd == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	return f.fd.Write(p)
}

func (f *file) open() error {
	fd, err := f.opened()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fd, f.own = fd, true
	if f.giving {
		f.hurry()
	}
	return nil
}

func (f *file) opened() (*os.File, error) {
	switch {
	case f.special:
		return f.openFound()
	case f.Overwrite:
		return f.replace()
	}
	return newfile.Create(f.Path)
}

// openFound opens the pipe or device that was there in the beginning, and nothing that has taken its place.
func (f *file) openFound() (*os.File, error) {
	fd, err := openSpecial(f.Path, f.stopping)
	if err != nil {
		return nil, err
	}
	return newfile.Found(fd, f.found)
}

// stopWaiting ends the waiting for somebody who reads a FIFO.
func (f *file) stopWaiting() { close(f.stopping) }

// giveUp ends a write to somebody who does not read, now and from now on.
func (f *file) giveUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.giving = true
	f.hurry()
}

// hurry lets a write take a moment only. Files on a disk take none, and have no deadline.
func (f *file) hurry() {
	if f.fd != nil && f.special {
		_ = f.fd.SetWriteDeadline(time.Now().Add(lastMoment)) // what cannot have one is no pipe
	}
}

// exchange writes to another file from now on, which has taken the name of the one before.
func (f *file) exchange(fd *os.File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.fd.Close() // it has no name any more
	f.fd = fd
}

// lastMoment is for a reader that reads to take what is left.
const lastMoment = 500 * time.Millisecond

// replace puts a new file in the place of the old one, in one step.
func (f *file) replace() (*os.File, error) {
	temporary := newfile.Hidden(f.Path)
	fd, err := newfile.Create(temporary)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, f.Path); err != nil {
		return nil, errors.Join(err, fd.Close(), os.Remove(temporary))
	}
	return fd, nil
}

// live reports whether somebody may be reading along.
func (f *file) live() bool { return f.special }

// readerGone reports whether this is a pipe without a reader.
func (f *file) readerGone() bool { return f.fd != nil && f.special && hungUp(f.fd) }

// removed reports whether the file has no name any more, so that all that is written to it is lost.
func (f *file) removed() bool {
	if f.fd == nil || !f.own || f.special || !nameless(f.fd) {
		return false
	}
	_, err := os.Stat(f.Path) // some file systems count no names
	return errors.Is(err, fs.ErrNotExist)
}

// close ends the file after its first whole bytes: what follows them is the torn end of a write that failed. One that has
// none is removed: no program could read it.
func (f *file) close(whole int64) error {
	if f.fd == nil {
		return nil
	}
	var err error
	if !f.special {
		info, e := f.fd.Stat()
		if e == nil && f.own && info.Size() > whole {
			err = f.fd.Truncate(whole)
		}
		err = errors.Join(err, f.fd.Sync())
		there, e2 := os.Stat(f.Path)
		switch same := e2 == nil && os.SameFile(there, info); {
		case e != nil || !f.own:
		case !same:
			err = errors.Join(err, errRemoved)
		default:
			f.empty = whole == 0 // it has not even a header
		}
	}
	if f.own {
		err = errors.Join(err, f.fd.Close())
	}
	if f.empty {
		err = errors.Join(err, os.Remove(f.Path))
	}
	return err
}

// letGo has whoever waits to read a FIFO see its end if nothing was written.
func (f *file) letGo() {
	if f.fd == nil {
		newfile.LetGo(f.Path, f.found)
	}
}

// errRemoved means that what was captured is nowhere.
var errRemoved = errors.New("it was removed or replaced while it was being written")
