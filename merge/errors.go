package merge

import (
	"bytes"
	"fmt"
	"io"
)

// ErrTruncated is the end of a stream in the middle of a record (or of its header). It is normal where a capture was
// cut, and matches io.ErrUnexpectedEOF.
var ErrTruncated = fmt.Errorf("the last packet is cut short: %w", io.ErrUnexpectedEOF)

// A FormatError says that a stream is not the pcap that it should be.
type FormatError struct {
	Offset int64  // in the stream, of what was wrong
	Reason string // what was wrong: lower case, one line
	Head   []byte // the first bytes that came, at most 256, when even the header was wrong
}

// maxHead bounds FormatError.Head: enough for a message of a login shell.
const maxHead = 256

// Error says what is wrong in one line, whatever bytes came.
func (e *FormatError) Error() string {
	if e.Head == nil {
		return fmt.Sprintf("broken pcap stream at byte %d: %s", e.Offset, e.Reason)
	}
	const shown = 60
	if len(e.Head) > shown {
		return fmt.Sprintf("not a pcap stream: %s; it begins with %q...", e.Reason, e.Head[:shown])
	}
	return fmt.Sprintf("not a pcap stream: %s; it begins with %q", e.Reason, e.Head)
}

// Hint says what to do.
func (e *FormatError) Hint() string {
	switch {
	case e.Head == nil:
		return "the packets before it are kept; something else wrote into the stream, or it was damaged on its way"
	case bytes.HasPrefix(e.Head, pcapngMagic):
		return "make what captures write pcap instead of pcapng"
	default:
		return "nothing but the capture may write to its output: look for a banner, a login script or a menu that prints"
	}
}
