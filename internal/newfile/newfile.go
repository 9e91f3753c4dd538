// Package newfile makes files that appear whole or not at all. Only their owner can read them, whatever the umask.
package newfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Create makes a new file, 0600, that can be read and written. It follows no link and takes no file that somebody else
// has put there.
func Create(path string) (*os.File, error) {
	fd, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return fd, fd.Chmod(0o600)
}

// Hidden is a name beside path that nobody else has.
func Hidden(path string) string {
	var unique [6]byte
	rand.Read(unique[:])
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+hex.EncodeToString(unique[:]))
}

// Rotated is the name of one of several files, by their number and the time of the first packet:
// capture_00001_20261122T101112Z.pcapng for capture.pcapng.
func Rotated(path string, number int, first time.Time) string {
	ext := Ext(path)
	return fmt.Sprintf("%s_%05d_%s%s", strings.TrimSuffix(path, ext), number, first.UTC().Format("20060102T150405Z"), ext)
}

// Ext is the extension of a name; of a compressed capture both: ".pcapng.gz".
func Ext(path string) string {
	ext := filepath.Ext(path)
	switch strings.ToLower(ext) {
	case ".gz", ".zst":
		switch inner := filepath.Ext(strings.TrimSuffix(path, ext)); strings.ToLower(inner) {
		case ".pcap", ".pcapng", ".cap":
			return inner + ext
		}
	}
	return ext
}

// File is a file in the making. Until it takes its place it has no name where the system can make such files, so that
// nothing is left of it if the process is killed, or a hidden one.
type File struct {
	*os.File
	path string
	name string // its own; "" = none
	kept bool
}

// New begins a file that will be at path.
func New(path string) (*File, error) {
	if fd, err := openNameless(filepath.Dir(path)); err == nil {
		return &File{File: fd, path: path}, errors.Join(fd.Chmod(0o600))
	}
	f := &File{path: path, name: Hidden(path)}
	var err error
	f.File, err = Create(f.name)
	return f, err
}

// Replace puts the file in the place of what is at its path, in one step. Who wants it to outlive a loss of power calls
// Sync before.
func (f *File) Replace() error {
	if f.name == "" {
		name := Hidden(f.path)
		if err := giveName(f.File, name); err != nil {
			return err
		}
		f.name = name
	}
	if err := os.Rename(f.name, f.path); err != nil {
		return err
	}
	f.done()
	return nil
}

// Appear puts the file at its path, where nothing may be: the error is fs.ErrExist then.
func (f *File) Appear() error {
	var err error
	if f.name == "" {
		err = giveName(f.File, f.path)
	} else if err = os.Link(f.name, f.path); err == nil {
		err = os.Remove(f.name)
	} else if !errors.Is(err, fs.ErrExist) { // no links in this file system
		if _, e := os.Lstat(f.path); e == nil {
			return &os.PathError{Op: "create", Path: f.path, Err: fs.ErrExist}
		}
		err = os.Rename(f.name, f.path)
	}
	if err == nil {
		f.done()
	}
	return err
}

// done makes a name last. Not every system can sync a directory, and the file is whole either way.
func (f *File) done() {
	f.name = ""
	if d, err := os.Open(filepath.Dir(f.path)); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// Keep gives the open file to the caller, who closes it.
func (f *File) Keep() *os.File {
	f.kept = true
	return f.File
}

// Discard closes the file unless it was kept, and removes it if it has not taken its place.
func (f *File) Discard() {
	if f.name != "" {
		_ = os.Remove(f.name)
	}
	if !f.kept && f.File != nil {
		_ = f.Close()
	}
}
