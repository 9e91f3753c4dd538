package files

import (
	"encoding/binary"
	"errors"
	"io"
	"runtime"

	"github.com/sshpcap/sshpcap/merge"
)

// sink writes packets and what describes them in one of the formats.
type sink struct {
	cfg    *Config
	format Format
	pcap   *merge.Pcap // one of the two is set once the first packet may be written
	pcapng *merge.Pcapng

	header merge.Header // of a pcap file
	ifaces []iface      // by number in the output
	nano   []bool       // of these; of a pcap file: one
	shared []event      // names and secrets, which every file of a rotated output has
	early  [][]byte     // statistics that came before the file was begun
	held   int          // bytes of these, about
	order  order
	dedup  *dedup

	file     *outFile  // which the file's bytes go through; nil: a stream
	rotation *rotation // nil: one file
	buf      []byte
	packets  int64 // in this file
	total    int64
}

// begin writes what stands at the beginning of a file.
func (s *sink) begin(to io.Writer) error {
	s.packets = 0
	s.file, _ = to.(*outFile)
	if s.format == Pcap {
		s.header.Snaplen = merge.MaxRecord
		s.pcap = merge.NewPcap(to, s.header)
		s.nano = []bool{s.header.Nano}
		return nil
	}
	s.pcapng = merge.NewPcapng(to, merge.Section{OS: runtime.GOOS + " " + runtime.GOARCH, Application: s.cfg.Application, Comment: s.cfg.Comment})
	s.nano = nil
	for _, i := range s.ifaces {
		if err := s.add(i); err != nil {
			return err
		}
	}
	for _, e := range s.shared {
		if err := s.pcapng.WriteBlock(e.kind, e.body); err != nil {
			return err
		}
	}
	for _, body := range s.early {
		if err := s.pcapng.WriteBlock(blockStatistics, body); err != nil {
			return err
		}
	}
	s.early = nil
	return nil
}

func (s *sink) begun() bool { return s.pcap != nil || s.pcapng != nil }

func (s *sink) add(i iface) error {
	s.nano = append(s.nano, i.Nano)
	_, err := s.pcapng.AddRawInterface(i.Interface, i.options)
	return err
}

// describe adds an interface and returns its number.
func (s *sink) describe(i iface) (int, error) {
	if s.format == Pcap {
		if len(s.ifaces) > 0 && s.header.LinkType != i.LinkType {
			return 0, s.linkTypes(i)
		}
		s.header.LinkType = i.LinkType
		s.header.Nano = s.header.Nano || i.Nano && !s.begun()
	}
	s.ifaces = append(s.ifaces, i)
	if s.pcapng != nil {
		if err := s.add(i); err != nil {
			return 0, err
		}
	}
	return len(s.ifaces) - 1, nil
}

func (s *sink) linkTypes(last iface) error {
	e := &LinkTypeError{Types: make(map[string][]string)}
	for _, i := range append(s.ifaces, last) {
		t := i.LinkType.String()
		if names := e.Types[t]; len(names) == 0 || names[len(names)-1] != i.input {
			e.Types[t] = append(names, i.input)
		}
	}
	return e
}

// maxHeld bounds what is held of blocks that are no packets: interfaces, and names and secrets that every file of a
// rotated output has. A few kilobytes of a compressed input can be any number of them.
var maxHeld = 256 << 20 // only a test sets it

// errTooMuch means that an input describes more than can be held.
var errTooMuch = errors.New("there are too many interfaces, names or secrets")

// hold takes note of a block that is held.
func (s *sink) hold(n int) error {
	const around = 200 // about what stands around it in memory
	if s.held += n + around; s.held > maxHeld {
		return errTooMuch
	}
	return nil
}

// event takes a block that is no packet. Interfaces by the input's count are numbered in the output.
func (s *sink) event(in *input, e *event) error {
	if e.kind == blockInterface || s.format != Pcap && (s.rotation != nil || s.pcapng == nil) {
		if err := s.hold(len(e.body) + len(e.iface.options)); err != nil {
			return err
		}
	}
	switch {
	case e.kind == blockInterface:
		n, err := s.describe(e.iface)
		in.numbers = append(in.numbers, n)
		return err
	case s.format == Pcap:
		return nil
	case e.kind == blockStatistics:
		body := append(binary.LittleEndian.AppendUint32(nil, uint32(in.numbers[e.from])), e.body...)
		if s.pcapng == nil {
			s.early = append(s.early, body)
			return nil
		}
		return s.pcapng.WriteBlock(e.kind, body)
	}
	if s.rotation != nil || s.pcapng == nil {
		s.shared = append(s.shared, *e)
	}
	if s.pcapng == nil {
		return nil
	}
	return s.pcapng.WriteBlock(e.kind, e.body)
}

// note remembers how far time has come at this place in the file.
func (s *sink) note() {
	if s.rotation == nil {
		s.order.places.Note(s.size(), s.order.newest)
	}
}

// isFree says whether packets go to the file as they are, whatever others there are.
func (s *sink) isFree() bool { return s.rotation == nil && s.dedup == nil }

// take writes a round.
func (s *sink) take(r *round) error {
	s.note()
	if len(r.framed) == 0 {
		return r.merge(s.write)
	}
	s.order.newest = max(s.order.newest, r.newest)
	return s.written(r.framed, r.packets)
}

// written writes packets that append framed.
func (s *sink) written(framed []byte, packets int) (err error) {
	if s.pcap != nil {
		err = s.pcap.WriteFramed(framed, packets)
	} else {
		err = s.pcapng.WriteFramed(framed, packets)
	}
	s.packets += int64(packets)
	s.total += int64(packets)
	return err
}

