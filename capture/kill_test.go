package capture_test

import (
	"bufio"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
)

// killedEnv makes the test binary a capture that is to be killed: the path of its output.
const killedEnv = "SSHPCAP_TEST_KILLED"

const killedPackets = 40_000

// TestKilledCapture is no test of its own: it captures until it is killed, or in the end has put its file in order.
func TestKilledCapture(t *testing.T) {
	path := os.Getenv(killedEnv)
	if path == "" {
		t.Skip("is run by TestKill")
	}
	const n = killedPackets
	f := newFixture(t, "unused.pcapng")
	written := f.packets(n)
	f.Instances = []capture.Instance{
		instance(t, "quick", tcpdump{give: spread(1, n)}.run),
		instance(t, "slow", tcpdump{give: delayed(2, 50, written)}.run),
	}
	f.Output.Path, f.Window = path, 20*time.Millisecond
	report, err := f.run(t, func() bool {
		all := f.Progress.Packets.Load() >= n+50
		if all && f.ctx.Err() == nil {
			os.Stdout.WriteString("STOPPING\n")
		}
		return all
	})
	if err != nil || !report.Output.InOrder {
		t.Fatalf("%v, %+v", err, report.Output)
	}
	os.Stdout.WriteString("DONE\n")
}

// Killed at any moment, also while it puts its file in order, a capture leaves one file, which holds everything that
// had been written to it, and nothing else.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("runs captures in processes of their own")
	}
	rewritten, whole := 0, 0
	for i := range 8 {
		dir := t.TempDir()
		path := filepath.Join(dir, "x.pcapng")
		wait := ""
		if i%3 > 0 {
			wait = "STOPPING"
		}
		delay := time.Duration(rand.Int64N(int64(300 * time.Millisecond)))
		least := killed(t, path, wait, delay)
		packets, size, sorted := inspect(t, path)
		// What was seen just before may have been in the middle of a write, as the kill may: one block is cut then.
		if size < least {
			t.Errorf("%d bytes, and there were %d before", size, least)
		}
		if flushed := delay > 100*time.Millisecond; wait != "" && flushed && packets != killedPackets+50 {
			t.Errorf("%d packets %v after the last, want %d", packets, delay, killedPackets+50)
		}
		if whole++; sorted && wait != "" {
			rewritten++
		}
		if there, _ := os.ReadDir(dir); len(there) > 1 {
			t.Errorf("beside the file: %v", there)
		}
	}
	t.Logf("%d of %d were in order already", rewritten, whole)
}

// killed runs a capture and kills it a while after it has said something. It returns the file's size just before.
func killed(t *testing.T, path, after string, delay time.Duration) (size int64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledCapture$", "-test.count=1")
	cmd.Env = append(os.Environ(), killedEnv+"="+path, "TMPDIR="+t.TempDir()) // what is killed clears nothing up
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for after != "" && lines.Scan() && !strings.HasPrefix(lines.Text(), after) {
		// what it says before
	}
	for begin := time.Now(); after == "" && time.Since(begin) < 10*time.Second; {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(delay) // the moment of the kill is what varies
	if info, err := os.Stat(path); err == nil {
		size = info.Size()
	}
	_ = cmd.Process.Kill()
	for lines.Scan() {
	}
	_ = cmd.Wait()
	return size
}

// inspect counts the packets of a pcapng file, and its bytes. It consists of whole blocks, but for the last one.
func inspect(t *testing.T, path string) (packets int, size int64, sorted bool) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sorted = true
	var last uint64
	at := 0
	for at+12 <= len(raw) {
		kind, n := binary.LittleEndian.Uint32(raw[at:]), int(binary.LittleEndian.Uint32(raw[at+4:]))
		if n < 12 || n%4 != 0 || n > 1<<20 {
			t.Fatalf("no block at byte %d", at)
		}
		if at+n > len(raw) {
			break // cut short by the kill
		}
		if int(binary.LittleEndian.Uint32(raw[at+n-4:])) != n {
			t.Fatalf("the block at byte %d ends otherwise than it begins", at)
		}
		if kind == 6 {
			now := uint64(binary.LittleEndian.Uint32(raw[at+12:]))<<32 | uint64(binary.LittleEndian.Uint32(raw[at+16:]))
			sorted = sorted && now >= last
			last = now
			packets++
		}
		at += n
	}
	return packets, int64(len(raw)), sorted
}
