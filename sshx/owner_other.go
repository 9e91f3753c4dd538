//go:build !unix

package sshx

import "io/fs"

// othersWrite is not known where files have no modes.
func othersWrite(fs.FileInfo) bool { return false }
