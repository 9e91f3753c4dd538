package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityTable: each promise of docs/security.md has a test, and each test that is named there exists.
func TestSecurityTable(t *testing.T) {
	t.Parallel()
	exists := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				exists[m[1]] = true
			}
		}
	}
	doc, err := os.ReadFile("../docs/security.md")
	must(t, err)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	promises := 0
	for line := range strings.Lines(string(doc)) {
		names := named.FindAllStringSubmatch(line, -1)
		for _, m := range names {
			if !exists[m[1]] {
				t.Errorf("there is no %s", m[1])
			}
		}
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| promise |") && !strings.HasPrefix(line, "| --- |") {
			promises++
			if len(names) == 0 {
				t.Errorf("nothing tests: %s", line)
			}
		}
	}
	if promises < 15 {
		t.Errorf("only %d promises were found", promises)
	}
}

// TestFuzzSeeds: every fuzz test has seeds in its code: one without would pass without testing anything.
func TestFuzzSeeds(t *testing.T) {
	t.Parallel()
	fuzz, n := regexp.MustCompile(`(?ms)^func (Fuzz\w+)\(f \*testing\.F\) \{.*?^\}`), 0
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*_test.go"))
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			for _, m := range fuzz.FindAllStringSubmatch(string(text), -1) {
				if n++; !strings.Contains(m[0], "f.Add(") {
					t.Errorf("%s: %s has no seeds", file, m[1])
				}
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d fuzz tests were found", n)
	}
}
