package remote

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"tcpdump: syntax error":      "tcpdump: syntax error",
		" two\r\n lines\t ":          "two lines",
		"\x1b[31mred\x1b[0m":         "\uFFFD[31mred\uFFFD[0m",
		"\x1b]0;title\a":             "\uFFFD]0;title\uFFFD",
		"c1 \u009b31m":               "c1 \uFFFD31m",
		"next\u0085line":             "next\uFFFDline",
		"bidi \u202etxt.exe\u2069":   "bidi \uFFFDtxt.exe\uFFFD",
		"zero\u200bwidth \u00adsoft": "zero\uFFFDwidth \uFFFDsoft",
		"bad \xff\x9b utf-8":         "bad \uFFFD\uFFFD utf-8",
		"sep\u2028arated\u00a0x":     "sep arated x",
		"grüße 日本":                   "grüße 日本",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Clean(strings.Repeat("x", 500)); !strings.HasSuffix(got, "x…") || len(got) > maxClean {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func checkClean(t *testing.T, s string) {
	t.Helper()
	if len(s) > maxClean || !utf8.ValidString(s) || strings.TrimSpace(s) != s {
		t.Errorf("%d bytes: %q", len(s), s)
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			t.Errorf("%U in %q", r, s)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[2J\u202e\xff a\n")
	f.Add(strings.Repeat("€", 300))
	f.Fuzz(func(t *testing.T, s string) {
		once := Clean(s)
		checkClean(t, once)
		if Clean(once) != once {
			t.Errorf("%q is not clean yet: %q", once, Clean(once))
		}
	})
}
