package tests

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/tests/bed"
)

// fullSpeed plays tcpdumps that give packets as fast as they are taken, and one that gives its first packet and then
// nothing until all others have given theirs.
type fullSpeed struct {
	packets int           // of each
	given   atomic.Int64  // packets, of all that are not stalled
	resume  chan struct{} // closed when the stalled one may go on
}

func (f *fullSpeed) run(s *sshserver.Session) int {
	s.Go(func() { f.give(s, f.packets, nil) })
	return f.end(s)
}

func (f *fullSpeed) stalled(s *sshserver.Session) int {
	s.Go(func() { f.give(s, f.packets, f.resume) })
	return f.end(s)
}

// give writes packets. The first one of a stalled instance comes at once, the others later than their times say.
func (f *fullSpeed) give(s *sshserver.Session, n int, resume <-chan struct{}) {
	io.WriteString(s.Stderr, introduction(time.Now()))
	out := bufio.NewWriterSize(s.Stdout, 32<<10)
	io.WriteString(out, pcapHeader(262144, 1))
	start, payload := time.Now(), strings.Repeat("f", 1000)
	for i := range n {
		at := time.Now()
		if resume != nil {
			at = start.Add(time.Duration(i) * time.Millisecond)
		}
		io.WriteString(out, pcapRecord(at, payload))
		if resume == nil {
			f.given.Add(1)
		} else if i == 0 {
			out.Flush()
			<-resume
		}
	}
	out.Flush()
}

// end waits for the end of the input, and reports.
func (f *fullSpeed) end(s *sshserver.Session) int {
	io.Copy(io.Discard, s.Stdin)
	fmt.Fprintf(s.Stderr, "%d packets captured\n%d packets received by filter\n0 packets dropped by kernel\n", f.packets, f.packets)
	return 0
}

// One of a hundred instances stalls while the others give packets at full speed, and nothing may leave for a minute on its
// account: memory stays within --buffer and 64 MiB, no packet is missing, and the finished file is in order.
func TestBufferIsABound(t *testing.T) {
	const instances, packets, buffer, beside = 100, 2000, 16, 64
	l := newLoopback(t)
	f := &fullSpeed{packets: packets, resume: make(chan struct{})}
	names := []string{"stalled"}
	l.server("stalled", &sshserver.Server{Handler: f.stalled})
	for i := range instances - 1 {
		names = append(names, fmt.Sprintf("i%d", i))
		l.server(names[i+1], &sshserver.Server{Handler: f.run})
	}
	file := output(t, "a.pcapng")
	c := l.capture(append(names, "-o", file, "--buffer", fmt.Sprintf("%dMiB", buffer), "--window", "1m", "--connect-timeout", "1m")...)
	memory := peak(c)
	bed.WaitFor(t, 2*time.Minute, "all but the stalled instance have given their packets", func() bool {
		return f.given.Load() == (instances-1)*packets
	})
	close(f.resume)
	bed.WaitFor(t, time.Minute, "nearly all is in the file", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > (instances*packets-buffer<<10)*1000
	})
	c.signal(os.Interrupt)
	c.exit(time.Minute, 0)
	r := c.result()
	if r.Packets != instances*packets || !r.Output.InOrder {
		t.Errorf("%d packets, in order: %v; want %d", r.Packets, r.Output.InOrder, instances*packets)
	}
	if n, strict := capinfos(t, file); n != instances*packets || !strict {
		t.Errorf("capinfos counts %d packets, in order: %v", n, strict)
	}
	if memory() > buffer+beside {
		t.Errorf("it took %d MiB of memory, more than %d + %d", memory(), buffer, beside)
	}
	t.Logf("%d MiB of memory", memory())
}
