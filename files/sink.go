package files

import (
	"cmp"
	"encoding/binary"
	"io"
	"runtime"
	"slices"

	"github.com/sshpcap/sshpcap/merge"
)

// sink writes packets and what describes them in one of the formats.
type sink struct {
	cfg    *Config
	format Format
	to     io.Writer   // of its one file; nil: rotation makes its files
	pcap   *merge.Pcap // one of the two is set once the first packet may be written
	pcapng *merge.Pcapng

	header merge.Header                // of a pcap file
	types  map[merge.LinkType][]string // link types of what goes into a pcap file, and the inputs that have them
	links  []merge.LinkType            // of the interfaces, by number in the output
	nano   []bool                      // of these; of a pcap file: one
	offset map[int]int64               // s, which times of one of these begin from, if not from 1970

	section       []byte // options of the only input's section
	snaplen       uint32 // of the first interface, as it is written
	otherSnaplens bool   // another one differs from it
	otherLinks    bool   // or in its link type

	interfaces blocks // for all files to come
	shared     blocks // names and secrets, which every file of a rotated output has
	early      blocks // others that came before the first file was begun
	budget     *budget
	order      order
	dedup      *dedup

	file     finisher  // which the file's bytes go through; nil: a stream
	rotation *rotation // nil: one file
	buf      []byte
	packets  int64 // in this file
	total    int64
}

// begin writes what stands at the beginning of a file.
func (s *sink) begin(to io.Writer) error {
	s.packets = 0
	s.file, _ = to.(finisher)
	if s.format == Pcap {
		s.header.Snaplen = merge.MaxRecord
		s.pcap = merge.NewPcap(to, s.header)
		s.nano = []bool{s.header.Nano}
		return nil
	}
	section := merge.Section{Application: s.cfg.Application, Comment: s.cfg.Comment}
	if len(s.section) == 0 {
		section.OS = runtime.GOOS + " " + runtime.GOARCH
	}
	s.pcapng = merge.NewRawPcapng(to, section, s.section)
	if err := s.interfaces.writeTo(s.pcapng); err != nil {
		return err
	}
	if err := s.pcapng.AddInterfaces(nil, s.nano...); err != nil {
		return err
	}
	for number, seconds := range s.offset {
		s.pcapng.SetOffset(number, seconds)
	}
	for _, b := range []*blocks{&s.shared, &s.early} {
		if err := b.writeTo(s.pcapng); err != nil {
			return err
		}
	}
	s.early = blocks{}
	if s.rotation == nil {
		s.interfaces, s.shared = blocks{}, blocks{}
	}
	return nil
}

func (s *sink) begun() bool { return s.pcap != nil || s.pcapng != nil }

// maxEarly is how many bytes of blocks that are no packets are kept until there is a packet of every input. With more the file
// begins earlier.
const maxEarly = 1 << 20

// beginEarly begins the file, if there is too much to wait any longer.
func (s *sink) beginEarly(time int64) error {
	switch {
	case s.format == Pcap, s.begun():
		return nil
	case s.rotation == nil && s.interfaces.size+s.shared.size+s.early.size > maxEarly:
		return s.begin(s.to)
	case s.rotation != nil && s.early.size > maxEarly:
		return s.rotation.next(s, time)
	}
	return nil
}

// describe takes an interface of an input, which gets its number in the output.
func (s *sink) describe(in *input, i *iface) error {
	size := aroundInterface
	if s.cfg.rotates() && s.format != Pcap {
		size += merge.InterfaceSize(len(i.options))
	}
	if i.Offset != 0 {
		size += aroundOffset
	}
	if !s.hold(in, size) {
		return errTooMuch
	}
	in.numbers = append(in.numbers, int32(len(s.nano)))
	if s.format == Pcap {
		return s.describePcap(in, i)
	}
	in.wide = i.wide
	s.compare(i)
	s.links = append(s.links, i.LinkType)
	s.nano = append(s.nano, i.Nano)
	s.setOffset(i.Offset)
	if s.pcapng != nil && s.rotation == nil {
		s.buf = merge.AppendInterface(s.buf[:0], i.Interface, i.options)
		return s.pcapng.AddInterfaces(s.buf, i.Nano)
	}
	piece := s.interfaces.room(merge.InterfaceSize(len(i.options)))
	at := len(piece)
	piece = merge.AppendInterface(piece, i.Interface, i.options)
	s.interfaces.put(piece)
	if s.pcapng != nil {
		return s.pcapng.AddInterfaces(piece[at:], i.Nano)
	}
	return nil
}

