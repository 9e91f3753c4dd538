package files_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sshpcap/sshpcap/files"
)

var compressions = map[string]files.Compression{".gz": files.Gzip, ".zst": files.Zstd}

// undo undoes a compression.
func undo(ext string, b []byte) ([]byte, error) {
	if ext == ".gz" {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	}
	z, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

// A compressed output is, when it is undone, what it is without: one file, several, a stream, also of inputs that are not in
// order. It can be merged again.
func TestCompressedOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var packets []packet
	for i := range 600 {
		packets = append(packets, packet{time: 1_700_000_000e9 + int64(i)*1e8, data: fmt.Sprintf("%04d %s", i, strings.Repeat("x", 400))})
	}
	late := slices.Clone(packets)
	slices.Reverse(late[200:400])
	sorted := []string{write(t, dir, "a", pcap(binary.LittleEndian, false, packets)), write(t, dir, "b", pcapng(binary.BigEndian, "eth0", 6, 1e6, 0, packets))}
	unsorted := []string{sorted[0], write(t, dir, "c", pcapng(binary.LittleEndian, "eth0", 6, 1e6, 0, late))}
	for name, cfg := range map[string]files.Config{
		"sorted": {Inputs: sorted}, "unsorted": {Inputs: unsorted}, "pcap": {Inputs: unsorted, Format: files.Pcap}, "empty": {Inputs: []string{write(t, dir, "d", pcap(binary.LittleEndian, false, nil))}},
		"groups": {Inputs: append(unsorted, sorted...), MaxOpen: 2}, "size": {Inputs: sorted, RotateSize: 80_000}, "interval": {Inputs: unsorted, RotateInterval: 20 * time.Second, RotateKeep: 3},
		"stream": {Inputs: unsorted},
	} {
		for ext, how := range compressions {
			t.Run(name+ext, func(t *testing.T) {
				var bare, small bytes.Buffer
				dir := t.TempDir()
				cfg := cfg
				cfg.Path = filepath.Join(dir, "bare.pcapng")
				if name == "stream" {
					cfg.Out = &bare
				}
				want := merge(t, cfg)
				cfg.Path, cfg.Compress = filepath.Join(dir, "small.pcapng"+ext), how
				if name == "stream" {
					cfg.Out = &small
					want.Files = []string{write(t, dir, "stream", bare.Bytes())}
				}
				got := merge(t, cfg)
				size := got.Size
				if name == "stream" {
					got.Files = []string{write(t, dir, "stream"+ext, small.Bytes())}
				}
				if len(got.Files) != len(want.Files) || got.Packets != want.Packets || got.Moved != want.Moved || got.Removed != want.Removed {
					t.Fatalf("%+v, want %+v", got, want)
				}
				for i, file := range got.Files {
					content, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					size -= int64(len(content))
					was, _ := os.ReadFile(want.Files[i])
					if is, err := undo(ext, content); err != nil || !bytes.Equal(is, was) {
						t.Errorf("%s: %d bytes of %d, %v", file, len(is), len(was), err)
					}
					if name != "empty" && len(content) > len(was)/3 {
						t.Errorf("%s: %d bytes become %d", file, len(was), len(content))
					}
					if name != "stream" && strings.TrimSuffix(strings.Replace(file, "small", "bare", 1), ext) != want.Files[i] {
						t.Errorf("%s is to be as %s", file, want.Files[i])
					}
					if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
						t.Errorf("%v %v", info, err)
					}
				}
				if size != 0 {
					t.Errorf("%d bytes too many are told", size)
				}
				if hidden, _ := filepath.Glob(filepath.Join(dir, ".*")); len(hidden) > 0 {
					t.Errorf("left behind: %v", hidden)
				}
				if again := merge(t, files.Config{Inputs: got.Files, Path: filepath.Join(dir, "again")}); want.Removed == 0 && again.Packets != want.Packets {
					t.Errorf("merged again: %+v", again)
				}
			})
		}
	}
}

// lastRead cancels a context when its end is read, and firstWrite when something is written.
type lastRead struct {
	io.Reader
	cancel context.CancelFunc
}

func (l *lastRead) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err == io.EOF {
		l.cancel()
	}
	return n, err
}

type firstWrite struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (f *firstWrite) Write(p []byte) (int, error) {
	f.cancel()
	return f.Buffer.Write(p)
}

// fullAfter takes so many bytes.
type fullAfter int

var errFull = errors.New("no space left")

func (f *fullAfter) Write(p []byte) (int, error) {
	if *f -= fullAfter(len(p)); *f < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A compressed output that fails has no name, and as a stream no end that would make it look whole.
func TestCompressedFails(t *testing.T) { // not parallel: it sets what is global
	defer files.SetRoundSize(1000)()
	dir := t.TempDir()
	var packets []packet
	for i := range 60_000 { // more than is read ahead
		packets = append(packets, packet{time: 1_700_000_000e9 + int64(i)*1e6, data: fmt.Sprintf("%04d %x", i, i*i*7919)})
	}
	long := write(t, dir, "long", pcap(binary.LittleEndian, false, packets))
	packets = packets[:3000]
	content := pcap(binary.LittleEndian, false, packets)
	in := write(t, dir, "in", content)
	for ext, how := range compressions {
		for name, cfg := range map[string]files.Config{"file": {}, "rotated": {RotateSize: 20_000}} {
			ctx, cancel := context.WithCancel(context.Background())
			cfg.Inputs, cfg.Stdin, cfg.Compress = []string{"-"}, &lastRead{bytes.NewReader(content), cancel}, how
			cfg.Path = filepath.Join(dir, name+".pcapng"+ext)
			if report, err := files.Merge(ctx, cfg); !errors.Is(err, context.Canceled) || len(report.Files) > 0 {
				t.Errorf("%s%s: %v, %+v", name, ext, err, report)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		out := &firstWrite{cancel: cancel}
		if _, err := files.Merge(ctx, files.Config{Inputs: []string{long}, Out: out, Compress: how}); !errors.Is(err, context.Canceled) {
			t.Errorf("a stream, %s: %v", ext, err)
		}
		if got, err := undo(ext, out.Bytes()); err == nil {
			t.Errorf("a stream, %s: %d bytes look whole", ext, len(got))
		}
		for _, room := range []int{0, 10, 10_000} {
			full := fullAfter(room)
			if _, err := files.Merge(context.Background(), files.Config{Inputs: []string{in}, Out: &full, Compress: how}); !errors.Is(err, errFull) {
				t.Errorf("%s, room for %d: %v", ext, room, err)
			}
		}
		there := write(t, dir, "there"+ext, []byte("mine"))
		if _, err := files.Merge(context.Background(), files.Config{Inputs: []string{in}, Path: there, Compress: how}); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: %v", ext, err)
		}
		if report := merge(t, files.Config{Inputs: []string{in}, Path: there, Compress: how, Overwrite: true}); report.Packets != 3000 {
			t.Errorf("%s: %+v", ext, report)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*.pcapng.*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(left)+len(hidden) > 0 {
		t.Errorf("left behind: %v %v", left, hidden)
	}
}
