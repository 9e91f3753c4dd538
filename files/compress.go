package files

import (
	"io"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how an output is compressed.
type Compression int

const (
	Uncompressed Compression = iota
	Gzip
	Zstd
)

// finisher is what an output's bytes go through, which keeps some of them until it is finished.
type finisher interface{ finish() error }

// compressed compresses what is written to it. It has an end: finish or drop.
type compressed struct {
	encoder io.WriteCloser
	out     io.Writer
	size    int64 // of what came out
	ended   bool
	dropped atomic.Bool
}

// compress has what is written to w compressed, as the configuration wants it.
func (c *Config) compress(w io.Writer) (io.Writer, error) {
	z := &compressed{out: w}
	var err error
	switch c.Compress {
	case Gzip:
		z.encoder = gzip.NewWriter(counted{z})
	case Zstd:
		// A window of 4 MiB is what every decoder takes (RFC 8878, section 3.1.1.1.2), also where many files are merged again.
		z.encoder, err = zstd.NewWriter(counted{z}, zstd.WithEncoderConcurrency(min(runtime.GOMAXPROCS(0), mostWorkers)), zstd.WithWindowSize(4<<20))
	default:
		return w, nil
	}
	return z, err
}

// counted writes what comes out, and counts it.
type counted struct{ z *compressed }

func (c counted) Write(p []byte) (int, error) {
	if c.z.dropped.Load() {
		return len(p), nil
	}
	n, err := c.z.out.Write(p)
	c.z.size += int64(n)
	return n, err
}

func (z *compressed) Write(p []byte) (int, error) { return z.encoder.Write(p) }

// finish writes what was kept, and the end. There is none of an output that fails.
func (z *compressed) finish() error {
	if z.ended {
		return nil
	}
	z.ended = true
	if err := z.encoder.Close(); err != nil {
		return err
	}
	if f, ok := z.out.(finisher); ok {
		return f.finish()
	}
	return nil
}

// drop ends an output that has failed, without the end that would make it look whole.
func (z *compressed) drop() {
	if z.ended {
		return
	}
	z.ended = true
	z.dropped.Store(true)
	_ = z.encoder.Close() // waits for those who compress
}
