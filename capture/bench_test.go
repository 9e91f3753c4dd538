package capture_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
)

const benchPackets = 20_000 // of 1,000 bytes, from each session

// flood is a pcap stream as a busy helper gives it.
func flood() []byte {
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	w.WriteFileHeader(262144, layers.LinkTypeEthernet)
	start, data := time.Now(), make([]byte, 1000)
	for i := range benchPackets {
		w.WritePacket(gopacket.CaptureInfo{Timestamp: start.Add(time.Duration(i) * time.Microsecond), CaptureLength: len(data), Length: len(data)}, data)
	}
	return b.Bytes()
}

// BenchmarkLive captures from k sessions into a file, beside a client that reads the same sessions and throws the bytes
// away: what is between the two is the price of framing, merging and writing. The servers run in this process, too.
func BenchmarkLive(b *testing.B) {
	stream := flood()
	handler := func(s *sshserver.Session) int {
		s.Go(func() { io.Copy(io.Discard, s.Stdin) })
		fmt.Fprintln(s.Stderr, "@sshpcap start\n@sshpcap watched")
		s.Stdout.Write(stream)
		return 0
	}
	for _, k := range []int{1, 16} {
		var instances []capture.Instance
		for i := range k {
			instances = append(instances, instance(b, fmt.Sprint("i", i), handler))
		}
		b.Run(fmt.Sprintf("merged/%d", k), func(b *testing.B) {
			b.SetBytes(int64(k * len(stream)))
			for b.Loop() {
				path := filepath.Join(b.TempDir(), "x.pcapng")
				report, err := capture.Run(context.Background(), capture.Config{Instances: instances, Output: capture.Output{Path: path}})
				if err != nil || report.Packets != int64(k*benchPackets) {
					b.Fatal(err, report.Packets)
				}
				os.Remove(path)
			}
		})
		b.Run(fmt.Sprintf("discarded/%d", k), func(b *testing.B) {
			b.SetBytes(int64(k * len(stream)))
			for b.Loop() {
				var all sync.WaitGroup
				for _, in := range instances {
					all.Go(func() { discard(b, in) })
				}
				all.Wait()
			}
		})
	}
}

func discard(b *testing.B, in capture.Instance) {
	conn, err := in.Dial(context.Background())
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	process, err := conn.Start(context.Background(), "x")
	if err != nil {
		b.Error(err)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { io.Copy(io.Discard, process.Stderr) })
	both.Go(func() { io.Copy(io.Discard, process.Stdout) })
	both.Wait()
	process.Wait()
}
