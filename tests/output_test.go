package tests

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// TestOutputRefused: what is wrong with an output is said before anything connects.
func TestOutputRefused(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	dir := t.TempDir()
	existing := filepath.Join(dir, "existing.pcapng")
	if err := os.WriteFile(existing, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, how := range map[string]struct {
		args []string
		word string
		hint string
	}{
		"exists":       {[]string{"-o", existing}, "exists", "--overwrite"},
		"directory":    {[]string{"-o", dir}, "directory", "-o"},
		"overwrite it": {[]string{"-o", dir, "--overwrite"}, "directory", "-o"},
		"no directory": {[]string{"-o", filepath.Join(dir, "none", "a.pcapng")}, "no such file", "-o"},
		"below a file": {[]string{"-o", filepath.Join(existing, "a.pcapng")}, "not a directory", "-o"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, b, append(how.args, "web1")...)
			c.wait(patience)
			if got := c.cmd.ProcessState.ExitCode(); got != 1 && got != 2 {
				t.Errorf("exit code %d", got)
			}
			if _, hint := c.complaint("", how.word); !strings.Contains(hint, how.hint) {
				t.Errorf("the hint does not name %s: %s", how.hint, hint)
			}
		})
	}
	if n := h.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
	if got, err := os.ReadFile(existing); string(got) != "precious" {
		t.Errorf("the existing file has become %q, %v", got, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("in the directory: %v", files)
	}
}

// TestOverwrite: an existing file is replaced by a capture that works, and survives one that fails.
func TestOverwrite(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	dir := t.TempDir()
	file := filepath.Join(dir, "a.pcapng")
	precious := bytes.Repeat([]byte("precious"), 10_000)
	if err := os.WriteFile(file, precious, 0o644); err != nil {
		t.Fatal(err)
	}
	c := start(t, b, "web1", "--overwrite", "-o", file, "-f", "no such filter")
	c.exit(patience, 1)
	if got, err := os.ReadFile(file); !bytes.Equal(got, precious) {
		t.Errorf("a failed run has made %d bytes of the %d of the existing file, %v", len(got), len(precious), err)
	}

	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	c = start(t, b, "web1", "--overwrite", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
	sendAll(t, 10, 1000, flow)
	bed.WaitFor(t, patience, "the new file is there", func() bool { return countRecords(file) == 10 })
	c.interrupt(0)
	exactly(t, file, sight{flow, "web1:any"})
	c.check(file)
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("in the directory: %v", files)
	}
	clean(t, patience, h)
}

// TestMode: the output is 0600 whatever the umask, and so is the report.
func TestMode(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	for _, umask := range []string{"000", "077", "777"} {
		program := b.WriteFile("umask"+umask, 0o755, fmt.Sprintf("#!/bin/sh\numask %s\nexec '%s' \"$@\"\n", umask, binary))
		file := output(t, "a.pcapng")
		c := startProgram(t, b, program, nil, "web1", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
		flow.Restart()
		sendAll(t, 10, 1000, flow)
		arrived(t, file, 10)
		c.interrupt(0)
		exactly(t, file, sight{flow, "web1:any"})
		c.check(file) // the mode, too
	}
	clean(t, patience, h)
}

// TestDiskFull: the capture stops, says so, and what is in the file is whole records.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.pcapng", "a.pcap"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, hosts, flows := three(t, bed.Options{})
			dir := b.Tmpfs("small", 256<<10)
			file := filepath.Join(dir, name)
			c := start(t, b, "web1", "web2", "db1", "-o", file, "-f", flowFilter, "-s", snaplen).ready()
			stop := busily(t, 4000, flows...)
			c.exit(patience, 1)
			clean(t, patience, hosts...)
			stop()
			c.complaint("", "space")
			if r := c.check(file); r.End != "output" || r.Packets < 500 {
				t.Errorf("ended by %s, %d packets", r.End, r.Packets)
			}
		})
	}
}

// TestDiskFullFromTheStart: not even the file's header fits.
func TestDiskFullFromTheStart(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	dir := b.Tmpfs("full", 4096)
	if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, b, "web1", "-o", filepath.Join(dir, "a.pcapng"), "-f", flowFilter, "-s", snaplen)
	stop := busily(t, 200, flow)
	c.exit(patience, 1)
	stop()
	c.complaint("", "space")
	clean(t, patience, h)
}

// TestFIFO: an output that exists and is no regular file is written to as it is.
func TestFIFO(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	dir := t.TempDir()
	fifo, copied := filepath.Join(dir, "fifo.pcapng"), filepath.Join(dir, "copied.pcapng")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	to, err := os.Create(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	reader := make(chan error, 1)
	go func() {
		from, err := os.Open(fifo)
		if err == nil {
			_, err = io.Copy(to, from)
			from.Close()
		}
		reader <- err
	}()
	c := start(t, b, "web1", "-o", fifo, "-f", flowFilter, "-s", snaplen).ready()
	sendAll(t, 50, 1000, flow)
	arrived(t, copied, 50)
	c.interrupt(0)
	if err := <-reader; err != nil {
		t.Fatal(err)
	}
	exactly(t, copied, sight{flow, "web1:any"})
	clean(t, patience, h)
}

// TestFIFOFails: whoever reads a FIFO that is the output does not wait for ever when nothing is written.
func TestFIFOFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"capture": {[]string{"capture", "nobody@127.0.0.1:1"}, 1},
		"merge":   {[]string{"merge", "/dev/null"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "fifo.pcapng")
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			cat := exec.Command("cat", fifo)
			if err := cat.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cat.Wait() }()
			bed.WaitFor(t, patience, "cat waits", opens(t, fifo, cat.Process.Pid))
			cmd := exec.Command(binary, append(c.args, "-o", fifo)...)
			if said, _ := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != c.code {
				t.Errorf("%v: %s", cmd.ProcessState, said)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Error("the reader waits")
				_ = cat.Process.Kill()
				<-ended
			}
		})
	}
}

// TestReportUnwritable: a report that cannot be written is an error, and the capture is kept.
func TestReportUnwritable(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	flow := (&bed.Flow{From: b.Hub, To: h, Port: 40001}).Open(t)
	file := output(t, "a.pcapng")
	c := start(t, b, "web1", "-o", file, "-f", flowFilter, "-s", snaplen, "--report", "/nonexistent/report.json")
	bed.WaitFor(t, patience, "it is ready or has ended", func() bool {
		return c.ended() || strings.Contains(c.stderr.String(), "Capturing on ")
	})
	if !c.ended() {
		sendAll(t, 10, 1000, flow)
		c.signal(os.Interrupt)
	}
	c.wait(patience)
	if c.cmd.ProcessState.ExitCode() == 0 {
		t.Error("exit code 0")
	}
	c.complaint("", "report")
	clean(t, patience, h)
}

// TestQuiet: nothing is said of a capture that works.
func TestQuiet(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	c := start(t, b, "web1", "-q", "-d", "1s", "-o", output(t, "a.pcapng"), "-f", flowFilter)
	c.exit(patience, 0)
	if said := c.stderr.String(); said != "" {
		t.Errorf("it said %q", said)
	}
	clean(t, patience, h)
}
