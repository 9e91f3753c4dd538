//go:build unix

package newfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mostLinks is how many links a path may lead over, as in Linux.
const mostLinks = 40

// Planted looks at each step of a path as the kernel does with fs.protected_symlinks and fs.protected_fifos (see proc(5)),
// which not every system has on, and which do not concern who reads a link to open what it leads to. In a directory where
// everybody may write only links, pipes and devices of ours, or of the directory's owner, are followed or opened. The
// error matches ErrPlanted. What cannot be looked at is for whoever opens it to tell.
func Planted(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	rest, dir := strings.Split(strings.Trim(path, "/"), "/"), "/"
	for links := 0; len(rest) > 0 && links < mostLinks; {
		step := filepath.Join(dir, rest[0])
		info, err := os.Lstat(step)
		if err != nil {
			return nil
		}
		rest = rest[1:]
		if suspicious := info.Mode()&fs.ModeSymlink != 0 || len(rest) == 0 && !info.Mode().IsRegular() && !info.IsDir(); suspicious && !trusted(dir, info) {
			return fmt.Errorf("%s: %w", step, ErrPlanted)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			dir = step
			continue
		}
		links++
		to, err := os.Readlink(step)
		if err != nil {
			return nil
		}
		if filepath.IsAbs(to) {
			dir = "/"
		}
		rest = append(strings.Split(strings.Trim(filepath.Clean(to), "/"), "/"), rest...)
	}
	return nil
}

// trusted reports whether what is in a directory may be ours, or of whoever is responsible for the directory.
func trusted(dir string, entry fs.FileInfo) bool {
	info, err := os.Lstat(dir)
	if err != nil {
		return false
	}
	const everybody = 0o002
	who := owner(entry)
	return info.Mode().Perm()&everybody == 0 || who == os.Geteuid() || who == owner(info)
}

func owner(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// Reopen opens for reading what is at a path, and neither follows a link nor waits for anybody.
func Reopen(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}
