package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/files"
	"github.com/sshpcap/sshpcap/merge"
)

func TestFlagsInAnyOrder(t *testing.T) {
	app := newApp(nil)
	tests := []struct{ in, want string }{
		{"capture web1 -o x.pcap web2", "capture -o x.pcap -- web1 web2"},
		{"capture -o - web1", "capture -o - -- web1"},
		{"capture web1 -k -d 5s --overwrite", "capture -k -d 5s --overwrite -- web1"},
		{"capture web1 --output=x web2 -p", "capture --output=x -p -- web1 web2"},
		{"capture -q -- -strange -o", "capture -q -- -strange -o"},
		{"capture web1 --no-such-flag", "capture --no-such-flag -- web1"},
		{"capture web1 -o", "capture -o"},
		{"capture web1 -o -d", "capture -o -d -- web1"},
		{"capture web1 --help -k", "capture --help"},
		{"capture -h", "capture -h"},
		{"--version", "--version"},
		{"capture", "capture"},
	}
	for _, test := range tests {
		got := arrange(app, append([]string{"sshpcap"}, strings.Fields(test.in)...))
		if want := append([]string{"sshpcap"}, strings.Fields(test.want)...); !slices.Equal(got, want) {
			t.Errorf("%q becomes %q, want %q", test.in, got, want)
		}
	}
}

// A host, app or file may be called help: no command that takes such words has a command of that name in it.
func TestHelpIsATarget(t *testing.T) {
	for _, command := range append(newApp(nil).Commands, pcapCommand(nil, "")) {
		if command.ArgsUsage != "" && !command.HideHelpCommand {
			t.Errorf("%s help shows help", command.Name)
		}
	}
}

func TestFormatByName(t *testing.T) {
	for output, want := range map[string]capture.Format{
		"a.pcap": capture.Pcap, "a.pcapng": capture.Pcapng, "A.PCAPNG": capture.Pcapng, "-": capture.Pcapng, "a": capture.Pcap, "pcapng": capture.Pcap,
		"a.pcapng.gz": capture.Pcapng, "A.PCAPNG.ZST": capture.Pcapng, "a.pcapng.bak": capture.Pcapng, "a.pcapng.1": capture.Pcapng, "a.pcap.gz": capture.Pcap, "a.gz": capture.Pcap,
		"a.cap": capture.Pcap, "a.pcapng/b": capture.Pcap, "a.pcapngs": capture.Pcap, "pcapng.gz": capture.Pcap, "a.b": capture.Pcap, "/tmp/a.pcapng": capture.Pcapng,
	} {
		if got, err := parseFormat("", output); err != nil || got != want {
			t.Errorf("%s: %v, %v", output, got, err)
		}
	}
	if got, err := parseFormat("pcap", "-"); err != nil || got != capture.Pcap {
		t.Errorf("--format does not win: %v, %v", got, err)
	}
}

