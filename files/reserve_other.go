//go:build !linux

package files

import "os"

func mayReserve(*os.File) bool { return false }

func reserve(*os.File, int64, int64) error { return nil }
