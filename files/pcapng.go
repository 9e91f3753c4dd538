package files

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/sshpcap/sshpcap/merge"
)

// Blocks and options of draft-ietf-opsawg-pcapng.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockOldPacket  = 2
	blockSimple     = 3
	blockNames      = 4
	blockStatistics = 5
	blockPacket     = 6
	blockSecrets    = 10

	optionName       = 2
	optionResolution = 9
	optionOffset     = 14
)

const (
	maxBlock      = 16 << 20 // of a kind other than packets, which is held as a whole
	maxPacket     = merge.MaxRecord + 1<<20
	maxInterfaces = 1 << 20 // of one input
	mostKept      = 4 << 20 // of a chunk's memory, for the next one
)

// pcapngDecoder frames a pcapng file in place: a chunk's packets are where they were read to.
type pcapngDecoder struct {
	source
	r     io.Reader
	size  int
	order binary.ByteOrder
	swap  bool // the section is big-endian

	buf        []byte // the chunk's in the making
	start, end int
	off        int64 // of start in the file
	err        error // of r
	free       chan *ngChunk

	section []ngInterface // interfaces of this section
	unknown bool          // its version is not known, so that nothing of it is
	count   int           // of all sections
	last    int64         // time of the last packet
	timed   bool          // there is such a time

	sections int      // that have begun
	comments [][]byte // options that this section's interfaces are to have
	untold   bool     // none of them has them yet
	notes    notes    // of what came since the last chunk

	odd, told merge.Oddities // what made no sense, and what of it is known
}

type ngInterface struct {
	unit    int64  // ns; negative: an if_tsresol finer than any clock's, see fineTime
	perSec  uint64 // units; 0 = 1e6 and 1e9, for which unit is the ns of one
	offset  int64  // s
	link    merge.LinkType
	snaplen uint32
	number  int32 // of all sections; absent
	micro   bool  // microseconds tell its times apart
}

// absent is the number of an interface whose description makes no sense: it is counted in its section, and has no packets.
const absent = -1

// base is what its times in the output begin from, in s: not after 1970.
func (in *ngInterface) base() int64 { return max(min(in.offset, 0), -mostSeconds) }

// ngChunk is a chunk with its memory.
type ngChunk struct {
	chunk
	b      merge.Batch
	buf    []byte
	filled int // bytes of it
}

func newPcapng(s source, r io.Reader, size int) *pcapngDecoder {
	return &pcapngDecoder{source: s, r: r, size: max(size, 4<<10), order: binary.LittleEndian, free: make(chan *ngChunk, 4)}
}

// take returns a chunk to fill, which begins with what is not framed yet.
func (d *pcapngDecoder) take() *ngChunk {
	var c *ngChunk
	select {
	case c = <-d.free:
	default:
		c = &ngChunk{}
	}
	if rest := d.buf[d.start:d.end]; len(c.buf) < max(d.size, 2*len(rest)) {
		c.buf = make([]byte, max(d.size, 2*len(rest)))
	}
	d.end = copy(c.buf, d.buf[d.start:d.end])
	d.start, d.buf = 0, c.buf
	c.chunk = chunk{events: c.events[:0], ifaces: c.ifaces[:0], options: c.options[:0]}
	c.b = merge.Batch{Records: c.b.Records[:0]}
	c.release = func() {
		if len(c.buf) > 2*d.size && (c.filled < len(c.buf)/4 || len(c.buf) > mostKept) {
			c.buf = nil // a large block is rare
		}
		select {
		case d.free <- c:
		default:
		}
	}
	return c
}

// errMore means that a block is not all there.
var errMore = errors.New("more")

func (d *pcapngDecoder) next() (*chunk, error) {
	if d.err != nil && d.start == d.end {
		if err := d.err; err != io.EOF {
			d.err = io.EOF
			return &chunk{damage: &Damage{d.name, d.off, err.Error()}, release: func() {}}, nil
		}
		return nil, io.EOF
	}
	c := d.take()
	var err error
	for {
		if err = d.frame(c); err != errMore || len(c.b.Records) > 0 || len(c.events) > 0 && d.err == nil {
			break
		}
		if d.err != nil {
			break
		}
		d.fill(c)
	}
	if len(c.b.Records) > 0 {
		c.b.Data = c.buf
		c.batch = &c.b
	}
	if err == errMore && d.start == d.end && d.err == io.EOF {
		d.endSection()
	}
	c.notes, d.notes, c.filled = d.notes, nil, d.end
	switch {
	case err == errMore && (d.err == nil || len(c.b.Records) > 0 || len(c.events) > 0):
	case err == errMore && d.start == d.end && d.err == io.EOF:
		if len(c.notes) == 0 && d.odd == d.told {
			return nil, io.EOF
		}
	case err == errMore:
		reason := "its last block is cut short"
		if d.err != io.EOF {
			reason = d.err.Error()
		}
		c.damage = &Damage{d.name, d.off, reason}
	case err != nil:
		c.damage = &Damage{d.name, d.off, err.Error()}
	}
	if c.damage != nil {
		d.start, d.end, d.err = 0, 0, io.EOF
	}
	if d.odd != d.told {
		d.told = d.odd
		c.odd = snapshot(d.odd)
	}
	return &c.chunk, nil
}

