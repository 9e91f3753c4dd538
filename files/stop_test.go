package files_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/files"
)

// stalled gives some bytes and then no more, until it is released.
type stalled struct {
	said     []byte
	stalls   chan struct{} // closed when somebody waits for more
	released chan struct{}
}

func (s *stalled) Read(p []byte) (int, error) {
	if len(s.said) == 0 {
		close(s.stalls)
		<-s.released
		return 0, io.EOF
	}
	n := copy(p, s.said)
	s.said = s.said[n:]
	return n, nil
}

// A merge ends when it is to, also while an input says nothing: at all, after some bytes of it, or after some packets.
// Whatever waits for the input ends with it, which the end of this package's tests looks for.
func TestStopSilent(t *testing.T) {
	var packets []packet
	for i := range 100 {
		packets = append(packets, packet{time: int64(i) * 1e6, data: "some bytes"})
	}
	whole := pcap(binary.LittleEndian, false, packets)
	ng := pcapng(binary.LittleEndian, "eth0", 9, 1e9, 0, packets)
	for name, said := range map[string][]byte{
		"nothing": nil, "magic": whole[:4], "header": whole[:24], "packets": whole, "within one": whole[:len(whole)-5],
		"pcapng": ng, "gzip": gzipped(whole), "zstd": zstded(t, whole), "zstd begun": zstded(t, whole)[:20],
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			good := write(t, t.TempDir(), "good", whole)
			in := &stalled{said, make(chan struct{}), make(chan struct{})}
			defer close(in.released)
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() {
				_, err := files.Merge(ctx, files.Config{Inputs: []string{good, "-", good}, Stdin: in, Path: filepath.Join(dir, "out"), TempDir: dir})
				done <- err
			}()
			<-in.stalls
			stop()
			wantCanceled(t, done)
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// wantCanceled waits for a merge that was told to stop.
func wantCanceled(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the input")
	}
}

// stopping is an output in whose first write the merge is told to stop.
type stopping struct {
	bytes.Buffer
	stop func()
}

func (s *stopping) Write(p []byte) (int, error) {
	s.stop()
	return s.Buffer.Write(p)
}

// A merge that is to stop when all is read becomes whole, and says so; one that has more to read says that it was stopped.
func TestStopLate(t *testing.T) {
	for _, n := range []int{100, 300_000} {
		var packets []packet
		for i := range n {
			packets = append(packets, packet{time: int64(i) * 1e6, data: "some bytes"})
		}
		in := write(t, t.TempDir(), "in", pcap(binary.LittleEndian, false, packets))
		ctx, stop := context.WithCancel(context.Background())
		out := &stopping{stop: stop}
		report, err := files.Merge(ctx, files.Config{Inputs: []string{in, in}, Out: out})
		switch {
		case n == 100 && (err != nil || report.Packets != 200 || len(readNg(t, write(t, t.TempDir(), "out", out.Bytes()))) != 200):
			t.Errorf("%d packets, %v", report.Packets, err)
		case n > 100 && (!errors.Is(err, context.Canceled) || report.Packets >= int64(2*n)):
			t.Errorf("%d packets of %d, %v", report.Packets, 2*n, err)
		}
	}
}

// What is whole of a rotated output is told, whatever went wrong later.
func TestRotationFails(t *testing.T) {
	dir := t.TempDir()
	in := write(t, dir, "in", pcap(binary.LittleEndian, false, []packet{{time: 1e9, data: "a"}, {time: 2e9, data: "b"}, {time: 3e9, data: "c"}}))
	cfg := files.Config{Inputs: []string{in}, Path: filepath.Join(dir, "out.pcapng"), RotateInterval: time.Second}
	whole := merge(t, cfg).Files
	if len(whole) != 3 {
		t.Fatal(whole)
	}
	for _, path := range whole[:2] {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	report, err := files.Merge(context.Background(), cfg)
	if !errors.Is(err, fs.ErrExist) || len(report.Files) != 2 || report.Files[1] != whole[1] {
		t.Errorf("%v, with %v", err, report.Files)
	}
	for _, path := range report.Files {
		if n := len(readNg(t, path)); n != 1 {
			t.Errorf("%s: %d packets", path, n)
		}
	}
	path := filepath.Join(dir, "single.pcapng")
	write(t, dir, "single.pcapng", nil)
	if report, err := files.Merge(context.Background(), files.Config{Inputs: []string{in}, Path: path}); !errors.Is(err, fs.ErrExist) || len(report.Files) != 0 {
		t.Errorf("%v, with %v", err, report.Files)
	}
}

// A rotated pcap file is as full as it can be: options that it does not hold do not count.
func TestRotatedPcapIsFull(t *testing.T) {
	dir := t.TempDir()
	var packets []packet
	for i := range 1000 {
		packets = append(packets, packet{time: int64(i) * 1e6, data: "ten bytes."})
	}
	in := write(t, dir, "in", pcapng(binary.LittleEndian, "eth0", 9, 1e9, 0, packets)) // each has a comment
	const header, record, perFile = 24, 16 + 10, 100
	report := merge(t, files.Config{Inputs: []string{in}, Path: filepath.Join(dir, "out.pcap"), Format: files.Pcap, RotateSize: header + perFile*record + record/2})
	if len(report.Files) != 10 {
		t.Fatalf("%d files", len(report.Files))
	}
	for _, path := range report.Files {
		if info, err := os.Stat(path); err != nil || info.Size() != header+perFile*record {
			t.Errorf("%s: %d bytes, %v", path, info.Size(), err)
		}
	}
}
