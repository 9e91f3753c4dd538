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
	s = strings.ReplaceAll(s, "\x00", "")
	if s == "" {
		return "''"
	}
	var b strings.Builder
	b.Grow(len(s) + len(s)/8 + 2)
	for len(s) > 0 {
		n := strings.IndexAny(s, `'\!`)
		if n < 0 {
			n = len(s)
		}
		if n > 0 {
			b.WriteByte('\'')
			b.WriteString(s[:n])
			b.WriteByte('\'')
		}
		for s = s[n:]; s != "" && (s[0] == '\'' || s[0] == '\\' || s[0] == '!'); s = s[1:] {
			b.WriteByte('\\')
			b.WriteByte(s[0])
		}
	}
	return b.String()
}
