package files

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sshpcap/sshpcap/merge"
)

// source is where an input comes from.
type source struct {
	name   string
	from   io.Reader // nil: the file of that name
	late   bool      // opening and reading it may take as long as somebody likes: it is no regular file
	report int       // which InputReport is about it; -1 = none
	window uint64    // most memory for undoing zstd; 0 = maxWindow

	alone       bool   // there is no other
	plain       bool   // the output is pcap
	application string // that writes the output
}

// A zstd file says itself how much memory it takes to undo it, and a hundred bytes may ask for anything. All inputs that
// are open share what there is; with many each has no more than RFC 8878 wants of every decoder (section 3.1.1.1.2).
const (
	maxWindow  = 128 << 20 // of one input: zstd --long
	maxWindows = 512 << 20 // of all
	minWindow  = 8 << 20
)

// share is how much of it each of n inputs gets.
func share(n int) uint64 { return uint64(min(max(maxWindows/max(n, 1), minWindow), maxWindow)) }

// errWindow is what is wrong with an input that wants more.
func (s source) errWindow() error {
	return fmt.Errorf("it takes more than %d MiB to undo its zstd, too much beside the other files: undo it before, or merge fewer files at once", s.windowSize()>>20)
}

func (s source) windowSize() uint64 {
	if s.window == 0 {
		return maxWindow
	}
	return s.window
}

// chunk is what an input hands over at once: events, and behind them packets. It belongs to whoever has it, who gives
// it back with release; the rounds that share one with drop.
type chunk struct {
	events  []event
	batch   *merge.Batch // nil = no packets
	iface   int          // of all packets, by the input's own count
	ifaces  []int        // of each packet, instead; nil = they are of one
	options []packetOptions
	blocks  int     // records that are no packets
	damage  *Damage // what comes behind it cannot be used; nothing does
	notes   notes
	odd     *merge.Oddities // of all that the input has given so far; nil = as before
	release func()

	taken   int   // packets that are in a round
	within  int   // of the others those up to the next round's bound, about
	newest  int64 // time in it, and before it
	ordered bool  // its packets are, and are not before those of the input's earlier chunks
	refs    atomic.Int32
}

// drop gives the chunk back if nobody else has it any more.
func (c *chunk) drop() {
	if c.refs.Add(-1) == 0 {
		c.release()
	}
}

// size is how many bytes its packets have, about.
func (c *chunk) size() int {
	first, last := &c.batch.Records[0], &c.batch.Records[len(c.batch.Records)-1]
	return int(last.Off + last.CapLen - first.Off)
}

// packetOptions are those of one packet: pcapng's, little-endian. Or the record is no packet, but another block that has its
// place among them.
type packetOptions struct {
	record int
	bytes  []byte // of a block: its body
	kind   uint32 // of block; 0 = it is a packet
}

// event is a block that is no packet.
type event struct {
	kind  uint32
	off   int64  // in the input
	time  int64  // of statistics
	iface iface  // blockInterface
	body  []byte // of others, little-endian; statistics: behind the interface's number, which is number
	from  int    // statistics: of the interface, by the input's own count
}

// iface describes an interface as it goes into the output.
type iface struct {
	merge.Interface
	options []byte
	input   string
	wide    bool // its packets go beyond the snapshot length that the input says, and so another one is written
}

// decoder frames an input. next returns io.EOF at its clean end; what is damaged ends with a chunk that says so.
type decoder interface {
	next() (*chunk, error)
}

// opened is an input that is being read.
type opened struct {
	decoder
	format string
	quick  bool // reading it takes no more than the system's copying: whoever merges does it when it is needed
	close  func()
}

// readSizes are how much is read of an input at once, the first time and later, if it is quick, and if it is not.
type readSizes struct{ first, quick, other int }

// open opens an input and finds out, by its first bytes, what it is.
func (s source) open(read *atomic.Int64, size readSizes) (*opened, error) {
	raw, closeFile := s.from, func() {}
	if raw == nil {
		f, err := os.Open(s.name)
		if err != nil {
			return nil, err
		}
		raw, closeFile = f, func() { f.Close() }
	}
	o, err := s.decode(&counter{raw, read}, size, isRegular(raw))
	if err != nil {
		closeFile()
		return nil, err
	}
	closeDecoder := o.close
	o.close = func() { closeDecoder(); closeFile() }
	return o, nil
}

func isRegular(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// counter counts what is read, and gives no more at once than its user has room for.
type counter struct {
	r    io.Reader
	read *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.read != nil {
		c.read.Add(int64(n))
	}
	return n, err
}

var (
	gzipMagic   = []byte{0x1f, 0x8b}
	zstdMagic   = []byte{0x28, 0xb5, 0x2f, 0xfd}
	pcapngMagic = []byte{0x0a, 0x0d, 0x0d, 0x0a}
)

// decode finds out what r is.
func (s source) decode(r io.Reader, size readSizes, regular bool) (*opened, error) {
	head, r, err := peek(r)
	if err != nil {
		return nil, err
	}
	o := &opened{close: func() {}}
	suffix := ""
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(bufio.NewReaderSize(r, 64<<10))
		if err != nil {
			return nil, err
		}
		r, suffix = z, ", gzip"
	case bytes.Equal(head, zstdMagic):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(s.windowSize()))
		if err != nil {
			return nil, err
		}
		r, suffix, o.close = z, ", zstd", z.Close
	}
	if suffix != "" {
		if head, r, err = peek(r); err != nil {
			o.close()
			if errors.Is(err, zstd.ErrWindowSizeExceeded) {
				err = s.errWindow()
			}
			return nil, err
		}
	}
	if bytes.Equal(head, pcapngMagic) {
		o.format, o.decoder = "pcapng"+suffix, newPcapng(s, r, size.other)
		return o, nil
	}
	if what := mistaken(head, r, regular); what != "" {
		o.close()
		return nil, fmt.Errorf("%w: it is %s", ErrNoCapture, what)
	}
	o.format, o.quick = "pcap"+suffix, suffix == "" && regular
	reader := merge.NewReader(&limited{r, size.other})
	if o.quick {
		reader = merge.NewReaderSize(r, size.first, size.quick)
	}
	if o.decoder, err = newPcap(s.name, reader, regular); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// mistaken says what begins with head, and goes on with r, if that is neither pcap nor pcapng and can be told. Of what is no
