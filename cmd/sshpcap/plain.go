package main

import (
	"io"
	"strings"
	"unicode"
)

// plain is the last guard before the terminal: it lets characters and line ends through, and nothing that a terminal acts
// on. Whatever makes a text has cleaned what came from others; this is for what nobody has thought of.
type plain struct{ w io.Writer }

func (p plain) Write(b []byte) (int, error) {
	if _, err := io.WriteString(p.w, safe(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// safe leaves a U+FFFD in the place of everything else.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', unicode.IsPrint(r):
			return r
		case r == '\t':
			return ' '
		}
		return unicode.ReplacementChar
	}, s)
}
