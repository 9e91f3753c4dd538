package main

import (
	"io"
	"time"
)

// queue writes to something that may be slow, or stop taking anything, without making whoever writes wait: a capture
// must not stand still because nobody reads its messages. What does not fit is dropped.
type queue struct {
	texts   chan []byte   // closed by close
	drained chan struct{} // closed when all is written
}

// queueLength is how many texts may wait: far more than come while a terminal is looked at.
const queueLength = 4096

func newQueue(w io.Writer) *queue {
	q := &queue{texts: make(chan []byte, queueLength), drained: make(chan struct{})}
	go func() {
		defer close(q.drained)
		for text := range q.texts {
			_, _ = w.Write(text) // there is nobody to tell
		}
	}()
	return q
}

// Write never waits and never fails.
func (q *queue) Write(p []byte) (int, error) {
	select {
	case q.texts <- append([]byte(nil), p...):
	default:
	}
	return len(p), nil
}

// close waits until all is written, or not for so long, or cut is closed. It must be the last call.
func (q *queue) close(patience time.Duration, cut <-chan struct{}) {
	close(q.texts)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-q.drained:
	case <-timer.C:
	case <-cut:
		select { // what is taken at once is still shown
		case <-q.drained:
		case <-time.After(200 * time.Millisecond):
		}
	}
}