// fill reads once, and makes room for that.
func (d *pcapngDecoder) fill(c *ngChunk) {
	if d.end == len(c.buf) {
		if d.start > 0 {
			d.end = copy(c.buf, c.buf[d.start:d.end])
			d.start = 0
		} else {
			larger := make([]byte, 2*len(c.buf))
			copy(larger, c.buf)
			c.buf, d.buf = larger, larger
		}
	}
	for range 100 {
		n, err := d.r.Read(c.buf[d.end:])
		d.end += n
		if err != nil {
			d.err = err
		}
		if n > 0 || err != nil {
			return
		}
	}
	d.err = io.ErrNoProgress
}

// frame takes the whole blocks that are there, up to one that cannot be in this chunk any more.
func (d *pcapngDecoder) frame(c *ngChunk) error {
	for {
		p := c.buf[d.start:d.end]
		if len(p) < 12 {
			return errMore
		}
		kind := d.order.Uint32(p)
		if kind == blockSection { // the same in either byte order; its own decides
			if err := d.setOrder(p); err != nil {
				return err
			}
		}
		claimed := d.order.Uint32(p[4:])
		n, limit := claimed+-claimed&3, d.maxLength()
		if claimed < 12 || claimed > limit {
			return fmt.Errorf("a block claims %d bytes", claimed)
		}
		if len(c.b.Records) > 0 && isEvent(kind) {
			return nil
		}
		if uint32(len(p)) < n {
			return errMore
		}
		if n != claimed {
			if err := d.unpadded(p, claimed); err != nil {
				return err
			}
		} else if d.order.Uint32(p[n-4:]) != n {
			return errors.New("a block's lengths differ")
		}
		if err := d.block(c, kind, p[8:n-4]); err != nil {
			return err
		}
		d.start += int(n)
		d.off += int64(n)
	}
}

// maxLength is how long a block may be. Those of ours may have grown.
func (d *pcapngDecoder) maxLength() uint32 {
	if d.source.report < 0 {
		return maxBlock + 1<<20
	}
	return maxBlock
}

// unpadded looks at a block that p begins with, whose length is not a multiple of 4, as it must be (section 3.1). Some
// programs pad such a block all the same: so it is, if another block follows, or nothing.
func (d *pcapngDecoder) unpadded(p []byte, claimed uint32) error {
	n := claimed + -claimed&3
	last, next := d.order.Uint32(p[n-4:]), p[n:]
	if len(next) < 8 && d.err == nil {
		return errMore
	}
	sound := last == claimed || last == n
	if len(next) >= 8 {
		size := d.order.Uint32(next[4:])
		sound = sound && (d.order.Uint32(next) == blockSection || size >= 12 && size <= d.maxLength())
	} else {
		sound = sound && len(next) == 0
	}
	if !sound {
		return fmt.Errorf("a block claims %d bytes", claimed)
	}
	d.notes.add("block", unpaddedBlock, 1)
	return nil
}

func isPacket(kind uint32) bool {
	return kind == blockPacket || kind == blockSimple || kind == blockOldPacket
}

func isEvent(kind uint32) bool {
	switch kind {
	case blockSection, blockInterface, blockNames, blockStatistics, blockSecrets:
		return true
	}
	return false
}

func (d *pcapngDecoder) setOrder(p []byte) error {
	switch {
	case binary.LittleEndian.Uint32(p[8:]) == 0x1a2b3c4d:
		d.order, d.swap = binary.LittleEndian, false
	case binary.BigEndian.Uint32(p[8:]) == 0x1a2b3c4d:
		d.order, d.swap = binary.BigEndian, true
	default:
		return errors.New("a section's byte order is not known")
	}
	return nil
}

