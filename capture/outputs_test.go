package capture_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
)

// beside names the files of a fixture's directory, sorted.
func beside(t *testing.T, f *fixture) (files []string) {
	t.Helper()
	there, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range there {
		files = append(files, filepath.Join(filepath.Dir(f.path), entry.Name()))
	}
	return files
}

// rotated reads the files of a rotated output one after the other.
func rotated(t *testing.T, f *fixture, report capture.Report) (all []record) {
	t.Helper()
	files := beside(t, f)
	if !slices.Equal(files, report.Output.Files) {
		t.Errorf("there is %v, the report names %v", files, report.Output.Files)
	}
	for _, file := range files {
		if !strings.HasPrefix(filepath.Base(file), "x_0") {
			t.Errorf("name %s", file)
		}
		all = append(all, read(t, file)...)
	}
	return all
}

// A rotated output is in strict order within and across its files, also when packets came late.
func TestRotation(t *testing.T) {
	for name, rotation := range map[string]capture.Rotation{
		"size":     {Size: 100_000},
		"interval": {Interval: 40 * time.Minute},
	} {
		f := late(t, "x.pcapng")
		f.Rotation = rotation
		report, err := f.run(t, func() bool { return f.Progress.Packets.Load() >= 3050 })
		if err != nil {
			t.Fatal(err)
		}
		wantLate(t, report, true)
		checkAll(t, rotated(t, f, report), map[string]int{"quick:eth0": 3000, "slow:eth0": 50})
		if n := len(report.Output.Files); n < 3 || n > 4 {
			t.Errorf("%s: %d files", name, n)
		}
		var size int64
		for _, file := range report.Output.Files {
			info, err := os.Stat(file)
			if err != nil || rotation.Size > 0 && info.Size() > rotation.Size+10_000 {
				t.Errorf("%s: %v %v", name, info, err)
			}
			size += info.Size()
		}
		if size != report.Output.Bytes {
			t.Errorf("%s: %d bytes, reported %d", name, size, report.Output.Bytes)
		}
	}
}

// With a number of files to keep the youngest stay, whole and in order; all packets are accounted for.
func TestRotationKeep(t *testing.T) {
	const n = 20_000
	f := newFixture(t, "x.pcapng", instance(t, "a", tcpdump{give: spread(1, n)}.run))
	f.Rotation = capture.Rotation{Size: 100_000, Keep: 2}
	report, err := f.run(t, f.packets(n))
	if err != nil {
		t.Fatal(err)
	}
	records := rotated(t, f, report)
	if len(report.Output.Files) != 2 || report.Output.Removed < 10 || report.Packets != n || !report.Output.InOrder {
		t.Errorf("files %v, %d removed, %d packets", report.Output.Files, report.Output.Removed, report.Packets)
	}
	for i, r := range records {
		if want := uint32(n - len(records) + i); r.number != want {
			t.Fatalf("packet %d is number %d, want %d", i, r.number, want)
		}
	}
}

// A packet that comes when its file has been closed long ago is in another one, and the report says so.
func TestRotationStrayed(t *testing.T) {
	f := late(t, "x.pcapng")
	f.Rotation = capture.Rotation{Interval: 5 * time.Minute}
	report, err := f.run(t, func() bool { return f.Progress.Packets.Load() >= 3050 })
	if err != nil {
		t.Fatal(err)
	}
	wantLate(t, report, false)
	if records := rotated(t, f, report); len(records) != 3050 || report.Output.Problem == "" {
		t.Errorf("%d packets, problem %q", len(records), report.Output.Problem)
	}
}

// Each instance has a file of its own, in order, beside the one with all.
func TestPerInstance(t *testing.T) {
	f := late(t, "x.pcapng")
	f.PerInstance = true
	report, err := f.run(t, func() bool { return f.Progress.Packets.Load() >= 3050 })
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(f.path)
	checkAll(t, read(t, f.path), map[string]int{"quick:eth0": 3000, "slow:eth0": 50})
	checkAll(t, read(t, filepath.Join(dir, "x.quick.pcapng")), map[string]int{"quick:eth0": 3000})
	checkAll(t, read(t, filepath.Join(dir, "x.slow.pcapng")), map[string]int{"slow:eth0": 50})
	if len(report.Output.Files) != 2 || len(beside(t, f)) != 3 {
		t.Errorf("reported %v, there is %v", report.Output.Files, beside(t, f))
	}
}

// What cannot be several files is refused before anything connects.
func TestOutputsRefused(t *testing.T) {
	for name, change := range map[string]func(*fixture){
		"keep what": func(f *fixture) { f.Rotation.Keep = 3 },
		"no room":   func(f *fixture) { f.Rotation.Size = 100 },
		"stdout":    func(f *fixture) { f.PerInstance, f.Output = true, capture.Output{File: os.Stdout} },
		"device":    func(f *fixture) { f.Rotation.Interval, f.Output.Path = time.Second, os.DevNull },
		"part is there": func(f *fixture) {
			f.PerInstance = true
			os.WriteFile(strings.Replace(f.path, "x.", "x.a.", 1), nil, 0o600)
		},
	} {
		f := newFixture(t, "x.pcapng", instance(t, "a", tcpdump{}.run))
		change(f)
		var problem *capture.Error
		if _, err := f.run(t, nil); !errors.As(err, &problem) || !problem.Usage {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
