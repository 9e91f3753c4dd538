package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A special output is what was looked at when its name was, or nothing is written.
func TestSpecialOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	put := func(content string) os.FileInfo {
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	o := &specialOutput{path: path, found: put("")}
	for range 2 {
		if n, err := o.Write([]byte("packets")); n != 7 || err != nil {
			t.Fatal(n, err)
		}
	}
	o.file.Close()
	o = &specialOutput{path: path, found: put("before")}
	put("somebody else's")
	if n, err := o.Write([]byte("packets")); n != 0 || err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Error(n, err)
	}
	if content, _ := os.ReadFile(path); string(content) != "somebody else's" {
		t.Errorf("%q", content)
	}
}