// block takes one whole block.
func (d *pcapngDecoder) block(c *ngChunk, kind uint32, body []byte) error {
	if d.unknown && kind != blockSection {
		if isPacket(kind) {
			d.odd[merge.OddVersion]++
		}
		return nil
	}
	switch kind {
	case blockSection:
		if len(body) < 16 {
			d.odd[merge.OddBlock]++
			body = make([]byte, 16)
			d.order.PutUint16(body[4:], 1)
		}
		d.unknown = d.order.Uint16(body[4:]) != 1
		d.section = d.section[:0]
		d.beginSection(c, body[16:])
	case blockInterface:
		return d.describe(c, body)
	case blockPacket, blockOldPacket, blockSimple:
		d.packet(c, kind, body)
	case blockStatistics:
		d.statistics(c, body)
	case blockNames:
		c.events = append(c.events, event{kind: kind, off: d.off, body: d.names(body)})
	case blockSecrets:
		if len(body) < 8 || uint64(d.order.Uint32(body[4:])) > uint64(len(body)-8) {
			d.odd[merge.OddBlock]++
			return nil
		}
		secret := int(d.order.Uint32(body[4:]))
		to := binary.LittleEndian.AppendUint32(nil, d.order.Uint32(body))
		to = binary.LittleEndian.AppendUint32(to, uint32(secret))
		to = append(to, body[8:8+secret]...)
		to = append(to, make([]byte, -secret&3)...)
		if end := 8 + secret + -secret&3; end < len(body) {
			to = ended(append(to, d.optionsOf(body[end:], kind)...), len(to))
		}
		c.events = append(c.events, event{kind: kind, off: d.off, body: to})
	case blockCustom:
		d.custom(c, body)
	case blockJournal:
		d.journal(c, body)
	case blockCustomNoCopy:
		d.notes.add("custom block", leftOutNoCopy, 1)
	default:
		d.other(kind)
	}
	return nil
}

// ended ends options with the one that does, if there are any behind at.
func ended(body []byte, at int) []byte {
	if len(body) == at {
		return body
	}
	return append(body, 0, 0, 0, 0)
}

func (d *pcapngDecoder) describe(c *ngChunk, body []byte) error {
	if len(d.section) == maxInterfaces || d.count == maxInterfaces {
		return fmt.Errorf("it has more than %d interfaces", maxInterfaces)
	}
	if len(body) < 8 {
		d.odd[merge.OddBlock]++
		d.section = append(d.section, ngInterface{number: absent}) // others keep their numbers
		return nil
	}
	in := ngInterface{number: int32(d.count), link: merge.LinkType(d.order.Uint16(body)), unit: 1000, snaplen: d.order.Uint32(body[4:])}
	in.micro = true
	named := false
	var kept []byte
	d.eachOption(body[8:], func(code uint16, value []byte) {
		switch {
		case code == optionResolution && len(value) == 1:
			in.unit, in.perSec, in.micro = resolution(value[0])
			if in.unit < 0 {
				d.odd[merge.OddResolution]++
			}
		case code == optionOffset && len(value) == 8:
			in.offset = int64(d.order.Uint64(value))
		case code == optionResolution || code == optionOffset:
			d.odd[merge.OddOption]++
		default:
			named = named || code == optionName
			kept = d.appendOption(kept, blockInterface, code, value)
		}
	})
	if !named {
		kept = merge.AppendText(kept, optionName, d.name)
	}
	kept = d.appendComments(kept)
	d.count++
	d.section = append(d.section, in)
	c.events = append(c.events, event{kind: blockInterface, off: d.off, iface: iface{
		Interface: merge.Interface{LinkType: in.link, Snaplen: in.snaplen, Nano: !in.micro, Offset: in.base()},
		options:   kept, input: d.name,
	}})
	return nil
}

// noInterface is that of a record that is no packet.
const noInterface = -1

// assign says of which interface the chunk's next packet is.
func (d *pcapngDecoder) assign(c *ngChunk, number int) {
	n := len(c.b.Records)
	switch {
	case n == 0, len(c.ifaces) == 0 && c.iface == noInterface:
		c.iface = number
		return
	case len(c.ifaces) == 0 && (c.iface == number || number == noInterface):
		return
	case len(c.ifaces) == 0:
		for range n {
			c.ifaces = append(c.ifaces, c.iface)
		}
	}
	c.ifaces = append(c.ifaces, number)
}

// statistics takes a statistics block; its times become nanoseconds or microseconds, as the output has them.
func (d *pcapngDecoder) statistics(c *ngChunk, body []byte) {
	if len(body) < 12 || uint64(d.order.Uint32(body)) >= uint64(len(d.section)) || d.section[d.order.Uint32(body)].number == absent {
		d.odd[merge.OddBlock]++
		return
	}
	in := &d.section[d.order.Uint32(body)]
	unit := uint64(1)
	if in.micro {
		unit = 1000
	}
	stamp := func(p []byte) []byte {
		ns, _ := in.time(uint64(d.order.Uint32(p))<<32 | uint64(d.order.Uint32(p[4:])))
		t := uint64(ns-in.base()*1e9) / unit
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(t>>32)), uint32(t))
	}
	to := stamp(body[4:])
	at := len(to)
	d.eachOption(body[12:], func(code uint16, value []byte) {
		if (code == 2 || code == 3) && len(value) == 8 { // isb_starttime, isb_endtime
			to = appendOption(to, code, stamp(value))
			return
		}
		to = d.appendOption(to, blockStatistics, code, value)
	})
	t, _ := in.time(uint64(d.order.Uint32(body[4:]))<<32 | uint64(d.order.Uint32(body[8:])))
	c.events = append(c.events, event{kind: blockStatistics, off: d.off, time: t, from: int(in.number), body: ended(to, at)})
}
