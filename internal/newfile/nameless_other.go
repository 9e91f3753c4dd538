//go:build !linux

package newfile

import (
	"errors"
	"os"
)

// openNameless makes a file without a name, where that is possible.
func openNameless(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func giveName(*os.File, string) error { return errors.ErrUnsupported }
