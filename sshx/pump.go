package sshx

import "io"

// How much is read at once. A packet of SSH holds 32 KiB; two of them halve the hand-overs of a busy stream. A stream that
// trickles, as most do where there are many, has less: its buffers grow as reads fill them.
const (
	leastChunk  = 1 << 10
	stdoutChunk = 64 << 10
	stderrChunk = 4 << 10
)

// pump makes a channel's stream end when the process is closed. A read that waits in x/crypto ends only when the server
// closes the channel too, and OpenSSH and dropbear do that no earlier than the command ends.
type pump struct {
	p    *Process
	full chan []byte // sent to and closed by the goroutine that reads the channel
	free chan []byte // buffers that were read; an empty one has still to be made
	size int         // of the next buffer that is made, for the goroutine that reads the channel
	most int
	rest []byte // of the buffer that is being read
	buf  []byte // that buffer; nil if none
}

// newPump starts reading r ahead of its reader by one buffer.
func newPump(p *Process, r io.Reader, chunk int) *pump {
	s := &pump{p: p, full: make(chan []byte), free: make(chan []byte, 2), size: leastChunk, most: chunk}
	s.free <- nil
	s.free <- nil
	if !p.t.group.run(func() { s.run(r) }) {
		close(s.full)
	}
	return s
}

func (s *pump) run(r io.Reader) {
	defer close(s.full)
	unread := &s.p.t.sock.unread
	behind, short := false, true
	defer func() {
		if behind {
			unread.caughtUp()
		}
	}()
	for {
		var b []byte
		select {
		case b = <-s.free:
		case <-s.p.cut:
			return
		}
		if len(b) < s.size {
			b = make([]byte, s.size)
		}
		if behind && short { // its reader has all that had come
			unread.caughtUp()
			behind = false
		}
		n, err := r.Read(b)
		if short = n < len(b); !short {
			s.size = max(s.size, min(4*n, unread.share(s.most)))
		}
		if n > 0 {
			if !behind {
				unread.fell()
				behind = true
			}
			select {
			case s.full <- b[:n]:
			case <-s.p.cut:
				return
			}
		}
		if err != nil {
			return // a channel's stream ends in io.EOF only
		}
	}
}

// Read is for one goroutine at a time.
func (s *pump) Read(b []byte) (int, error) {
	if s.p.isCut() {
		return 0, io.EOF
	}
	if len(b) == 0 {
		return 0, nil
	}
	if len(s.rest) == 0 && !s.next() {
		return 0, io.EOF
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// WriteTo spares io.Copy a buffer. It is for one goroutine at a time.
func (s *pump) WriteTo(w io.Writer) (written int64, err error) {
	for !s.p.isCut() && (len(s.rest) > 0 || s.next()) {
		n, err := w.Write(s.rest)
		written += int64(n)
		s.rest = s.rest[n:]
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (s *pump) next() bool {
	if s.buf != nil {
		s.free <- s.buf // has room for both
		s.buf = nil
	}
	select {
	case b, ok := <-s.full:
		if !ok {
			return false
		}
		s.p.t.sock.unread.took(len(b))
		s.buf, s.rest = b[:cap(b)], b
		return true
	case <-s.p.cut:
		return false
	}
}
