package remote

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxClean is the longest text, in bytes, that Clean lets through.
const maxClean = 400

// Clean makes text of a remote side safe to show on a terminal: one line, no
// control characters, nothing that reorders what follows it or that cannot
// be seen, valid UTF-8, at most 400 bytes. Blank space is joined to one
// space; every other character taken away leaves a U+FFFD in its place.
func Clean(s string) string {
	var b strings.Builder
	cut := false
	space := false
	for i, r := range s {
		if i > 4*maxClean || b.Len() > maxClean-2*utf8.UTFMax {
			cut = true
			break
		}
		if unicode.IsSpace(r) && r != 0x85 {
			space = b.Len() > 0
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		if !shown(r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
	if cut {
		b.WriteString("…")
	}
	return b.String()
}

// shown reports whether r is a character that a terminal draws and does not
// act on. IsPrint leaves out all of Unicode's categories C and Z: control and
// format characters, bidirectional overrides, line and paragraph separators.
func shown(r rune) bool {
	return unicode.IsPrint(r)
}
