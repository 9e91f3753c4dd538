//go:build unix

package sshx

import (
	"io/fs"
	"os"
	"syscall"
)

// othersWrite reports whether somebody beside the user and root may change a file.
func othersWrite(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	owner := ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
	return info.Mode().Perm()&0o022 != 0 || !owner
}
