package remote

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// echoed is a line whose sh prints its parameters, and what it prints.
func echoed(words []string) (line, want string) {
	return shellLine("sh", `printf "<%s>" "$0" "$#" "$@"`, words...), "<sshpcap><" + itoa(len(words)) + "><" + strings.Join(words, "><") + ">"
}

// TestShellLine has every login shell pass on a script and all words, whatever the environment holds.
func TestShellLine(t *testing.T) {
	line, want := echoed(append(words, rawWords...))
	for _, sh := range loginShells(t) {
		for _, locale := range []string{"C", "C.UTF-8"} {
			t.Run(sh.name+"/"+locale, func(t *testing.T) {
				t.Parallel()
				cmd := sh.command(line)
				// xonsh puts in what it finds in the environment.
				cmd.Env = append(cmd.Env, "LC_ALL="+locale, "IFS=x", "s=S", "e=E", "x=X", "w=W", "HOME=/root")
				if out, err := cmd.Output(); err != nil || string(out) != want {
					t.Errorf("%v\ngot  %q\nwant %q", err, out, want)
				}
			})
		}
	}
}

// TestShellLineSh has every shell that may be an instance's sh understand it. yash cannot write single bytes that are no
// ASCII: what holds them does not run there.
func TestShellLineSh(t *testing.T) {
	line, want := echoed(append(words, rawWords...))
	ascii, wantASCII := echoed([]string{`it's $HOME \ ! ~ ^ , 'a'`, "", "a\nb"})
	for _, name := range []string{"dash", "bash", "busybox", "mksh", "ksh93", "yash", "posh", "zsh"} {
		for _, locale := range []string{"C", "C.UTF-8"} {
			t.Run(name+"/"+locale, func(t *testing.T) {
				t.Parallel()
				if len(installed(t, name)) == 0 {
					t.Skip()
				}
				bin := t.TempDir()
				if err := os.Symlink(where(t, name), filepath.Join(bin, "sh")); err != nil {
					t.Fatal(err)
				}
				line, want := line, want
				if name == "yash" {
					line, want = ascii, wantASCII
				}
				cmd := exec.Command("dash", "-c", line)
				cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "LC_ALL=" + locale}
				if out, err := cmd.Output(); err != nil || string(out) != want {
					t.Errorf("%v\ngot  %q\nwant %q", err, out, want)
				}
			})
		}
	}
}

// TestShellLineIsPlain: apart from the quotes around its words and the one backslash, the line holds nothing that a login
// shell reads in a way of its own.
func TestShellLineIsPlain(t *testing.T) {
	for _, c := range []Command{{}, {Sudo: true, MaxTime: 1}, {Helper: "cf-pcap"}, {Filter: strings.Join(words, " "), Interface: "it's \x80"}} {
		for _, line := range []string{c.Line(), c.AboutLine(), c.BulkLine(4)} {
			parts := strings.Split(line, "'")
			if len(parts) != 7 || parts[2] != " sshpcap " || parts[3] != `\\` || parts[4] != " " {
				t.Fatalf("%q", parts)
			}
			if i := strings.IndexFunc(parts[5], func(r rune) bool { return strings.ContainsRune("'\\!$~^,\n", r) || r > 0x7e }); parts[1] != decodeText || i >= 0 && !strings.HasPrefix(parts[5][i:], "^0") && parts[5][i] != ',' {
				t.Errorf("%q", line)
			}
			if strings.ContainsAny(parts[1], "'\\!~\n") {
				t.Errorf("%q", parts[1])
			}
		}
	}
}

// TestLineChanged: where the line is cut or changed on its way, no helper is started, and it is said why.
func TestLineChanged(t *testing.T) {
	dir := openDir(t)
	helper, ran := filepath.Join(dir, "tcpdump"), filepath.Join(dir, "ran")
	if err := os.WriteFile(helper, []byte("#!/bin/sh\n>"+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	line := Command{Helper: helper, Filter: `ip proto \tcp or host !"x" or 'a'`}.Line()
	at := strings.LastIndex(line, " '") + 2 // the script
	script, rest, _ := strings.Cut(line[at:], "'")
	try := func(what, line string, told bool) {
		t.Helper()
		cmd := exec.Command("sh", "-c", line)
		log := new(Log)
		cmd.Stderr = log
		err := cmd.Run()
		var exit *exec.ExitError
		if _, started := os.Stat(ran); started == nil || !errors.As(err, &exit) {
			t.Fatalf("%s: it was started: %v, %v", what, started == nil, err)
		}
		f := log.Failure(exit.ExitCode())
		if f == nil || f.Kind != NoShell || told && !strings.Contains(f.Problem, "was changed on its way") {
			t.Errorf("%s: %+v", what, f)
		}
	}
	changed := func(what, script string) { t.Helper(); try(what, line[:at]+script+"'"+rest, true) }
	changed("no backslash code", strings.ReplaceAll(script, "^0134", ""))
	changed("no quotes", strings.ReplaceAll(script, "^0047", ""))
	changed("variables put in", strings.ReplaceAll(script, ",h", "/root"))
	changed("other blank space", strings.ReplaceAll(script, "; ", ";"))
	changed("nothing", "")
	for i := 1; i < len(script); i += 97 {
		changed("cut", script[:i])
		changed("cut before", script[i:])
		changed("a byte less", script[:i]+script[i+1:])
	}
	for i := at; i < len(line)-1; i += 511 { // in the script's middle, a quote is open
		try("the whole line cut", line[:i], false)
	}
	try("no backslash", strings.Replace(line, `'\\'`, "''", 1), true)
	try("no length", line[:strings.LastIndex(line, " ")], true)
	cmd := exec.Command("sh", "-c", line)
	stdin, _ := cmd.StdinPipe() // its end would stop the helper
	defer stdin.Close()
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ran); err != nil {
		t.Error("unchanged, it does not run: ", err)
	}
}

// FuzzShellLine: every sh gets the words that were sent.
func FuzzShellLine(f *testing.F) {
	for _, w := range append(words, rawWords...) {
		f.Add(w)
	}
	shells := append(posixShells(f), installed(f, "tcsh", "fish", "rc", "yash", "mksh")...)
	f.Fuzz(func(t *testing.T, word string) {
		if len(word) > 1<<14 {
			return
		}
		line, want := echoed([]string{strings.ReplaceAll(word, "\x00", "")})
		for _, sh := range shells {
			if got, err := sh.command(line).Output(); err != nil || string(got) != want {
				t.Errorf("%s: %q becomes %q: %v", sh.name, word, got, err)
			}
		}
	})
}
