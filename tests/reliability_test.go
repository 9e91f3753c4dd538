package tests

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var updateReliability = flag.Bool("update-reliability", false, "write the tables of docs/reliability.md")

const reliability = "../docs/reliability.md"

// row is a line of a table: what stands there must come out again each time, what was measured need not.
type row struct {
	stands   []string // the first is its name
	measured []string
}

func (r row) String() string {
	return "| " + strings.Join(slices.Concat(r.stands, r.measured), " | ") + " |"
}

// row is the scene's.
func (x *scene) row(exit int) row {
	f := x.fault
	code := "killed"
	if exit >= 0 {
		code = fmt.Sprint(exit)
	}
	says := "nothing"
	if f.anything {
		says = "that it ended; the words depend on the shell there"
	} else if f.says != "" {
		says = "`" + f.says + "`"
	} else if x.problem != "" {
		says = "`" + x.problem + "`"
	}
	sum := "-"
	if f.file != absent {
		sum = fmt.Sprintf("%d = %d + %d + %d", x.sent, x.got, x.dropped, x.sent-x.got-x.dropped)
	}
	return row{
		stands:   []string{f.name, says, code, string(f.file)},
		measured: []string{sum, rounded(x.took, says != "nothing"), rounded(x.left, x.left > 0)},
	}
}

// rounded is a time for people.
func rounded(d time.Duration, known bool) string {
	switch {
	case !known:
		return "-"
	case d < time.Second:
		return "at once"
	}
	return d.Round(time.Second).String()
}

// tableOf gives what is before the named table's lines in the document, the lines, and what is behind.
func tableOf(t testing.TB, name string) (before string, lines []string, after string) {
	t.Helper()
	raw, err := os.ReadFile(reliability)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), "<!-- "+name+": made by make reliability -->\n")
	table, after, ok2 := strings.Cut(rest, "<!-- end of "+name+" -->")
	all := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	if !ok || !ok2 || len(all) < 2 {
		t.Fatalf("%s has no table of %s", reliability, name)
	}
	return before + "<!-- " + name + ": made by make reliability -->\n" + strings.Join(all[:2], "\n") + "\n", all[2:], "<!-- end of " + name + " -->" + after
}

// compare holds what came out against the named table, or writes it anew.
func compare(t testing.TB, name string, order []string, rows map[string]row) {
	t.Helper()
	before, lines, after := tableOf(t, name)
	if *updateReliability {
		var text strings.Builder
		for _, key := range order {
			if len(rows[key].stands) == 0 {
				t.Fatalf("no result of %q: the table is made of a whole run only", key)
			}
			fmt.Fprintln(&text, rows[key])
		}
		if err := os.WriteFile(reliability, []byte(before+text.String()+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for key, r := range rows {
		want := "| " + strings.Join(r.stands, " | ") + " |"
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("%s does not say what came out of %q: %s\nif that is right: make reliability", reliability, key, want)
		}
	}
}

func compareReliability(t testing.TB, rows map[string]row) {
	t.Helper()
	compare(t, "faults", faultNames(), rows)
}

func faultNames() (names []string) {
	for _, f := range faults {
		names = append(names, f.name)
	}
	return names
}

// TestReliabilityIsComplete: the tables have what is tested, and nothing else.
func TestReliabilityIsComplete(t *testing.T) {
	for name, want := range map[string][]string{"faults": faultNames(), "endings": endingNames()} {
		_, lines, _ := tableOf(t, name)
		var have []string
		for _, line := range lines {
			if cells := strings.Split(line, " | "); len(cells) > 1 {
				have = append(have, strings.TrimPrefix(cells[0], "| "))
			}
		}
		if !slices.Equal(have, want) {
			t.Errorf("%s: the table of %s is old: make reliability\nhave %q\nwant %q", reliability, name, have, want)
		}
	}
}
