package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write the README's flag table")

// flagTable is the README's table of the flags.
func flagTable(flags []cli.Flag) string {
	var b strings.Builder
	b.WriteString("| flag | default | meaning |\n| --- | --- | --- |\n")
	for _, f := range flags {
		doc := f.(cli.DocGenerationFlag)
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

func TestReadmeHasTheFlags(t *testing.T) {
	const path, begin, end = "../../README.md", "<!-- flags of capture: made by go test ./cmd/sshpcap -update -->\n", "<!-- end of flags -->"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the README has no place for the flags")
	}
	want := flagTable(captureFlags())
	if got == want {
		return
	}
	if !*update {
		t.Fatal("the README's flag table is old: go test ./cmd/sshpcap -update")
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
