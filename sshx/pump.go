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
	begun bool        // it is being read
	full  chan []byte // sent to and closed by the goroutine that reads the channel
	free  chan []byte // buffers for it; has room for two
	ahead bool        // it reads ahead of us by one buffer, into ours
	over  bool        // nothing more comes
	most  int         // length of ours, at most
	rest  []byte      // of the buffer that is being read
	buf   []byte      // that buffer; nil if none
}

func newPump(p *Process, r io.Reader, chunk int) *pump {
	return &pump{p: p, r: r, full: make(chan []byte), free: make(chan []byte, 2), most: chunk}
}

// run is the goroutine that reads the channel.
func (s *pump) run() {
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
		if behind && short { // its reader has all that had come
			unread.caughtUp()
			behind = false
		}
		n, err := s.r.Read(b)
		short = n < len(b)
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

// readInto is Read without a copy: b is kept if it returns an error. Once Read was called it is the same as that.
func (s *pump) readInto(b []byte) (int, error) {
	if s.ahead || s.over || len(b) == 0 || s.p.isCut() {
		return s.Read(b)
	}
	s.free <- b // has room: there is no other
	filled, ok := s.take()
	if !ok {
		s.over = true
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
		s.free <- make([]byte, leastChunk)
	case s.buf != nil:
		s.free <- s.buf // has room for both
		s.buf = nil
	}
	b, ok := s.take()
	if !ok {
		return false
	}
	s.rest, s.buf = b, b[:cap(b)]
	if most := s.p.t.sock.unread.share(s.most); len(b) == cap(b) && len(b) < most {
		s.buf = make([]byte, min(4*len(b), most)) // the next time
	}
	return true
}

// take waits for a buffer to be filled.
func (s *pump) take() (b []byte, ok bool) {
	if !s.begun {
		s.begun = true
		if !s.p.t.group.run(s.run) {
			close(s.full)
		}
	}
	select {
	case b, ok = <-s.full:
		s.p.t.sock.unread.took(len(b))
	case <-s.p.cut:
	}
	return b, ok
}
