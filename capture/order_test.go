package capture_test

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
)

// delayed gives packets whose times are long past when others have been written.
func delayed(instance byte, n int, others func() bool) func(*helper) {
	return func(h *helper) {
		for !others() && h.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		now := time.Now()
		for i := range n {
			h.packet(now.Add(-time.Hour+time.Duration(i)*time.Minute), instance)
		}
	}
}

// spread gives packets of the last two hours.
func spread(instance byte, n int) func(*helper) {
	return func(h *helper) {
		for i := range n {
			h.packet(time.Now().Add(-2*time.Hour+time.Duration(i)*2*time.Hour/time.Duration(n)), instance)
		}
	}
}

// late is a capture in which 50 packets of slow come when those of quick, before and after them, have been written.
func late(t *testing.T, name string) *fixture {
	const n = 3000
	f := newFixture(t, name)
	written := f.packets(n)
	f.Instances = []capture.Instance{
		instance(t, "quick", tcpdump{give: spread(1, n)}.run),
		instance(t, "slow", tcpdump{give: delayed(2, 50, written)}.run),
	}
	f.Window = 20 * time.Millisecond
	return f
}

func wantLate(t *testing.T, report capture.Report, inOrder bool) {
	t.Helper()
	if n := report.Instances[1].Interfaces[0].Late; n != 50 || report.Packets != 3050 || report.Output.InOrder != inOrder {
		t.Errorf("%d late of %d packets, in order %v (%s), want 50 of 3050, %v", n, report.Packets, report.Output.InOrder, report.Output.Problem, inOrder)
	}
}

// A finished file is in strict order, whatever came late. Nothing is left beside it.
func TestLatePacketsArePutInTheirPlace(t *testing.T) {
	for _, name := range []string{"x.pcapng", "x.pcap"} {
		f := late(t, name)
		done := func() bool { return f.Progress.Packets.Load() >= 3050 }
		report, err := f.run(t, done)
		if err != nil {
			t.Fatal(err)
		}
		wantLate(t, report, true)
		if f.Output.Format == capture.Pcapng {
			checkAll(t, read(t, f.path), map[string]int{"quick:eth0": 3000, "slow:eth0": 50})
		} else {
			checkPcapOrder(t, f.path, 3050)
		}
		info, err := os.Stat(f.path)
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() != report.Output.Bytes {
			t.Errorf("%v, %v, reported %d bytes", info, err, report.Output.Bytes)
		}
		if there, _ := os.ReadDir(filepath.Dir(f.path)); len(there) != 1 {
			t.Errorf("beside the file: %v", there)
		}
	}
}

func checkPcapOrder(t *testing.T, path string, want int) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last, n := int64(0), 0 // the helper of these tests gives nanoseconds, and so does the file
	for at := 24; at < len(raw); n++ {
		now := int64(binary.LittleEndian.Uint32(raw[at:]))*1e9 + int64(binary.LittleEndian.Uint32(raw[at+4:]))
		if now < last {
			t.Fatalf("packet %d is earlier than the one before it", n)
		}
		last = now
		at += 16 + int(binary.LittleEndian.Uint32(raw[at+8:]))
	}
	if n != want {
		t.Errorf("%d packets, want %d", n, want)
	}
}

// A clock that steps back makes packets late, too.
func TestClockStepsBack(t *testing.T) {
	f := newFixture(t, "x.pcapng")
	written := f.packets(100)
	f.Instances = []capture.Instance{instance(t, "a", tcpdump{give: func(h *helper) {
		burst(1, 100)(h)
		for !written() && h.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		for range 100 {
			h.packet(time.Now().Add(-time.Minute), 1)
		}
	}}.run)}
	report, err := f.run(t, func() bool { return f.Progress.Packets.Load() >= 200 })
	if err != nil {
		t.Fatal(err)
	}
	records := read(t, f.path)
	ordered := slices.IsSortedFunc(records, func(a, b record) int { return a.at.Compare(b.at) })
	if n := report.Instances[0].Interfaces[0].Late; n != 100 || len(records) != 200 || !ordered || records[0].number != 100 {
		t.Errorf("%d late, %d packets, in order %v, the first was number %d", n, len(records), ordered, records[0].number)
	}
}

// On a stream late packets are written as they come, and the report says so.
func TestLateOnStream(t *testing.T) {
	f := late(t, "x.pcapng")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	copied := make(chan error, 1)
	go func() {
		to, err := os.Create(f.path)
		if err == nil {
			_, err = io.Copy(to, reader)
			to.Close()
		}
		copied <- err
	}()
	f.Output = capture.Output{File: writer}
	report, err := f.run(t, func() bool { return f.Progress.Packets.Load() >= 3050 })
	if err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	wantLate(t, report, false)
	if n := len(read(t, f.path)); n != 3050 {
		t.Errorf("%d packets", n)
	}
}

// A second ^C leaves the file as it was written: valid, with all packets.
func TestLateAndCut(t *testing.T) {
	cut := late(t, "x.pcapng")
	closed := make(chan struct{})
	cut.Cut = closed
	report, err := cut.run(t, func() bool {
		if cut.Progress.Packets.Load() >= 3050 {
			select {
			case <-closed:
			default:
				close(closed)
			}
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	wantLate(t, report, false)
	if n := len(read(t, cut.path)); n != 3050 || report.Output.Problem == "" {
		t.Errorf("cut: %d packets, problem %q", n, report.Output.Problem)
	}
}
