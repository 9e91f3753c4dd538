package capture

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// Bounds of the measurements of a connection, in time and in bytes: the way may be slow, and the other end anybody. None
// takes longer than an instance may take to connect.
const (
	tripCount = 5
	tripMost  = 2 * time.Second
	roomCount = 10 // the usual MaxSessions of sshd
	roomMost  = 5 * time.Second
	bulkStart = 3 * time.Second        // until the first bytes
	bulkMost  = 300 * time.Millisecond // from there
	bulkShort = 50 * time.Millisecond  // what took less is tried with more
)

// bulkBlocks are how many blocks are asked for, one try after the other: 128 KiB, 1 MiB.
var bulkBlocks = []int{4, 32}

// roundTrip is the shortest time that an answer took; 0 when there was none.
func (cfg Config) roundTrip(ctx context.Context, conn *sshx.Conn) (shortest time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, min(tripMost, cfg.ConnectTimeout))
	defer cancel()
	for range tripCount {
		d, err := conn.RoundTrip(ctx)
		if err != nil {
			break
		}
		if shortest == 0 || d < shortest {
			shortest = d
		}
	}
	return shortest
}

// room is how many sessions the connection has room for, as far as it is looked; -1 when that is not known.
func (cfg Config) room(ctx context.Context, conn *sshx.Conn) int {
	ctx, cancel := context.WithTimeout(ctx, min(roomMost, cfg.ConnectTimeout))
	defer cancel()
	n, err := conn.Room(ctx, roomCount)
	if err != nil {
		return -1
	}
	return n
}

// throughput is how many bytes a second come from an instance; 0 when that is not known. It is measured with so little
// that a fast link with a long way does not come up to its speed.
func (cfg Config) throughput(ctx context.Context, conn *sshx.Conn, c remote.Command) (rate float64) {
	for _, blocks := range bulkBlocks {
		n, took := cfg.transfer(ctx, conn, c.BulkLine(blocks), blocks*remote.BulkBlock)
		if took > 0 {
			rate = float64(n) / took.Seconds()
		}
		if took >= bulkShort || n == 0 {
			break
		}
	}
	return rate
}

// transfer reads what a command writes, at most so many bytes, and gives those that came after the first ones, and the
// time from these to the last.
func (cfg Config) transfer(ctx context.Context, conn *sshx.Conn, line string, most int) (n int, took time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, min(bulkStart, cfg.ConnectTimeout))
	defer cancel()
	process, err := conn.Start(ctx, line)
	if err != nil {
		return 0, 0
	}
	var beside sync.WaitGroup
	beside.Go(func() { io.Copy(io.Discard, process.Stderr) })
	defer beside.Wait()
	defer process.Close()
	process.Stdin.Close()
	defer context.AfterFunc(ctx, func() { process.Close() })()

	buf := make([]byte, remote.BulkBlock)
	first, err := process.Stdout.Read(buf)
	start := time.Now()
	defer afterTimeout(bulkMost, func() { process.Close() })()
	for err == nil && first+n < most {
		var more int
		more, err = process.Stdout.Read(buf)
		if more > 0 {
			n, took = n+more, time.Since(start)
		}
	}
	return n, took
}
