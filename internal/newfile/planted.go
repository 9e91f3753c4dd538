package newfile

import "errors"

// ErrPlanted means that a path leads over a link, or to a pipe or device, which somebody else has put into a directory
// where everybody may write: what is written there would go where that somebody wants.
var ErrPlanted = errors.New("somebody else has put it where everybody may write")
