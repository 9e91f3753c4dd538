package files_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/sshpcap/sshpcap/files"
)

// makeInputs writes k sorted pcap files with n packets of 100 bytes between them, spread at random.
func makeInputs(b *testing.B, k, n int) (names []string, size int64) {
	b.Helper()
	random := rand.New(rand.NewPCG(1, uint64(k)))
	bufs := make([]bytes.Buffer, k)
	for i := range bufs {
		bufs[i].Write(pcapHeader(1))
	}
	var packet [116]byte
	binary.LittleEndian.PutUint32(packet[8:], 100)
	binary.LittleEndian.PutUint32(packet[12:], 100)
	t := uint64(1_700_000_000e6)
	for range n {
		t += random.Uint64N(3)
		binary.LittleEndian.PutUint32(packet[:], uint32(t/1e6))
		binary.LittleEndian.PutUint32(packet[4:], uint32(t%1e6))
		bufs[random.IntN(k)].Write(packet[:])
	}
	dir := b.TempDir()
	for i := range bufs {
		name := filepath.Join(dir, fmt.Sprint(i, ".pcap"))
		size += int64(bufs[i].Len())
		if err := os.WriteFile(name, bufs[i].Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		names = append(names, name)
	}
	return names, size
}

func pcapHeader(link uint32) []byte {
	h := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	h = append(h, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	h = binary.LittleEndian.AppendUint32(h, 262144)
	return binary.LittleEndian.AppendUint32(h, link)
}

// onlyWriter and onlyReader keep io.Copy from shortcuts in the kernel.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }

// BenchmarkMerge is to be read against its first line of each group: a copy of the same bytes by one goroutine.
func BenchmarkMerge(b *testing.B) {
	for _, k := range []int{3, 16, 128, 1024} {
		names, size := makeInputs(b, k, 1_000_000)
		out := filepath.Join(b.TempDir(), "out")
		b.Run(fmt.Sprintf("copy/%d", k), func(b *testing.B) {
			b.SetBytes(size)
			buf := make([]byte, 1<<20)
			for b.Loop() {
				to, err := os.Create(out)
				if err != nil {
					b.Fatal(err)
				}
				for _, name := range names {
					from, err := os.Open(name)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.CopyBuffer(onlyWriter{to}, onlyReader{from}, buf); err != nil {
						b.Fatal(err)
					}
					from.Close()
				}
				to.Close()
			}
		})
		for name, format := range map[string]files.Format{"pcap": files.Pcap, "pcapng": files.Pcapng} {
			b.Run(fmt.Sprintf("%s/%d", name, k), func(b *testing.B) {
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := files.Merge(context.Background(), files.Config{Inputs: names, Format: format, Path: out, Overwrite: true}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