// compare looks whether interfaces differ in what tcpdump wants to be the same.
func (s *sink) compare(i *iface) {
	snaplen := merge.Snaplen(i.Snaplen)
	if len(s.links) == 0 {
		s.snaplen = snaplen
		return
	}
	s.otherSnaplens = s.otherSnaplens || snaplen != s.snaplen
	s.otherLinks = s.otherLinks || i.LinkType != s.links[0]
}

// setOffset notes what the times of the newest interface begin from.
func (s *sink) setOffset(seconds int64) {
	if seconds == 0 {
		return
	}
	if s.offset == nil {
		s.offset = make(map[int]int64)
	}
	s.offset[len(s.nano)-1] = seconds
	if s.pcapng != nil {
		s.pcapng.SetOffset(len(s.nano)-1, seconds)
	}
}

// describePcap looks whether all inputs have the same link type.
func (s *sink) describePcap(in *input, i *iface) error {
	if !slices.Contains(in.links, i.LinkType) {
		if s.types == nil {
			s.types = make(map[merge.LinkType][]string)
		}
		in.links = append(in.links, i.LinkType)
		s.types[i.LinkType] = append(s.types[i.LinkType], i.input)
	}
	if len(s.types) > 1 {
		e := &LinkTypeError{Types: make(map[string][]string)}
		for link, inputs := range s.types {
			e.Types[link.String()] = inputs
		}
		return e
	}
	s.header.LinkType = i.LinkType
	s.header.Nano = s.header.Nano || i.Nano && !s.begun()
	return nil
}

// event takes a block that is no packet. Interfaces by the input's count are numbered in the output.
func (s *sink) event(in *input, e *event) error {
	var err error
	switch {
	case e.kind == blockInterface:
		err = s.describe(in, &e.iface)
	case s.format == Pcap:
	case e.kind == blockSection && s.hold(in, len(e.body)):
		s.section = e.body
	case e.kind == blockSection:
		in.notes.add("section comment", "left out: too long", 1)
	case e.kind == blockCustom, e.kind == blockJournal:
		err = s.place(e.kind, e.body)
	case e.kind == blockStatistics:
		err = s.place(e.kind, append(binary.LittleEndian.AppendUint32(nil, uint32(in.numbers[e.from])), e.body...))
	default:
		err = s.share(in, e)
	}
	return cmp.Or(err, s.beginEarly(e.time))
}

// place writes a block where it stands, in this file only.
func (s *sink) place(kind uint32, body []byte) error {
	size := merge.BlockSize(len(body))
	if s.pcapng == nil {
		s.early.put(merge.AppendBlock(s.early.room(size), kind, body))
		return nil
	}
	if r := s.rotation; r != nil && s.packets > 0 && s.cfg.RotateSize > 0 && s.size()+int64(size) > s.cfg.RotateSize {
		if err := r.next(s, s.order.newest); err != nil {
			return err
		}
	}
	s.buf = merge.AppendBlock(s.buf[:0], kind, body)
	return s.pcapng.WriteBlocks(s.buf)
}

// share writes names or secrets, which are for all files.
func (s *sink) share(in *input, e *event) error {
	size := merge.BlockSize(len(e.body))
	if s.cfg.rotates() && !s.hold(in, size) {
		in.notes.add("block", "left out: there are more names and secrets than every file can have", 1)
		return nil
	}
	if s.pcapng == nil || s.rotation != nil {
		s.shared.put(merge.AppendBlock(s.shared.room(size), e.kind, e.body))
	}
	if s.pcapng == nil {
		return nil
	}
	s.buf = merge.AppendBlock(s.buf[:0], e.kind, e.body)
	return s.pcapng.WriteBlocks(s.buf)
}

// note remembers how far time has come at this place in the file.
func (s *sink) note() {
	if s.rotation == nil {
		s.order.places.Note(s.size(), s.order.newest)
	}
}

// isFree reports whether packets go to the file as they are, whatever others there are.
func (s *sink) isFree() bool { return s.rotation == nil && s.dedup == nil }

