package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// manPage is sshpcap.1 in the macros of man(7), made of what the commands say of themselves.
func manPage(app *cli.App) string {
	var b strings.Builder
	b.WriteString(".\\\" made by go test ./cmd/sshpcap -update\n.TH SSHPCAP 1\n.SH NAME\n")
	fmt.Fprintf(&b, "sshpcap \\- %s\n.SH SYNOPSIS\n", roff(app.Usage))
	for _, c := range app.Commands {
		fmt.Fprintf(&b, ".B sshpcap %s\n[\\fIflags\\fR] %s\n.br\n", c.Name, roff(c.ArgsUsage))
	}
	b.WriteString(".SH DESCRIPTION\n" + roff(aboutTargets) + ".PP\nFlags may stand before and after the arguments.\n")
	for _, c := range app.Commands {
		fmt.Fprintf(&b, ".SH %s\n%s.\n", strings.ToUpper(c.Name), roff(capital(c.Usage)))
		if about := strings.TrimSpace(strings.TrimPrefix(c.Description, aboutTargets)); about != "" {
			fmt.Fprintf(&b, ".PP\n%s\n", roff(about))
		}
		for _, f := range c.Flags {
			b.WriteString(manFlag(f))
		}
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, e := range exitStatuses {
		fmt.Fprintf(&b, ".TP\n%d\n%s\n", e.status, roff(e.means))
	}
	b.WriteString(".SH SEE ALSO\n.BR ssh_config (5),\n.BR pcap-filter (7),\n.BR tcpdump (1),\n.BR tshark (1)\n")
	return b.String()
}

// exitStatuses are those of capture; check and list have 0, 1, 2 and 3 in the same sense.
var exitStatuses = []struct {
	status int
	means  string
}{
	{exitOK, "All instances were captured to the end; ^C is the normal end."},
	{exitNothing, "Nothing was captured, or the output broke."},
	{exitUsage, "The command line makes no sense, or the output exists."},
	{exitSome, "Some instances failed; the file holds what the others gave, and the report says which."},
	{exitCut, "A second ^C (of merge the first one): the file is valid, the last packets of some instances may be missing."},
}

func manFlag(f cli.Flag) string {
	doc := f.(cli.DocGenerationFlag)
	if !f.(cli.VisibleFlag).IsVisible() {
		return ""
	}
	value, usage := placeholder(doc.GetUsage())
	names := slices.Clone(f.Names())
	slices.Reverse(names)
	for i, name := range names {
		names[i] = "\\fB" + roff("-"+strings.Repeat("-", min(len(name)-1, 1))+name) + "\\fR"
	}
	if value != "" {
		value = " \\fI" + roff(value) + "\\fR"
	}
	if by := defaultOf(f); by != "" {
		usage += " (default: " + by + ")"
	}
	return fmt.Sprintf(".TP\n%s%s\n%s\n", strings.Join(names, ", "), value, roff(capital(usage)))
}

// roff is a text without what troff would act on (groff_char(7)).
func roff(text string) string {
	text = strings.NewReplacer("\\", "\\e", "-", "\\-", "'", "\\(aq", "^", "\\(ha", "~", "\\(ti", "…", "...").Replace(text)
	return strings.ReplaceAll(text, "\n.", "\n\\&.")
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// TestManPage: docs/sshpcap.1 is made of the flags, and man shows each of them without a warning.
func TestManPage(t *testing.T) {
	const path = "../../docs/sshpcap.1"
	page := manPage(newApp(nil))
	if old, err := os.ReadFile(path); err != nil || string(old) != page {
		if !*update {
			t.Fatal("docs/sshpcap.1 is old: go test ./cmd/sshpcap -update")
		}
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := exec.LookPath("groff"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs groff: run tests/install-deps.sh")
		}
		t.Skip("needs groff")
	}
	cmd := exec.Command("groff", "-man", "-Tutf8", "-ww", "-P-cbou", path)
	var warnings strings.Builder
	cmd.Stderr = &warnings
	text, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Errorf("groff: %v: %s", err, warnings.String())
	}
	for _, f := range captureFlags() {
		if !strings.Contains(string(text), "--"+f.Names()[0]) {
			t.Errorf("the man page lacks --%s", f.Names()[0])
		}
	}
}
