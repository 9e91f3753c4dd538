package sshx

import "io"

// How much is read at once into buffers of our own. A packet of SSH holds 32 KiB; two of them halve the hand-overs of a busy
// stream. A stream that trickles, as most do where there are many, has less: its buffers grow as reads fill them.
const (
	leastChunk  = 1 << 10
	stdoutChunk = 64 << 10
	stderrChunk = 4 << 10
)

// pump makes a channel's stream end when the process is closed. A read that waits in x/crypto ends only when the server
// closes the channel too, and OpenSSH and dropbear do that no earlier than the command ends.
//
// It is read in one of two ways: straight into buffers of the caller's (readInto), or as an io.Reader, which must not keep
// those and so has its own.
type pump struct {
	p     *Process
	r     io.Reader
	full  chan []byte // sent to and closed by the goroutine that reads the channel
	free  chan []byte // buffers for it; has room for two
	first bool        // the first buffer, which is ours, has not come back
	ahead bool        // it reads ahead of us by one buffer, into ours
	over  bool        // nothing more comes
	most  int         // length of ours, at most
	rest  []byte      // of the buffer that is being read
	buf   []byte      // that buffer; nil if none
}

// newPump begins to read r, into a small buffer at first: whether anything comes is known also while nobody asks for it.
func newPump(p *Process, r io.Reader, chunk int) *pump {
	s := &pump{p: p, r: r, first: true, full: make(chan []byte), free: make(chan []byte, 2), most: chunk}
	s.free <- make([]byte, leastChunk)
	if !p.t.group.run(s.run) {
		close(s.full)
	}
	return s
}

func (s *pump) unread() *unread { return &s.p.t.sock.unread }

// run is the goroutine that reads the channel.
func (s *pump) run() {
	defer close(s.full)
	unread := s.unread()
	unread.left.Add(1)
	behind, short := false, true
	defer func() {
		unread.left.Add(-1)
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
		case <-s.p.t.closing: // nobody has the connection any more
			return
		}
		if behind && short { // its reader has all that had come
			unread.caughtUp()
			behind = false
		}
		unread.left.Add(-1)
		// With bytes, an error is that the server could not be told of room: more of them may have come.
		n, _ := s.r.Read(b)
		unread.left.Add(1)
		if n == 0 {
			return // a channel's stream ends in io.EOF only
		}
		unread.reads.Add(1)
		short = n < len(b)
		if !behind {
			unread.fell()
			behind = true
		}
		select {
		case s.full <- b[:n]:
		case <-s.p.cut:
			return
		case <-s.p.t.closing:
			return
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

// readInto is Read without a copy: b is kept if it returns an error. Once Read was called it is the same as that.
func (s *pump) readInto(b []byte) (int, error) {
	if s.first {
		s.first = false
		if s.rest, s.over = s.take(); s.over {
			return 0, io.EOF
		}
	}
	if s.ahead || s.over || len(s.rest) > 0 || len(b) == 0 || s.p.isCut() {
		return s.Read(b)
	}
	s.free <- b // has room: there is no other
	filled, over := s.take()
	if s.over = over; over {
		return 0, io.EOF
	}
	return len(filled), nil
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

// next takes the next buffer of ours.
func (s *pump) next() bool {
	switch {
	case s.over:
		return false
	case !s.ahead:
		s.ahead = true
		s.free <- make([]byte, leastChunk)
		if !s.first {
			s.free <- make([]byte, leastChunk)
		}
	case s.buf != nil:
		s.free <- s.buf // has room for both
		s.buf = nil
	}
	b, over := s.take()
	if s.first, s.over = false, over; over {
		return false
	}
	s.rest, s.buf = b, b[:cap(b)]
	if most := s.unread().share(s.most); len(b) == cap(b) && len(b) < most {
		s.buf = make([]byte, min(4*len(b), most)) // the next time
	}
	return true
}

// take waits for a buffer to be filled.
func (s *pump) take() (b []byte, over bool) {
	select {
	case b, ok := <-s.full:
		s.unread().took(len(b))
		return b, !ok
	case <-s.p.cut:
		return nil, true
	}
}