// take writes a round.
func (s *sink) take(r *round) error {
	s.note()
	if len(r.framed) == 0 {
		return r.merge(s.write)
	}
	s.order.newest = max(s.order.newest, r.newest)
	return s.written(r.framed, r.packets-r.blocks)
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
			sizes[i] = uint32(s.sizeWith(of.records[i].CapLen, &o))
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
		s.pcapng.PutRun(room, places, int(of.in.numbers[c.iface]), c.batch, of.records)
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
		return s.pcapng.AppendRun(p, int(of.in.numbers[c.iface]), c.batch, of.records[from:to])
	}
	for ; from < to; from++ {
		p = s.appendOne(p, of, from, of.optionsOf(from))
	}
	return p
}

// appendOne frames a packet with the options that it is to have.
func (s *sink) appendOne(p []byte, of *part, record int, options packetOptions) []byte {
	if options.kind != 0 {
		return merge.AppendBlock(p, options.kind, options.bytes)
	}
	number, rec := s.numberOf(of, record), of.records[record]
	if len(options.bytes) == 0 {
		return s.pcapng.AppendRun(p, number, of.chunk.batch, of.records[record:record+1])
	}
	return s.pcapng.AppendWithOptions(p, number, of.chunk.batch, rec, options.bytes)
}

// numberOf is the number of a packet's interface in the output.
func (s *sink) numberOf(of *part, record int) int {
	return int(of.in.numbers[of.chunk.ifaceOf(of.from+record)])
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
		blocks := of.blocks(from, n)
		s.buf = s.buf[:0]
		if s.dedup != nil {
			s.buf = s.appendMarked(s.buf, of, from, from+n)
		} else {
			s.buf = s.append(s.buf, of, from, from+n)
		}
		if err := s.written(s.buf, n-blocks); err != nil {
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
		if options.kind != 0 {
			p = s.appendOne(p, of, from, options)
			continue
		}
		if text := s.dedup.seen(of.chunk.batch, of.records[from], s.numberOf(of, from), s.links); text != "" {
			options.bytes = merge.AppendComment(slices.Clip(options.bytes), text)
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
func (p *part) optionsOf(record int) packetOptions {
	if len(p.options) == 0 || p.options[0].record != p.from+record {
		return packetOptions{}
	}
	options := p.options[0]
	p.options = p.options[1:]
	return options
}

// blocks is how many of the n records from one on are no packets. Those before it were asked about.
func (p *part) blocks(from, n int) (blocks int) {
	for _, o := range p.options {
		if o.record >= p.from+from+n {
			break
		}
		if o.kind != 0 {
			blocks++
		}
	}
	return blocks
}

// room is how many of the packets this file takes; it begins another one if it takes none.
func (s *sink) room(of *part, from, to int) (int, error) {
	r, records, options := s.rotation, of.records[from:to], of.options
	cost := func(i int) int64 {
		n := int64(s.packetSize(records[i].CapLen, 0))
		if len(options) > 0 && options[0].record == of.from+from+i {
			n = int64(s.sizeWith(records[i].CapLen, &options[0]))
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

// sizeWith is how many bytes a packet takes with its options, or the block that stands in its place.
func (s *sink) sizeWith(captured uint32, options *packetOptions) int {
	if options.kind != 0 {
		return merge.BlockSize(len(options.bytes))
	}
	return s.packetSize(captured, len(options.bytes))
}

// packetSize is how many bytes a packet takes; pcap has no options.
func (s *sink) packetSize(captured uint32, options int) int {
	if s.format == Pcap {
		return merge.PcapSize(captured)
	}
	return merge.PcapngSize(captured, options)
}

// finish writes all that was taken, and the file's end.
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
	if z, ok := s.file.(*compressed); ok && err != nil {
		z.drop()
	}
	return err
}

// end ends the output, whole or not.
func (s *sink) end(err error) error {
	if z, ok := s.file.(*compressed); ok && err != nil {
		z.drop()
		return err
	}
	return cmp.Or(err, s.finish())
}

// onDisk is how many bytes this file has, when it is finished.
func (s *sink) onDisk() int64 {
	if z, ok := s.file.(*compressed); ok {
		return z.size
	}
	return s.size()
}

// size is how many bytes this file has, before they are compressed.
func (s *sink) size() int64 {
	if s.pcap != nil {
		return s.pcap.Size()
	}
	return s.pcapng.Size()
}
