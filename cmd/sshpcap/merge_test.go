package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/files"
)

// A stream's FIFO or device is what was looked at when its name was, or nothing is written.
func TestStreamOutput(t *testing.T) {
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
	o := &stream{path: path, found: put("")}
	for range 2 {
		if n, err := o.Write([]byte("packets")); n != 7 || err != nil {
			t.Fatal(n, err)
		}
	}
	o.file.Close()
	if n, err := o.Write([]byte("packets")); n != 0 || err == nil || !o.begun.Load() {
		t.Error(n, err, "and nothing was written")
	}
	o = &stream{path: path, found: put("before")}
	put("somebody else's")
	if n, err := o.Write([]byte("packets")); n != 0 || err == nil || !strings.Contains(err.Error(), "replaced") || o.begun.Load() {
		t.Error(n, err)
	}
	if content, _ := os.ReadFile(path); string(content) != "somebody else's" {
		t.Errorf("%q", content)
	}
}

// What is said of an output that did not become whole is true.
func TestWritten(t *testing.T) {
	cut, empty := new(stream), new(stream)
	cut.begun.Store(true)
	for _, c := range []struct {
		files []string
		out   *stream
		want  string
	}{
		{nil, nil, "there is no output"},
		{nil, empty, "there is no output"},
		{nil, cut, "the output is cut off"},
		{[]string{"a"}, nil, "what there is: 1 whole file, the last one 'a'"},
		{[]string{"a", "b"}, nil, "what there is: 2 whole files, the last one 'b'"},
	} {
		if got := written(files.Report{Files: c.files}, c.out); got != c.want {
			t.Errorf("%v: %q, want %q", c.files, got, c.want)
		}
	}
}

// Each kind of a note is one line, and names a few of its inputs.
func TestPrintNotes(t *testing.T) {
	custom := files.Note{What: "custom block", Text: "left out: of another kind", Count: 1}
	report := files.Report{Inputs: []files.InputReport{{Name: "a", Notes: []files.Note{custom, {What: "name", Text: "left out", Count: 1200}}}}}
	for _, name := range []string{"b", "c", "d", "e"} {
		report.Inputs = append(report.Inputs, files.InputReport{Name: name, Notes: []files.Note{custom}})
	}
	var got strings.Builder
	printNotes(&got, report)
	want := "a, b, c, 2 more: 5 custom blocks left out: of another kind.\na: 1,200 names left out.\n"
	if got.String() != want {
		t.Errorf("%q, want %q", got.String(), want)
	}
}

// silent is somebody who takes and gives nothing, until it is released.
type silent struct {
	found    func() // called when that is found out
	released chan struct{}
}

func (s *silent) Read([]byte) (int, error) { return s.Write(nil) }

func (s *silent) Write([]byte) (int, error) {
	s.found()
	<-s.released
	return 0, io.EOF
}

// A merge into a stream that takes nothing is given up after a signal, and no other.
func TestMergeOrStop(t *testing.T) {
	defer func(d time.Duration) { stuckPatience = d }(stuckPatience)
	stuckPatience = time.Millisecond
	in := filepath.Join(t.TempDir(), "in")
	head := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}
	if err := os.WriteFile(in, head, 0o600); err != nil {
		t.Fatal(err)
	}
	released := make(chan struct{})
	defer close(released)
	stopped := func(cfg files.Config, with *silent) error {
		s := watchSignals()
		defer s.close()
		with.found, with.released = s.cancel, released
		_, err := mergeOrStop(s, cfg)
		return err
	}
	to := new(silent)
	if err := stopped(files.Config{Inputs: []string{in}, Out: to}, to); !errors.Is(err, errStuck) {
		t.Error(err)
	}
	// The output is a file, so that the merge ends when it is to, and not later.
	stuckPatience = time.Hour
	from := new(silent)
	if err := stopped(files.Config{Inputs: []string{"-"}, Stdin: from, Path: in + ".out"}, from); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestDamageHint(t *testing.T) {
	for packets, want := range map[int64]string{
		0:    "none of its packets is in the output",
		1:    "its first packet is in the output",
		1987: "its first 1,987 packets are in the output",
	} {
		if got := damageHint(packets); got != want {
			t.Errorf("%d: %q, want %q", packets, got, want)
		}
	}
}
