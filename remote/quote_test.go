package remote

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

var words = []string{
	"", "a", "it's", `\`, `\\`, `a\`, `\'`, `'\''`, "!", "!!", "a!b", `\!`, "'!'", `'\!\''`, "$HOME", "`id`", "$(id)", "a b", "-n", "--", "%s %n", "*", "~", "~root", "{a,b}", "[a-z]", "#", "a#b", "&", ";", "|", "<>", "\"", "^x^y", "=ls", "\x01\x7f", "ü€😀", "a\tb", "host 10.0.0.1 and (tcp[13] & 2 != 0)",
}

var rawWords = []string{"a\nb", "\n", "a\n", "\r", "\xff\xfe", "\x80", "a'\n!\\\n"}

// printed is what a shell makes of quoted words.
func printed(t *testing.T, sh shell, words ...string) string {
	t.Helper()
	line := "printf %s@"
	for _, w := range words {
		line += " " + Quote(w)
	}
	out, err := sh.command(line).Output()
	if err != nil {
		t.Fatalf("%s: %q: %v", sh.name, words, err)
	}
	return string(out)
}

func TestQuoteShells(t *testing.T) {
	for _, sh := range quotingShells(t) {
		list := words
		if sh.name != "tcsh" {
			list = append(list[:len(list):len(list)], rawWords...)
		}
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			if got, want := printed(t, sh, list...), strings.Join(list, "@")+"@"; got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestQuoteNUL(t *testing.T) {
	for in, want := range map[string]string{"\x00": "''", "a\x00b": "'ab'", "'\x00'": `\'\'`} {
		if got := Quote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if (Command{Filter: "a\x00"}).Check() == nil {
		t.Error("a NUL byte passes Check")
	}
}

// TestLineShells sends awkward words through the whole line to a helper that
// says what it got, from every login shell.
func TestLineShells(t *testing.T) {
	dir := openDir(t)
	helper := dir + "/it's a !\\ helper"
	script := "#!/bin/sh\nfor a; do printf '<%s>' \"$a\"; done\n"
	if err := os.WriteFile(helper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, sh := range loginShells(t) {
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			w := strings.Join(words, " ")
			c := Command{Helper: helper, Interface: w, Filter: w + "\n", NoSelfFilter: true, Snaplen: 96, NoPromiscuous: true, Nano: true}
			cmd := sh.command(c.Line())
			stdin, err := cmd.StdinPipe() // its end would stop the helper
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.Output()
			stdin.Close()
			if err != nil {
				t.Fatal(err)
			}
			want := "<-i><" + w + "><-n><-U><--immediate-mode><-B><32768><-s><96><-p><--time-stamp-precision=nano><-w><-><--><" + w + " >"
			if got := string(out); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// FuzzQuote: every shell makes of a quoted word what it was. csh takes no word of more than one line.
func FuzzQuote(f *testing.F) {
	for _, w := range append(words, rawWords...) {
		f.Add(w)
	}
	shells := quotingShells(f)
	need(f, "dash", "bash", "busybox")
	f.Fuzz(func(t *testing.T, word string) {
		if len(word) > 1<<14 { // twice quoted it must fit in one argument
			return
		}
		for _, sh := range shells {
			want := strings.ReplaceAll(word, "\x00", "")
			if sh.name == "tcsh" {
				want = oneLine(want)
			}
			if got := printed(t, sh, want); got != want+"@" {
				t.Errorf("%s: %q becomes %q", sh.name, word, got)
			}
		}
	})
}

// Words come to the instance byte by byte, whatever their encoding, but for line breaks; and no command gets another's port or script.
func TestLineWords(t *testing.T) {
	commands := []Command{
		{Helper: "/opt/caf\xe9/tcpdump", Interface: "et\xff0", Filter: "host a\xfe"},
		{Filter: "port <PORT>", Interface: "<PORT>", Helper: "<PORT>", ServerPort: 2222},
		{Filter: "port <PORT>", Interface: "<PORT>", Helper: "<PORT>", ServerPort: 2200},
		{Filter: "a\nb\rc", SelfFilter: "tcp port <PORT>"},
		{Helper: "cf-pcap", NoSelfFilter: true},
	}
	for range 2 { // the beginning of the last line is kept
		for _, c := range commands {
			start := strings.ReplaceAll(c.startScript(), portMark, strconv.Itoa(c.serverPort()))
			words := []string{c.stopScript(), c.iface(), strings.NewReplacer("\n", " ", "\r", " ").Replace(c.Filter), c.program()}
			if c.SelfFilter != "" {
				words = append(words, c.SelfFilter)
			}
			want := shellLine(c.shell(), start, words...)
			if got := c.Line(); got != want {
				t.Errorf("%+v: %s, want %s", c, got, want)
			}
		}
	}
}