// regular file no more is read: nothing more may come.
func mistaken(head []byte, r io.Reader, regular bool) string {
	if merge.IsPcap(head) {
		return ""
	}
	if regular {
		more := make([]byte, maxHead)
		n, _ := io.ReadFull(r, more) // from head on: what it is after all does not depend on why there is no more
		head = more[:n]
	}
	return merge.Identify(head)
}

// maxHead is how much of an input is looked at to tell what it is.
const maxHead = 512

// peek reads the first four bytes, and returns a reader that gives them again.
func peek(r io.Reader) ([]byte, io.Reader, error) {
	head := make([]byte, 4)
	n, err := io.ReadFull(r, head)
	if err == io.EOF {
		return nil, nil, fmt.Errorf("%w: it is empty", ErrNoCapture)
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	return head[:n], &prefixed{head[:n], r}, nil
}

// prefixed gives some bytes before those of r.
type prefixed struct {
	head []byte
	r    io.Reader
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) == 0 {
		return p.r.Read(b)
	}
	n := copy(b, p.head)
	p.head = p.head[n:]
	return n, nil
}

// probe reports whether a file is a capture, how large it is, and whether it is, or may be, compressed with zstd. What is no
// regular file can be read only once: its size is -1, which is not known.
func probe(name string) (size int64, zstd bool, err error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return 0, false, err
	case info.IsDir():
		return 0, false, errors.New("is a directory")
	case !info.Mode().IsRegular():
		return -1, true, nil
	}
	o, err := source{name: name}.open(nil, readSizes{4 << 10, 4 << 10, 4 << 10})
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return 0, false, err
	}
	o.close()
	return info.Size(), strings.HasSuffix(o.format, "zstd"), nil
}

// pcapDecoder frames a pcap file.
type pcapDecoder struct {
	name   string
	reader *merge.Reader
	header merge.Header
	odd    merge.Oddities // that are known
	told   bool           // the interface
	ahead  bool           // packets may be read before it is told: none has to be waited for
	first  *chunk         // that were
	ended  bool           // by damage
}

// limited gives at most size bytes at once, which bounds what a merge.Reader takes.
type limited struct {
	r    io.Reader
	size int
}

func (l *limited) Read(p []byte) (int, error) { return l.r.Read(p[:min(len(p), l.size)]) }

func newPcap(name string, reader *merge.Reader, ahead bool) (*pcapDecoder, error) {
	d := &pcapDecoder{name: name, reader: reader, ahead: ahead}
	var err error
	d.header, err = d.reader.ReadHeader()
	var format *merge.FormatError
	switch {
	case errors.As(err, &format):
		return nil, fmt.Errorf("%w: %s", ErrNoCapture, format.Reason)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: it is cut off in its header", ErrNoCapture)
	}
	return d, err
}

func (d *pcapDecoder) next() (*chunk, error) {
	if !d.told {
		d.told = true
		return d.tell(), nil
	}
	if c := d.first; c != nil {
		d.first = nil
		return c, nil
	}
	if d.ended {
		return nil, io.EOF
	}
	return d.read(), nil
}

// tell describes the interface. Where packets at the file's beginning go beyond its snapshot length, that is not what is
// written: tcpdump reads no further at such a one. Of those that come later it is known too late.
func (d *pcapDecoder) tell() *chunk {
	i := iface{
		Interface: merge.Interface{LinkType: d.header.LinkType, Snaplen: d.header.Snaplen, Nano: d.header.Nano},
		options:   merge.AppendText(nil, optionName, d.name), input: d.name,
	}
	if d.ahead {
		d.first = d.read()
		if i.wide = d.odd[merge.OddSnaplen] > 0; i.wide {
			i.Snaplen = merge.MaxRecord
		}
	}
	return &chunk{release: func() {}, events: []event{{kind: blockInterface, iface: i}}}
}

func (d *pcapDecoder) read() *chunk {
	c := &chunk{release: func() {}}
	b, err := d.reader.Next()
	if odd := d.reader.Oddities(); odd != d.odd {
		d.odd = odd
		c.odd = snapshot(odd)
	}
	if err == nil {
		c.batch, c.release = b, b.Release
		return c
	}
	d.ended = true
	if err != io.EOF {
		c.damage = d.damageOf(err)
	}
	return c
}

// snapshot is a copy for another goroutine.
func snapshot(odd merge.Oddities) *merge.Oddities { return &odd }

// damageOf says what the input ended with.
func (d *pcapDecoder) damageOf(err error) *Damage {
	damage := &Damage{File: d.name, Offset: d.reader.Offset(), Reason: err.Error()}
	var format *merge.FormatError
	if errors.As(err, &format) {
		damage.Offset, damage.Reason = format.Offset, format.Reason
	} else if err == merge.ErrTruncated {
		damage.Reason = "its last packet is cut short"
	}
	return damage
}