// What a merge's output is called decides how it is compressed; a capture refuses such names, with what to do instead.
func TestCompressionByName(t *testing.T) {
	for output, want := range map[string]files.Compression{
		"a.pcap": files.Uncompressed, "a.pcapng": files.Uncompressed, "-": files.Uncompressed, "a": files.Uncompressed, "a.bak": files.Uncompressed, "a.gz/b": files.Uncompressed,
		"a.pcapng.gz": files.Gzip, "a.pcap.GZ": files.Gzip, "a.gz": files.Gzip, "a.pcapng.zst": files.Zstd, "a.Zst": files.Zstd, "a.pcap.xz": files.Uncompressed,
	} {
		got, err := parseCompression(output)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", output, got, err)
		}
		if err := checkUncompressed(output); (err == nil) != (want == files.Uncompressed) {
			t.Errorf("a capture to %s: %v", output, err)
		}
	}
	for output, want := range map[string]string{
		"my all.pcapng.gz": "capture to -o 'my all.pcapng', then: sshpcap merge 'my all.pcapng' -o 'my all.pcapng.gz'",
		"a.pcap.zst":       "capture to -o 'a.pcap', then: sshpcap merge 'a.pcap' -o 'a.pcap.zst'",
		"a.gz":             "capture to -o 'a.pcapng', then: sshpcap merge 'a.pcapng' -o 'a.pcapng.gz'",
		"a.pcapng.xz":      "capture to -o 'a.pcapng', then: sshpcap merge 'a.pcapng' -o 'a.pcapng.zst'",
	} {
		var err *usageError
		if !errors.As(checkUncompressed(output), &err) || err.hint != want {
			t.Errorf("%s: %+v", output, err)
		}
	}
	if how, err := parseCompression("a.pcapng.bz2"); err == nil {
		t.Errorf("bz2: %v", how)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "1000": 1000, "500MB": 500_000_000, "2GiB": 2 << 30, "64k": 64_000} {
		if got, err := parseSize("buffer", text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1", "x", "0", "1.5.2", "20 parsecs"} {
		if got, err := parseSize("buffer", text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestTargetsFromFiles(t *testing.T) {
	list := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(list, []byte("# the shop\nweb1\r\n\n  admin@db1:2222  \nweb1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := expandTargets([]string{"first", "@" + list, "web1", "last"})
	if want := []string{"first", "web1", "admin@db1:2222", "last"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	os.WriteFile(list, []byte("web1 web2\n"), 0o600)
	for _, args := range [][]string{{"@" + list}, {"@" + list + ".no"}, {"@" + t.TempDir()}, nil} {
		if got, err := expandTargets(args); err == nil {
			t.Errorf("%q: %q", args, got)
		}
	}
}

func TestTable(t *testing.T) {
	first := time.Date(2026, 11, 22, 10, 11, 12, 3e6, time.Local)
	captured, dropped := int64(12), int64(3)
	report := capture.Report{Packets: 10, Instances: []capture.InstanceReport{
		{Name: "web1", State: capture.OK, Interfaces: []capture.InterfaceReport{
			{Received: 6, Written: 6, Bytes: 600, Captured: &captured, Dropped: &dropped, First: &first, Last: &first},
			{Received: 4, Written: 4, Bytes: 400, Late: 1},
		}},
		{Name: "db1", State: capture.NotOpened, Problem: "connection refused"},
	}, Output: capture.OutputReport{Path: os.DevNull, Problem: "disk full", Packets: 10, Bytes: 1240}}
	var b strings.Builder
	printTable(&b, report)
	printWarnings(&b, report)
	printLate(&b, report)
	printSaved(&b, report)
	for _, want := range []string{
		"web1      10       1.0 kB  3        1     10:11:12.003  10:11:12.003  stopped\n",
		"db1       0        0 B     ?        0     -             -             failed: connection refused\n",
		"warning: web1: its kernel dropped 3 packets",
		"warning: 1 packet came late and stand behind later ones, since the file was not put in order (disk full); hint: sshpcap merge",
		"warning: web1: the helper says it captured 12 packets, and 10 arrived",
		"Saved capture to '/dev/null' (10 packets, 1.2 kB).",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// Of a thousand instances the table shows those with problems and the busiest, and the others in one line.
func TestLongTable(t *testing.T) {
	var report capture.Report
	dropped := int64(7)
	for i := range 1000 {
		in := capture.InstanceReport{Name: fmt.Sprintf("i%03d", i), State: capture.OK,
			Interfaces: []capture.InterfaceReport{{Received: int64(i), Written: int64(i), Bytes: int64(100 * i)}}}
		switch i {
		case 3:
			in.State, in.Problem = capture.LostState, "connection lost"
		case 5:
			in.Interfaces[0].Dropped = &dropped
		}
		report.Instances = append(report.Instances, in)
	}
	var b strings.Builder
	printTable(&b, report)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 1+mostRows+1 {
		t.Fatalf("%d lines:\n%s", len(lines), &b)
	}
	for i, want := range map[int]string{1: "i003 ", 2: "i005 ", 3: "i952 ", mostRows: "i999 ", mostRows + 1: "950 more  452,668 "} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	for i := range report.Instances {
		report.Instances[i].Interfaces[0].Dropped = &dropped
	}
	b.Reset()
	printWarnings(&b, report)
	want := "warning: on 1,000 instances: i000, i001, i002, i003, i004, i005, i006, i007, …: their kernels dropped 7,000 packets; hint: "
	if n := strings.Count(b.String(), "\n"); n != 1 || !strings.HasPrefix(b.String(), want) {
		t.Errorf("%d lines:\n%s", n, &b)
	}
}

// What is wrong with many instances in the same way is hinted at some times only.
func TestHints(t *testing.T) {
	s, out := new(session), new(screen)
	s.display = &display{w: out}
	for i := range 1000 {
		s.tell(capture.Event{Kind: capture.Failed, Instance: fmt.Sprint("web", i), Err: &capture.Error{Problem: "no", Tip: "do this"}})
	}
	s.tell(capture.Event{Kind: capture.Lost, Instance: "web3", Err: &capture.Error{Problem: "gone", Tip: "do that"}})
	text := out.String()
	if n := strings.Count(text, "hint: do this\n"); n != mostHints || strings.Count(text, ": no\n") != 1000 || !strings.HasSuffix(text, "sshpcap: web3: gone\nhint: do that\n") {
		t.Errorf("%d hints: %.1000q", n, text)
	}
}

// TestWarnOdd: each kind of what makes no sense is said once, for all instances, with its count.
func TestWarnOdd(t *testing.T) {
	list := func(odd merge.Oddities) capture.InterfaceReport { return capture.InterfaceReport{Oddities: odd.List()} }
	report := capture.Report{Instances: []capture.InstanceReport{
		{Name: "a", Interfaces: []capture.InterfaceReport{list(merge.Oddities{merge.OddUnfit: 1}), list(merge.Oddities{merge.OddUnfit: 1000, merge.OddFraction: 1})}},
		{Name: "b", Interfaces: []capture.InterfaceReport{list(merge.Oddities{merge.OddUnfit: 1})}},
		{Name: "c", Interfaces: []capture.InterfaceReport{list(merge.Oddities{})}},
	}}
	var got bytes.Buffer
	printWarnings(&got, report)
	for _, want := range []string{
		"warning: a: gave 1 packet with a fraction of a second or more in the time: carried over into the seconds\n",
		": gave 1,002 packets without the header that the link type has: left out\n",
	} {
		if strings.Count(got.String(), want) != 1 {
			t.Errorf("lacks %q:\n%s", want, got.String())
		}
	}
	if strings.Count(got.String(), "\n") != 2 || strings.Contains(got.String(), "a, a") {
		t.Errorf("says\n%s", got.String())
	}
}
