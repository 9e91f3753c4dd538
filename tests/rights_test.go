package tests

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/tests/bed"
)

// everybodys is a directory as /tmp is.
func everybodys(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tmp")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return dir
}

// modes checks that all files of a directory are for their owner only.
func modes(t *testing.T, dir string, least int) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < least {
		t.Fatalf("%d files in %s: %v", len(files), dir, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
	}
}

// TestModeOfEveryFile: outputs are 0600 whatever the umask: rotated, of instances, put in order, merged, the report; and in
// the place of a file that others could read, too.
func TestModeOfEveryFile(t *testing.T) {
	t.Parallel()
	bed.Require(t, "capinfos")
	l, good, late := newLoopback(t), new(goodHelper), new(goodHelper)
	l.server("good", &sshserver.Server{Handler: good.run})
	l.server("late", &sshserver.Server{Handler: func(s *sshserver.Session) int {
		late.ahead = -time.Hour
		return late.run(s)
	}})
	umask := l.write("umask", "#!/bin/sh\numask 000\nexec \"$@\"\n")
	if err := os.Chmod(umask, 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(dir string, args ...string) {
		t.Helper()
		c := l.command(append([]string{"good", "late"}, args...)...)
		c.report = filepath.Join(dir, "report.json")
		c.cmd.Args = append([]string{umask, binary, "capture", "--report", c.report}, c.cmd.Args[4:]...)
		c.cmd.Path = umask
		if err := c.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c.watch()
		before := good.sent.Load()
		bed.WaitFor(t, patience, "packets", func() bool { return good.sent.Load() > before+300 })
		c.interrupt(0)
	}
	dir := t.TempDir()
	for _, name := range []string{"a.pcapng", "a.good.pcapng", "report.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	run(dir, "-o", filepath.Join(dir, "a.pcapng"), "--overwrite", "--per-instance", "--window", "50ms")
	modes(t, dir, 4)
	rotated := t.TempDir()
	run(rotated, "-o", filepath.Join(rotated, "b.pcapng"), "--rotate-size", "20kB")
	modes(t, rotated, 3)

	merged := t.TempDir()
	if err := os.WriteFile(filepath.Join(merged, "m.pcapng"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-o", filepath.Join(merged, "m.pcapng"), "--overwrite"}, {"-o", filepath.Join(merged, "n.pcapng"), "--rotate-size", "20kB"}} {
		cmd := exec.Command(umask, append([]string{binary, "merge", filepath.Join(dir, "a.good.pcapng"), filepath.Join(dir, "a.late.pcapng")}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	modes(t, merged, 3)
}

// TestPlantedOutput: in a directory where everybody may write, links, pipes and hard links of others lead the output and
// the report nowhere.
func TestPlantedOutput(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	l, good := newLoopback(t), new(goodHelper)
	l.server("good", &sshserver.Server{Handler: good.run})
	input := output(t, "in.pcap")
	if err := os.WriteFile(input, []byte(pcapHeader(65535, 1)+pcapRecord(time.Now(), "packet")), 0o600); err != nil {
		t.Fatal(err)
	}
	const stranger = 61001
	dir, precious := everybodys(t), output(t, "precious")
	if err := os.WriteFile(precious, []byte("{precious}"), 0o644); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, plant := range []error{
		os.Symlink(precious, at("link.pcapng")),
		os.Symlink(filepath.Dir(precious), at("dir")),
		os.Symlink(precious+"-new", at("dangling.pcapng")),
		syscall.Mkfifo(at("fifo.pcapng"), 0o666),
		os.Link(precious, at("hard.pcapng")),
		os.WriteFile(precious+"2", []byte("{precious}"), 0o644),
		os.Link(precious+"2", at("hard.json")),
	} {
		if plant != nil {
			t.Fatal(plant)
		}
	}
	for _, name := range []string{"link.pcapng", "dir", "dangling.pcapng", "fifo.pcapng"} {
		if err := os.Lchown(at(name), stranger, -1); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := os.OpenFile(at("fifo.pcapng"), os.O_RDONLY|syscall.O_NONBLOCK, 0) // somebody waits for the packets
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	refused := func(c *client) {
		t.Helper()
		c.wait(patience)
		if code := c.cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(c.stderr.String(), "somebody else has put it") {
			t.Errorf("%q: exit code %d: %s", c.cmd.Args, code, c.stderr.String())
		}
	}
	for _, name := range []string{"link.pcapng", "dir/new.pcapng", "dangling.pcapng", "fifo.pcapng"} {
		refused(l.capture("good", "-o", at(name), "--overwrite"))
		refused(l.capture("good", "-o", output(t, "a.pcapng"), "--report", at(name), "--overwrite"))
		merge := &client{t: t, done: make(chan struct{})}
		merge.cmd = exec.Command(binary, "merge", input, "-o", at(name), "--overwrite")
		merge.cmd.Stderr = &merge.stderr
		if err := merge.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		merge.watch()
		refused(merge)
	}
	if n := good.sent.Load(); n != 0 {
		t.Errorf("it had connected: %d packets", n)
	}
	// A hard link gets another file in its place; what it was a link to stays.
	c := l.command("good", "-c", "10", "-o", at("hard.pcapng"), "--overwrite", "--report", at("hard.json"))
	c.report = at("hard.json")
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.watch()
	c.exit(patience, 0)
	c.check(at("hard.pcapng"))
	for _, file := range []string{precious, precious + "2"} {
		if text, err := os.ReadFile(file); string(text) != "{precious}" {
			t.Errorf("what was precious is %q, %v", text, err)
		}
	}
	var buffer [1]byte
	if n, _ := reader.Read(buffer[:]); n > 0 {
		t.Error("packets went to a stranger's pipe")
	}
}

// TestProcessSubstitution: what a shell makes of >(…) is a pipe of ours, and no link to nothing.
func TestProcessSubstitution(t *testing.T) {
	t.Parallel()
	bed.Require(t, "bash")
	l, good := newLoopback(t), new(goodHelper)
	l.server("good", &sshserver.Server{Handler: good.run})
	c := l.command("good", "-c", "10", "--format", "pcapng")
	file := output(t, "x.pcapng")
	script := fmt.Sprintf(`exec "$@" -o >(cat >'%s')`, file)
	c.cmd.Args = append([]string{"bash", "-c", script}, append([]string{"sh"}, append([]string{binary}, c.cmd.Args[1:]...)...)...)
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Path = bash
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.watch()
	c.exit(patience, 0)
	bed.WaitFor(t, patience, "cat has written all", func() bool { return countRecords(file) == 10 })
}
