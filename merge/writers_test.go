package merge

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"pgregory.net/rapid"
)

// batchesOf reads a stream into batches, of which the test disposes.
func batchesOf(t tester, in []byte) []*Batch {
	r := NewReader(bytes.NewReader(in))
	mustHeader(t, r)
	return readBatches(t, r)
}

// tool runs a program of Wireshark, which must say nothing on stderr.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(path, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	warnings := slices.DeleteFunc(strings.Split(strings.TrimSpace(stderr.String()), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "Running as user") // tshark to root
	})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%s: %v: %q", name, err, warnings)
	}
	return string(out)
}

func writeFile(t *testing.T, name string, p []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// equalToPcapgo compares all but the original length where it is below the captured one, which pcapgo refuses.
func equalToPcapgo(t *testing.T, r gopacket.PacketDataSource, f form, list []sample) {
	t.Helper()
	for i, s := range list {
		data, info, err := r.ReadPacketData()
		if err != nil {
			t.Fatalf("%s: packet %d: %v", f.name, i, err)
		}
		if !bytes.Equal(data, s.data) || info.Timestamp.UnixNano() != f.resolved(s.time) ||
			info.Length != int(s.origLen) || info.InterfaceIndex != 0 {
			t.Fatalf("%s: packet %d: %d bytes, %+v", f.name, i, len(data), info)
		}
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Errorf("%s: ended with %v", f.name, err)
	}
}

// disk has room for so many bytes.
type disk struct {
	bytes.Buffer
	room int
	err  error
}

func (d *disk) Write(p []byte) (int, error) {
	if len(p) <= d.room-d.Len() {
		return d.Buffer.Write(p)
	}
	n, _ := d.Buffer.Write(p[:d.room-d.Len()])
	return n, d.err
}

// writer is what both formats share.
type writer interface {
	Flush() error
	Size() int64
	Flushed() int64
	Lost() int64
	Missed() []uint32
	Whole() int64
}

// However full the disk, the count of what is in the file is exact, and the file can be cut to whole records.
func TestWritersOnFullDisk(t *testing.T) {
	full := errors.New("no space left on device")
	batches := batchesOf(t, forms[1].stream(samples(8000)))
	for _, ng := range []bool{false, true} {
		rapid.Check(t, func(rt *rapid.T) {
			d := &disk{room: rapid.IntRange(0, 700_000).Draw(rt, "room"), err: full}
			if rapid.Bool().Draw(rt, "short write") {
				d.err = nil
			}
			var w writer
			var run func(b *Batch, recs []Record) (int, error)
			if ng {
				p := NewPcapng(d, Section{Comment: "test"})
				if _, err := p.AddInterface(Interface{Nano: true}); err != nil {
					rt.Fatal(err)
				}
				w, run = p, func(b *Batch, recs []Record) (int, error) { return p.WriteRun(0, b, recs) }
			} else {
				p := NewPcap(d, Header{Nano: rapid.Bool().Draw(rt, "nano")})
				w, run = p, p.WriteRun
			}
			count, err := int64(0), error(nil)
			var taken []uint32
			for _, b := range batches {
				for recs := b.Records; len(recs) > 0 && err == nil; {
					n := min(rapid.SampledFrom([]int{1, 50, 1000, 4000, 4000}).Draw(rt, "run"), len(recs))
					var wrote int
					wrote, err = run(b, recs[:n])
					if wrote < 0 || wrote > n || err == nil && wrote < n {
						rt.Fatalf("wrote %d of %d: %v", wrote, n, err)
					}
					count += int64(wrote)
					for _, r := range recs[:max(wrote, 0)] {
						taken = append(taken, r.CapLen)
					}
					recs = recs[n:]
				}
				if err == nil && rapid.Bool().Draw(rt, "flush") {
					err = w.Flush()
				}
			}
			last := w.Flush()
			if err == nil {
				err = last
			}
			if err != last || err != nil && err != full && err != io.ErrShortWrite {
				rt.Fatalf("%v and then %v", err, last)
			}
			if n, again := run(batches[0], batches[0].Records); err != nil && (n != 0 || again != err) {
				rt.Fatalf("after the error wrote %d: %v", n, again)
			}
			if err == nil && (w.Lost() != 0 || w.Flushed() != w.Size()) {
				rt.Fatalf("all is well, but flushed %d of %d, lost %d", w.Flushed(), w.Size(), w.Lost())
			}
			if missed := w.Missed(); !slices.Equal(missed, taken[count-w.Lost():]) {
				rt.Fatalf("missed %v, lost %d of %v", missed, w.Lost(), taken)
			}
			in, rest := countUnits(d.Bytes(), ng)
			if in != w.Whole() || in != count-w.Lost() || int64(d.Len()-rest) != w.Flushed() {
				rt.Fatalf("%d records in the file, want %d - %d; whole up to %d, want %d",
					in, count, w.Lost(), d.Len()-rest, w.Flushed())
			}
		})
	}
}

// countUnits counts the whole packets in a file, and the bytes behind its last whole unit.
func countUnits(p []byte, ng bool) (packets int64, rest int) {
	if !ng {
		if len(p) < fileHeader {
			return 0, len(p)
		}
		p = p[fileHeader:]
	}
	for {
		var size int
		switch {
		case len(p) < recordHeader:
			return packets, len(p)
		case ng:
			size = int(le.Uint32(p[4:]))
		default:
			size = recordHeader + int(le.Uint32(p[8:]))
		}
		if size > len(p) {
			return packets, len(p)
		}
		if !ng || le.Uint32(p) == blockPacket {
			packets++
		}
		p = p[size:]
	}
}
