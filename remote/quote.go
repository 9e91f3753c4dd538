package remote

import "strings"

// Quote makes s one word of a shell's command line, whatever it holds.
//
// The form is the POSIX one, a string in single quotes, chosen so that other
// login shells read the same: fish takes a backslash inside single quotes for
// an escape, and csh a "!" for its history, so both stand outside of them,
// each behind a backslash, like the single quote itself.
//
// No argument of a Unix program can hold a NUL byte. Quote leaves it out;
// [Command.Check] refuses it. A newline is kept, though csh cannot read one
// in quotes; [Command.Line] therefore never passes one on.
func Quote(s string) string {
	if s == "" {
		return "''"
	}
	var b strings.Builder
	b.Grow(len(s) + 2)
	open := false
	for i := range len(s) {
		c := s[i]
		special := c == '\'' || c == '\\' || c == '!'
		if c == 0 {
			continue
		}
		if special == open { // a quote begins or ends here
			b.WriteByte('\'')
			open = !open
		}
		if special {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	if open {
		b.WriteByte('\'')
	}
	if b.Len() == 0 {
		return "''"
	}
	return b.String()
}
