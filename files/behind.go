package files

import (
	"io"
	"sync/atomic"
)

// behind writes in a goroutine of its own, so that packets are put in order while those before them are written. Whole
// buffers are handed over to it (see merge.Taker), so nothing is copied twice.
type behind struct {
	w     io.Writer
	full  chan []byte
	empty chan []byte
	ended chan struct{} // when all is written
	err   atomic.Pointer[error]
}

const (
	buffersBehind = 2         // full ones, beside the one that is being filled
	writeSize     = 256 << 10 // bytes of each, about
)

func newBehind(w io.Writer, size int) *behind {
	b := &behind{w: w, full: make(chan []byte, buffersBehind), empty: make(chan []byte, buffersBehind+1), ended: make(chan struct{})}
	for range buffersBehind {
		b.empty <- make([]byte, 0, size)
	}
	go b.run()
	return b
}

func (b *behind) run() {
	defer close(b.ended)
	for p := range b.full {
		if b.err.Load() == nil {
			if _, err := b.w.Write(p); err != nil {
				b.err.Store(&err)
			}
		}
		b.empty <- p[:0]
	}
}

func (b *behind) failed() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Take implements merge.Taker.
func (b *behind) Take(p []byte) ([]byte, error) {
	if err := b.failed(); err != nil {
		return nil, err
	}
	b.full <- p
	return <-b.empty, nil
}

// Write writes bytes that stay the caller's: a copy of them.
func (b *behind) Write(p []byte) (int, error) {
	own := <-b.empty
	own, err := b.Take(append(own, p...))
	if err != nil {
		return 0, err
	}
	b.empty <- own
	return len(p), nil
}

// close waits until all is written, and returns the first error.
func (b *behind) close() error {
	close(b.full)
	<-b.ended
	return b.failed()
}
