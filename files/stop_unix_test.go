//go:build unix

package files_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/files"
)

// A named pipe is let go of when its time has come, whether its writer came before the end of the merge or after it.
func TestStopFIFO(t *testing.T) {
	large := packet{time: 1e9, data: strings.Repeat("x", 1000)}
	packets := pcap(binary.LittleEndian, false, slices.Repeat([]packet{large}, 1000)) // more than a pipe and a read hold
	for _, before := range []bool{true, false} {
		dir := t.TempDir()
		fifo := filepath.Join(dir, "fifo")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		good, progress := write(t, dir, "good", packets), new(files.Progress)
		go func() {
			_, err := files.Merge(ctx, files.Config{Inputs: []string{good, fifo}, Path: filepath.Join(dir, "out"), Progress: progress})
			done <- err
		}()
		var writer *os.File
		open := func() (err error) {
			writer, err = os.OpenFile(fifo, os.O_WRONLY, 0) // waits for who reads
			if err == nil {
				writer.SetWriteDeadline(time.Now().Add(10 * time.Second))
				_, err = writer.Write(packets)
			}
			return err
		}
		if before {
			if err := open(); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		wantCanceled(t, done)
		if total := progress.Total.Load(); total != 0 {
			t.Errorf("%d bytes are to be read, which nobody can know", total)
		}
		if !before {
			if err := open(); err != nil && !errors.Is(err, unix.EPIPE) {
				t.Fatal(err)
			}
		}
		// Its reader has closed it when a write fails.
		for {
			if _, err := writer.Write([]byte("more")); errors.Is(err, unix.EPIPE) {
				break
			} else if err != nil {
				t.Fatalf("it is open still: %v", err)
			}
		}
		writer.Close()
	}
}
