package tests

import (
	"bytes"
	enc "encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// mergeFile writes a pcap file with packets at the times given, in microseconds; the data say which and where.
func mergeFile(t *testing.T, path string, times []int64) {
	t.Helper()
	le := enc.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint32(le.AppendUint32(b, 65535), 1)
	for i, at := range times {
		data := fmt.Sprintf("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x88\xb5%s %d", filepath.Base(path), i)
		b = le.AppendUint32(le.AppendUint32(b, uint32(at/1e6)), uint32(at%1e6))
		b = le.AppendUint32(le.AppendUint32(b, uint32(len(data))), uint32(len(data)))
		b = append(b, data...)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sortedFiles writes k sorted files with n packets each; no two packets are of the same time.
func sortedFiles(t *testing.T, dir string, k, n int) (names []string) {
	t.Helper()
	times := make([][]int64, k)
	at := int64(1_700_000_000e6)
	for range k * n {
		at += 1 + rand.Int64N(5)
		i := rand.IntN(k)
		times[i] = append(times[i], at)
	}
	for i := range times {
		names = append(names, filepath.Join(dir, fmt.Sprintf("in%04d", i)))
		mergeFile(t, names[i], times[i])
	}
	return names
}

// mergeRun runs sshpcap merge and returns its exit status and what it said.
func mergeRun(t *testing.T, shell string, args ...string) (int, string) {
	t.Helper()
	words := append([]string{"-c", shell + ` exec "$0" merge "$@"`, binary}, args...)
	cmd := exec.Command("bash", words...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// readBack is what tshark has to say of a file: a line for each packet. It must have nothing to complain about.
func readBack(t *testing.T, file string) string {
	t.Helper()
	cmd := exec.Command("tshark", "-n", "-r", file, "-T", "fields", "-e", "frame.time_epoch", "-e", "data.data")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	said := strings.ReplaceAll(errs.String(), "Running as user \"root\" and group \"root\". This could be dangerous.\n", "")
	if err != nil || said != "" {
		t.Fatalf("tshark -r %s: %v %s", file, err, said)
	}
	return string(out)
}

// The same inputs give the same packets in the same order as Wireshark's own mergecap.
func TestMergeLikeMergecap(t *testing.T) {
	t.Parallel()
	bed.Require(t, "tshark", "mergecap", "capinfos")
	dir := t.TempDir()
	names := sortedFiles(t, dir, 20, 100)
	theirs := filepath.Join(dir, "theirs.pcapng")
	if out, err := exec.Command("mergecap", append([]string{"-w", theirs}, names...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	want := readBack(t, theirs)
	if strings.Count(want, "\n") != 2000 {
		t.Fatalf("%d packets of mergecap", strings.Count(want, "\n"))
	}
	for _, name := range []string{"ours.pcapng", "ours.pcap"} {
		ours := filepath.Join(dir, name)
		if code, out := mergeRun(t, "", append([]string{"-o", ours}, names...)...); code != 0 || !strings.Contains(out, "2,000 packets of 20 files") {
			t.Fatalf("%d %s", code, out)
		}
		if readBack(t, ours) != want {
			t.Errorf("%s is not as mergecap's", name)
		}
		if n, strict := capinfos(t, ours); n != 2000 || !strict {
			t.Errorf("%s: %d packets, in order %v", name, n, strict)
		}
		if info, err := os.Stat(ours); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
	}
}

// ngBlock makes a pcapng block of a body that is padded.
func ngBlock(kind uint32, body ...byte) []byte {
	le := enc.LittleEndian
	b := le.AppendUint32(le.AppendUint32(nil, kind), uint32(len(body)+12))
	return le.AppendUint32(append(b, body...), uint32(len(body)+12))
}

// ngSection begins a section, with options.
func ngSection(options ...byte) []byte {
	le := enc.LittleEndian
	body := le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, 0x1a2b3c4d), 1), 1<<64-1)
	return ngBlock(0x0a0d0d0a, append(body, options...)...)
}

// Wireshark's programs find what is kept of a pcapng file's own words, and of blocks that are no packets; the rest is named.
func TestMergeKeeps(t *testing.T) {
	t.Parallel()
	bed.Require(t, "tshark", "capinfos")
	dir := t.TempDir()
	packet := append(make([]byte, 12), 4, 0, 0, 0, 4, 0, 0, 0, 'd', 'a', 't', 'a')
	custom := append(enc.LittleEndian.AppendUint32(nil, 32473), "copy"...)
	content := slices.Concat(ngSection(append([]byte{1, 0, 11, 0}, "ticket 4711\x00"...)...), ngBlock(1, 147, 0, 0, 0, 0, 0, 0, 0), ngBlock(6, packet...),
		ngBlock(0xbad, custom...), ngBlock(0x40000bad, custom...), ngBlock(9, []byte("__REALTIME_TIMESTAMP=1\nMESSAGE=link down\n\x00\x00\x00")...), ngBlock(0x204, custom...))
	in, other := filepath.Join(dir, "in"), filepath.Join(dir, "other")
	if err := os.WriteFile(in, content, 0o600); err != nil {
		t.Fatal(err)
	}
	mergeFile(t, other, []int64{5})
	for name, inputs := range map[string][]string{"one.pcapng": {in}, "two.pcapng": {in, other}} {
		out := filepath.Join(dir, name)
		code, said := mergeRun(t, "", append([]string{"-o", out}, inputs...)...)
		if code != 0 || !strings.Contains(said, in+": 1 custom block left out: not to be copied.") || !strings.Contains(said, in+": 1 block left out: type 0x00000204, of Sysdig.") {
			t.Errorf("%s: %d %s", name, code, said)
		}
		if frames := strings.Count(readBack(t, out), "\n"); frames != 2+len(inputs) {
			t.Errorf("%s: %d frames", name, frames)
		}
		of, other := "Capture comment: ", "    Comment = "
		if len(inputs) > 1 {
			of, other = other, of
		}
		if text := strings.Join(strings.Fields(capinfosText(t, out)), " "); !strings.Contains(text, strings.TrimSpace(of)+" ticket 4711") || strings.Contains(text, strings.TrimSpace(other)) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// A name that ends in .gz or .zst has the output compressed, which the programs for that and Wireshark's read; a capture does
// not take it.
func TestMergeCompressed(t *testing.T) {
	t.Parallel()
	bed.Require(t, "gzip", "zstd", "tshark", "capinfos")
	dir := t.TempDir()
	names := sortedFiles(t, dir, 3, 500)
	mixed := filepath.Join(dir, "mixed")
	mergeFile(t, mixed, []int64{3e15, 1e15, 2e15})
	for _, name := range []string{"a.pcapng.gz", "b.pcap.zst", "c.gz", "d.PCAPNG.ZST"} {
		for _, inputs := range [][]string{names, append(names, mixed)} {
			out := filepath.Join(dir, name)
			if code, said := mergeRun(t, "", append([]string{"--overwrite", "-o", out}, inputs...)...); code != 0 || !strings.Contains(said, "Saved to '"+out) {
				t.Fatalf("%d %s", code, said)
			}
			tested(t, out)
			want := 1500 + 3*(len(inputs)-len(names))
			if n, strict := capinfos(t, out); n != want || !strict {
				t.Errorf("%s: %d packets, in order %v", name, n, strict)
			}
			if frames := strings.Count(readBack(t, out), "\n"); frames != want {
				t.Errorf("%s: tshark reads %d", name, frames)
			}
			kind, err := exec.Command("capinfos", "-t", "-M", out).Output()
			if want := strings.Contains(strings.ToLower(name), "pcapng"); err != nil || strings.Contains(string(kind), "pcapng") != want {
				t.Errorf("%v %s", err, kind)
			}
		}
	}
	rotated := append([]string{"-o", filepath.Join(dir, "r.pcapng.gz"), "--rotate-size", "30kB"}, names...)
	if code, said := mergeRun(t, "", rotated...); code != 0 {
		t.Fatalf("%d %s", code, said)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "r_0000*Z.pcapng.gz"))
	all := 0
	for _, file := range files {
		tested(t, file)
		n, _ := capinfos(t, file)
		all += n
	}
	if len(files) < 3 || all != 1500 {
		t.Errorf("%d packets in %v", all, files)
	}
	for name, says := range map[string]string{"x.pcapng.gz": "then: sshpcap merge", "x.zst": "then: sshpcap merge", "x.pcapng.xz": "then: sshpcap merge"} {
		cmd := exec.Command(binary, "capture", "nowhere.invalid", "-o", filepath.Join(dir, name))
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), says) {
			t.Errorf("capture to %s: %v %s", name, cmd.ProcessState, out)
		}
	}
	if code, said := mergeRun(t, "", append([]string{"-o", filepath.Join(dir, "x.pcapng.xz")}, names...)...); code != 2 || !strings.Contains(said, ".zst") {
		t.Errorf("%d %s", code, said)
	}
}

// tested has the program for it test a compressed file.
func tested(t *testing.T, file string) {
	t.Helper()
	program := map[string]string{".gz": "gzip", ".zst": "zstd"}[strings.ToLower(filepath.Ext(file))]
	from, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	cmd := exec.Command(program, "-t")
	cmd.Stdin = from
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s -t %s: %v %s", program, file, err, out)
	}
}

// What a million interfaces take, which are nothing but described, is within what is promised; a sound file beside them is
// whole.
func TestMergeMillionInterfaces(t *testing.T) {
	t.Parallel()
	const promised, program = 256 << 20, 64 << 20
	dir := t.TempDir()
	content := append(ngSection(), bytes.Repeat(ngBlock(1, 1, 0, 0, 0, 0, 0, 0, 0), 1<<20)...)
	million, good := filepath.Join(dir, "million"), filepath.Join(dir, "good")
	if err := os.WriteFile(million, content, 0o600); err != nil {
		t.Fatal(err)
	}
	mergeFile(t, good, []int64{1, 2, 3})
	for name, args := range map[string][]string{
		"rotated": {"--rotate-size", "200MB", million},
		"beside":  {million, good},
		"many":    {"--rotate-size", "200MB", million, good, million, million},
	} {
		cmd := exec.Command(binary, append([]string{"merge", "-o", filepath.Join(dir, name+".pcapng")}, args...)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
		t.Logf("%s: %d MiB, exit %d", name, rss>>20, cmd.ProcessState.ExitCode())
		if rss > promised+program {
			t.Errorf("%s: %d MiB", name, rss>>20)
		}
		if strings.Contains(string(out), "good: damaged") || slices.Contains(args, good) && !strings.Contains(string(out), "(3 packets") {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// 1,000 inputs are merged where 256 files may be open.
func TestMergeManyFiles(t *testing.T) {
	t.Parallel()
	bed.Require(t, "capinfos")
	dir := t.TempDir()
	names := sortedFiles(t, dir, 1000, 20)
	out := filepath.Join(dir, "all.pcapng")
	if code, said := mergeRun(t, "ulimit -n 256;", append([]string{"-o", out}, names...)...); code != 0 {
		t.Fatalf("%d %s", code, said)
	}
	if n, strict := capinfos(t, out); n != 20_000 || !strict {
		t.Errorf("%d packets, in order %v", n, strict)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), ".sshpcap-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Each way to end has its exit status and says what is wrong; only a whole output is there.
func TestMergeExit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	good := at("good")
	mergeFile(t, good, []int64{1e12, 2e12, 3e12})
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"cut": raw[:len(raw)-3], "text": []byte("no capture at all"), "exists": {}} {
		if err := os.WriteFile(at(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		shell string
		args  []string
		code  int
		says  string
		made  string
	}{
		"fine":       {"", []string{good, "-o", at("1")}, 0, "Saved to", "1"},
		"damaged":    {"", []string{at("cut"), good, "-o", at("2")}, 3, "cut: damaged at byte", "2"},
		"text":       {"", []string{at("text"), good, "-o", at("3")}, 2, "not a capture file", ""},
		"missing":    {"", []string{at("nothing"), "-o", at("4")}, 2, "no such file or directory\nhint: check its name", ""},
		"exists":     {"", []string{good, "-o", at("exists")}, 2, "use --overwrite", ""},
		"overwrite":  {"", []string{good, "-o", at("exists"), "--overwrite"}, 0, "Saved to", "exists"},
		"itself":     {"", []string{good, "-o", good, "--overwrite"}, 2, "is an input and the output", ""},
		"none":       {"", []string{"-o", at("5")}, 2, "there is no file to merge", ""},
		"stdin":      {"gzip -c " + good + " |", []string{"-", "-o", at("6")}, 0, "3 packets", "6"},
		"no place":   {"", []string{good, "-o", "/nowhere/x"}, 1, "was not written", ""},
		"full":       {"", []string{good, "-o", "/dev/full"}, 1, "no space", ""},
		"rotate":     {"", []string{good, "-o", at("r.pcapng"), "--rotate-interval", "1s"}, 0, "3 files", ""},
		"keep what":  {"", []string{good, "-o", at("7"), "--rotate-keep", "1"}, 2, "--rotate-size", ""},
		"dedup":      {"", []string{good, good, "-o", at("8.pcapng"), "--dedup", "exact"}, 0, "3 packets are marked", "8.pcapng"},
		"dedup pcap": {"", []string{good, "-o", at("9.pcap"), "--dedup", "exact"}, 2, "write pcapng", ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, said := mergeRun(t, c.shell, c.args...)
			if code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("exit %d, want %d, with %q:\n%s", code, c.code, c.says, said)
			}
			if c.made != "" {
				readBack(t, at(c.made))
			}
		})
	}
	for _, name := range []string{"3", "4", "5", "7", "9.pcap"} {
		if _, err := os.Stat(at(name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	if hidden, _ := filepath.Glob(at(".*")); len(hidden) > 0 {
		t.Errorf("left behind: %v", hidden)
	}
}

// ^C ends a merge that waits for whoever writes to an input, or reads the output, and says what there is.
func TestMergeInterrupt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	var times []int64
	for i := range int64(20_000) { // more than a FIFO holds
		times = append(times, 1e12+i)
	}
	mergeFile(t, good, times)
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args  []string                                             // FIFO is the FIFO
		begun func(t *testing.T, fifo string, pid int) func() bool // reports whether it has come as far as it can
		says  string
	}{
		"nobody writes": {[]string{good, "FIFO"}, opens, "there is no output"},
		"nothing more": {[]string{good, "FIFO"}, func(t *testing.T, fifo string, _ int) func() bool {
			to, err := os.OpenFile(fifo, os.O_WRONLY, 0)
			if err == nil {
				t.Cleanup(func() { to.Close() })
				_, err = to.Write(raw)
			}
			return func() bool { return err == nil }
		}, "there is no output"},
		"nobody reads": {[]string{good, "-o", "FIFO"}, opens, "there is no output"},
		"nothing is read": {[]string{good, "-o", "FIFO"}, func(t *testing.T, fifo string, _ int) func() bool {
			from, err := os.Open(fifo)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { from.Close() })
			return func() bool {
				n, err := unix.IoctlGetInt(int(from.Fd()), unix.TIOCINQ)
				return err == nil && n > 0
			}
		}, "the output is cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fifo := filepath.Join(dir, "fifo.pcapng")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"merge", "-o", filepath.Join(dir, "out.pcapng")}
			for _, arg := range c.args {
				args = append(args, strings.Replace(arg, "FIFO", fifo, 1))
			}
			cmd := exec.Command(binary, args...)
			var said strings.Builder
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = cmd.Wait()
			}()
			defer func() {
				_ = cmd.Process.Kill()
				<-ended
			}()
			bed.WaitFor(t, patience, "it waits", c.begun(t, fifo, cmd.Process.Pid))
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("it goes on")
			}
			if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(said.String(), c.says) {
				t.Errorf("exit %d, and said %q", code, said.String())
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// opens reports whether a process waits for the other side of a FIFO.
func opens(_ *testing.T, _ string, pid int) func() bool {
	return func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
		return slices.ContainsFunc(threads, func(thread string) bool {
			at, err := os.ReadFile(thread)
			return err == nil && string(at) == "wait_for_partner" // the kernel's
		})
	}
}
