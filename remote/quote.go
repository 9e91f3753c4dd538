package remote

import "strings"

// Quote makes s one word of a POSIX shell's command line, whatever it holds.
//
// It is a string in single quotes. fish takes a backslash inside of them for
// an escape, and csh a "!" for its history, so both stand outside, each behind
// a backslash, like the single quote itself. Other shells (rc, elvish,
// nushell, xonsh) read a backslash in their own way: [shellLine] is for all.
//
// No argument of a Unix program can hold a NUL byte. Quote leaves it out;
// [Command.Check] refuses it.
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
