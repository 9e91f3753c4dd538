package sshx

import "sync/atomic"

// Trace is a piece of what came from the network on a connection, as it was on the wire. Since that is enciphered, packets
// that hold it are packets of this connection, wherever they were captured and whatever carries them.
type Trace [16]byte

// Tracer keeps one trace of a connection, on demand. There is one for each connection; through a jump host it is that
// of the connection inside. Its methods may be called at the same time.
type Tracer struct {
	wanted atomic.Bool
	last   atomic.Pointer[Trace]
}

// Want has the next trace kept that comes.
func (t *Tracer) Want() {
	if !t.wanted.Load() { // mostly it waits already
		t.wanted.Store(true)
	}
}

// Last is the trace that was kept last; nil before the first one. Each is another pointer.
func (t *Tracer) Last() *Trace { return t.last.Load() }

// leastTraced leaves out what is little: of the first bytes of an SSH packet four may be no secret.
const leastTraced = 64

// see is given what came, of which the first bytes mostly are those of a packet, so that a helper has them that cuts
// packets off.
func (t *Tracer) see(b []byte) {
	if len(b) < leastTraced || !t.wanted.Load() {
		return
	}
	trace := Trace(b)
	t.last.Store(&trace)
	t.wanted.Store(false)
}

// Tracer is that of the connection that the process runs on.
func (p *Process) Tracer() *Tracer { return &p.t.sock.tracer }
