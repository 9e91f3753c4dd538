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

	behind   *behind   // writes this file
	rotation *rotation // nil: one file
	packets  int64     // in this file
	total    int64
}

// begin writes what stands at the beginning of a file.
func (s *sink) begin(to io.Writer) error {
	s.packets = 0
	s.behind = newBehind(to, writeSize)
	w := s.behind
	if s.format == Pcap {
		s.header.Snaplen = merge.MaxRecord
		s.pcap = merge.NewPcap(w, s.header)
		s.nano = []bool{s.header.Nano}
		return nil
	}
	s.pcapng = merge.NewPcapng(w, merge.Section{OS: runtime.GOOS + " " + runtime.GOARCH, Application: s.cfg.Application, Comment: s.cfg.Comment})
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

// isPlain tells whether the packets of a chunk need no more than to be written.
func (s *sink) isPlain(c *chunk) bool {
	return s.rotation == nil && s.dedup == nil && len(c.ifaces) == 0 && len(c.options) == 0
}

// write writes a run of packets of an input's chunk: those from..to of its batch, which are in order in themselves.
func (s *sink) write(in *input, from, to int) (err error) {
	c, n := in.chunk, to-from
	switch {
	case !in.plain:
		return s.writeApart(in, from, to)
	case s.pcap != nil:
		_, err = s.pcap.WriteRun(c.batch, in.records[from:to])
	default:
		_, err = s.pcapng.WriteRun(in.numbers[c.iface], c.batch, in.records[from:to])
	}
	s.packets += int64(n)
	s.total += int64(n)
	return err
}

// writeApart writes packets that may go to several files, be of several interfaces, and have options.
func (s *sink) writeApart(in *input, from, to int) error {
	c := in.chunk
	for from < to {
		n := to - from
		if s.rotation != nil {
			var err error
			if n, err = s.room(in, c, from, to); err != nil {
				return err
			}
		}
		var err error
		if s.pcap != nil {
			_, err = s.pcap.WriteRun(c.batch, c.batch.Records[from:from+n])
		} else {
			err = s.writeBlocks(in, c, from, from+n)
		}
		if err != nil {
			return err
		}
		s.packets += int64(n)
		s.total += int64(n)
		from += n
	}
	return nil
}

// writeBlocks writes packets as pcapng: as many at once as are of one interface and without options.
func (s *sink) writeBlocks(in *input, c *chunk, from, to int) error {
	if len(c.ifaces) == 0 && len(c.options) == 0 && s.dedup == nil {
		_, err := s.pcapng.WriteRun(in.numbers[c.iface], c.batch, c.batch.Records[from:to])
		return err
	}
	for from < to {
		number, options := c.ifaceOf(from), in.optionsOf(c, from)
		if s.dedup != nil {
			if text := s.dedup.seen(c.batch, c.batch.Records[from], in.numbers[number], s.ifaces); text != "" {
				options = merge.AppendComment(options[:len(options):len(options)], text)
			}
		}
		if len(options) > 0 {
			if _, err := s.pcapng.WriteWithOptions(in.numbers[number], c.batch, c.batch.Records[from], options); err != nil {
				return err
			}
			from++
			continue
		}
		n := 1
		for s.dedup == nil && from+n < to && c.ifaceOf(from+n) == number && !in.hasOptions(c, from+n) {
			n++
		}
		if _, err := s.pcapng.WriteRun(in.numbers[number], c.batch, c.batch.Records[from:from+n]); err != nil {
			return err
		}
		from += n
	}
	return nil
}

func (c *chunk) ifaceOf(record int) int {
	if len(c.ifaces) == 0 {
		return c.iface
	}
	return c.ifaces[record]
}

// hasOptions says whether a packet has options; packets are asked about in their order.
func (in *input) hasOptions(c *chunk, record int) bool {
	return in.option < len(c.options) && c.options[in.option].record == record
}

func (in *input) optionsOf(c *chunk, record int) []byte {
	if !in.hasOptions(c, record) {
		return nil
	}
	in.option++
	return c.options[in.option-1].bytes
}

// room is how many of the packets this file takes; it begins another one if it takes none.
func (s *sink) room(in *input, c *chunk, from, to int) (int, error) {
	r, records, options := s.rotation, c.batch.Records[from:to], c.options[in.option:]
	cost := func(i int) int64 {
		n := s.cost(records[i])
		if len(options) > 0 && options[0].record == from+i {
			n += int64(len(options[0].bytes)) + 4
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

// cost is how many bytes a packet takes, without options.
func (s *sink) cost(r merge.Record) int64 {
	if s.format == Pcap {
		return 16 + int64(r.CapLen)
	}
	return 32 + (int64(r.CapLen)+3)&^3
}

// finish writes all that was taken.
func (s *sink) finish() (err error) {
	if s.behind == nil {
		return nil
	}
	if s.pcap != nil {
		err = s.pcap.Flush()
	} else {
		err = s.pcapng.Flush()
	}
	if failed := s.behind.close(); err == nil {
		err = failed
	}
	s.behind = nil
	return err
}

// size is how many bytes this file has.
func (s *sink) size() int64 {
	if s.pcap != nil {
		return s.pcap.Size()
	}
	return s.pcapng.Size()
}
