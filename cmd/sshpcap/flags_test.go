package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write docs/flags.md and docs/sshpcap.1")

// flagTable is the table of a command's flags in docs/flags.md.
func flagTable(flags []cli.Flag) string {
	var b strings.Builder
	b.WriteString("| flag | default | meaning |\n| --- | --- | --- |\n")
	for _, f := range flags {
		doc := f.(cli.DocGenerationFlag)
		if !f.(cli.VisibleFlag).IsVisible() {
			continue
		}
		placeholder, usage := placeholder(doc.GetUsage())
		var names []string
		for i := len(f.Names()) - 1; i >= 0; i-- {
			name := f.Names()[i]
			names = append(names, "-"+strings.Repeat("-", min(len(name)-1, 1))+name)
		}
		value := defaultOf(f)
		if value == "" {
			value = "off"
			if doc.TakesValue() {
				value = "none"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimSpace(strings.Join(names, ", ")+" "+placeholder), value, usage)
	}
	return b.String()
}

// TestFlagTables: the tables of docs/flags.md are made of the flags.
func TestFlagTables(t *testing.T) {
	const path = "../../docs/flags.md"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for command, flags := range map[string][]cli.Flag{"capture": captureFlags(), "check": checkFlags(), "list": listFlags(), "merge": mergeFlags()} {
		begin, end := "<!-- flags of "+command+": made by go test ./cmd/sshpcap -update -->\n", "<!-- end of flags -->"
		before, rest, ok := strings.Cut(text, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("docs/flags.md has no place for the flags of %s", command)
		}
		text = before + begin + flagTable(flags) + end + after
	}
	if text == string(raw) {
		return
	}
	if !*update {
		t.Fatal("a table of docs/flags.md is old: go test ./cmd/sshpcap -update")
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