// sizes sets how many bytes each of a part's packets takes.
func (s *sink) sizes(sizes []uint32, of *part) {
	sizes = sizes[:len(of.records)]
	for i := range sizes {
		sizes[i] = uint32(s.packetSize(of.records[i].CapLen, 0))
	}
	for _, o := range of.options {
		if i := o.record - of.from; i < len(sizes) {
			sizes[i] = uint32(s.packetSize(of.records[i].CapLen, len(o.bytes)))
		}
	}
}

// put frames a part's packets, each in its place.
func (s *sink) put(room []byte, places []uint32, of *part) {
	c := of.chunk
	switch {
	case s.pcap != nil:
		s.pcap.PutRun(room, places, c.batch, of.records)
	case len(c.ifaces) == 0 && len(of.options) == 0:
		s.pcapng.PutRun(room, places, of.in.numbers[c.iface], c.batch, of.records)
	default:
		for i := range of.records {
			s.appendOne(room[:places[i]], of, i, of.optionsOf(i)) // for which there is room
		}
	}
}

// append frames a run of packets: those from..to of a part.
func (s *sink) append(p []byte, of *part, from, to int) []byte {
	c := of.chunk
	switch {
	case s.pcap != nil:
		return s.pcap.AppendRun(p, c.batch, of.records[from:to])
	case len(c.ifaces) == 0 && len(c.options) == 0:
		return s.pcapng.AppendRun(p, of.in.numbers[c.iface], c.batch, of.records[from:to])
	}
	for ; from < to; from++ {
		p = s.appendOne(p, of, from, of.optionsOf(from))
	}
	return p
}

// appendOne frames a packet with the options that it is to have.
func (s *sink) appendOne(p []byte, of *part, record int, options []byte) []byte {
	number, rec := s.numberOf(of, record), of.records[record]
	if len(options) == 0 {
		return s.pcapng.AppendRun(p, number, of.chunk.batch, of.records[record:record+1])
	}
	return s.pcapng.AppendWithOptions(p, number, of.chunk.batch, rec, options)
}

// numberOf is the number of a packet's interface in the output.
func (s *sink) numberOf(of *part, record int) int {
	return of.in.numbers[of.chunk.ifaceOf(of.from+record)]
}

// write writes a run of packets, which are in order in themselves: those from..to of a part.
func (s *sink) write(of *part, from, to int) error {
	s.order.run(of.in, of.records[from:to])
	for from < to {
		n := to - from
		if s.rotation != nil {
			var err error
			if n, err = s.room(of, from, to); err != nil {
				return err
			}
		}
		s.buf = s.buf[:0]
		if s.dedup != nil {
			s.buf = s.appendMarked(s.buf, of, from, from+n)
		} else {
			s.buf = s.append(s.buf, of, from, from+n)
		}
		if err := s.written(s.buf, n); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// appendMarked frames a run of packets, of which those that another interface had before get a comment.
func (s *sink) appendMarked(p []byte, of *part, from, to int) []byte {
	for ; from < to; from++ {
		options := of.optionsOf(from)
		if text := s.dedup.seen(of.chunk.batch, of.records[from], s.numberOf(of, from), s.ifaces); text != "" {
			options = merge.AppendComment(options[:len(options):len(options)], text)
		}
		p = s.appendOne(p, of, from, options)
	}
	return p
}

func (c *chunk) ifaceOf(record int) int {
	if len(c.ifaces) == 0 {
		return c.iface
	}
	return c.ifaces[record]
}

// optionsOf returns a packet's options; packets are asked about in their order.
func (p *part) optionsOf(record int) []byte {
	if len(p.options) == 0 || p.options[0].record != p.from+record {
		return nil
	}
	options := p.options[0].bytes
	p.options = p.options[1:]
	return options
}

// room is how many of the packets this file takes; it begins another one if it takes none.
func (s *sink) room(of *part, from, to int) (int, error) {
	r, records, options := s.rotation, of.records[from:to], of.options
	cost := func(i int) int64 {
		n := int64(s.packetSize(records[i].CapLen, 0))
		if len(options) > 0 && options[0].record == of.from+from+i {
			n = int64(s.packetSize(records[i].CapLen, len(options[0].bytes)))
			options = options[1:]
		}
		return n
	}
	first := cost(0)
	if r.isFull(s, records[0].Time, first) {
		if err := r.next(s, records[0].Time); err != nil {
			return 0, err
		}
	}
	size, n := s.size()+first, 1
	for ; n < len(records); n++ {
		size += cost(n)
		if s.cfg.RotateSize > 0 && size > s.cfg.RotateSize || s.cfg.RotateInterval > 0 && records[n].Time-r.begin >= int64(s.cfg.RotateInterval) {
			break
		}
	}
	return n, nil
}

// packetSize is how many bytes a packet takes; pcap has no options.
func (s *sink) packetSize(captured uint32, options int) int {
	if s.format == Pcap {
		return merge.PcapSize(captured)
	}
	return merge.PcapngSize(captured, options)
}

// finish writes all that was taken.
func (s *sink) finish() (err error) {
	switch {
	case s.pcap != nil:
		err = s.pcap.Flush()
	case s.pcapng != nil:
		err = s.pcapng.Flush()
	}
	if s.file != nil && err == nil {
		err = s.file.finish()
	}
	return err
}

// size is how many bytes this file has.
func (s *sink) size() int64 {
	if s.pcap != nil {
		return s.pcap.Size()
	}
	return s.pcapng.Size()
}
