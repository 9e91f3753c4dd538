package merge

import "io"

// output gathers whole records or blocks and writes them many at a time. The first error of w ends it.
type output struct {
	w   io.Writer
	buf []byte // whole units only
	// unit reads the length of the record or block that p begins with, and how many bytes of a packet it holds; -1 where it
	// holds none. p is from here.
	unit func(p []byte) (n, captured int)

	size    int64 // bytes taken
	flushed int64 // of those, up to the end of the last unit that is in w
	packets int64 // taken by runs that have ended
	pending int   // packets in buf
	whole   int64 // packets in w
	err     error

	missing []uint32 // captured lengths of packets in the write that failed and not in w, in order
}

// Buffers have room for any record with what is around it; what a run has in one piece and is large bypasses them.
const (
	outputSize  = MaxRecord + 4<<10
	largeOutput = 64 << 10
)

func newOutput(w io.Writer, unit func([]byte) (int, int)) output {
	return output{w: w, unit: unit, buf: make([]byte, 0, outputSize)}
}

// next returns room for a unit of n bytes, which the caller fills at once.
func (o *output) next(n int) ([]byte, error) {
	if o.err != nil {
		return nil, o.err
	}
	if len(o.buf)+n > cap(o.buf) {
		if err := o.flush(); err != nil {
			return nil, err
		}
		if n > cap(o.buf) {
			o.buf = make([]byte, 0, n)
		}
	}
	at := len(o.buf)
	o.buf = o.buf[:at+n]
	o.size += int64(n)
	return o.buf[at:], nil
}

// room is as much of the buffer as that, which took makes part of what is to be written; nil where there is none, and
// next is to be asked.
func (o *output) room(n int) []byte {
	if at := len(o.buf); n <= cap(o.buf)-at && o.err == nil {
		return o.buf[at : at+n]
	}
	return nil
}

// took takes what was put into room.
func (o *output) took(n, packets int) {
	o.buf = o.buf[:len(o.buf)+n]
	o.size += int64(n)
	o.pending += packets
}

// put takes bytes that are whole units, with as many packets.
func (o *output) put(p []byte, packets int) error {
	if o.err != nil {
		return o.err
	}
	if len(p) >= largeOutput {
		if err := o.flush(); err != nil {
			return err
		}
		o.size += int64(len(p))
		return o.write(p, packets)
	}
	room, err := o.next(len(p))
	if err != nil {
		return err
	}
	copy(room, p)
	o.pending += packets
	return nil
}

// putRun takes a run of packets that were framed elsewhere.
func (o *output) putRun(p []byte, packets int) error {
	_ = o.put(p, packets) // endRun knows the error
	_, err := o.endRun(packets)
	return err
}

func (o *output) flush() error {
	if o.err != nil || len(o.buf) == 0 {
		return o.err
	}
	err := o.write(o.buf, o.pending)
	o.buf, o.pending = o.buf[:0], 0
	return err
}

// write writes whole units. After an error it finds out which of them are in w.
func (o *output) write(p []byte, packets int) error {
	n, err := o.w.Write(p)
	n = min(max(n, 0), len(p))
	if err == nil && n == len(p) {
		o.flushed += int64(n)
		o.whole += int64(packets)
		return nil
	}
	if err == nil {
		err = io.ErrShortWrite
	}
	o.err = err
	for len(p) > 0 {
		size, captured := o.unit(p)
		p, n = p[size:], n-size
		switch {
		case n >= 0:
			o.flushed += int64(size)
			if captured >= 0 {
				o.whole++
			}
		case captured >= 0:
			o.missing = append(o.missing, uint32(captured))
		}
	}
	return err
}

// endRun returns what a WriteRun of n records returns, and takes note of its packets.
func (o *output) endRun(n int) (int, error) {
	if o.err != nil {
		n = int(min(max(o.whole-o.packets, 0), int64(n)))
	}
	o.packets += int64(n)
	return n, o.err
}

// lost returns how many packets were taken and will not reach w.
func (o *output) lost() int64 {
	if o.err == nil {
		return 0
	}
	return o.packets - o.whole
}

// missed returns the captured lengths of those, in order. They were all in the write that failed: the run that it failed
// in counts those of itself that reach w, only.
func (o *output) missed() []uint32 { return o.missing[:max(o.lost(), 0)] }
