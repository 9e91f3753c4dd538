package merge

import (
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Section describes a pcapng section, which here is a file. Empty texts are left out.
type Section struct {
	Hardware    string // of the machine that writes the file
	OS          string // of that machine
	Application string // that writes the file
	Comment     string
}

// Interface describes an interface of a pcapng file. Empty texts are left out.
type Interface struct {
	Name        string // as the user is to see it: "web1:eth0"
	Description string
	Filter      string // in the syntax of pcap-filter(7)
	OS          string // of the machine with the interface
	Comment     string
	LinkType    LinkType
	Snaplen     uint32 // 0, and from 65535 on: whole packets, which is written as MaxRecord
	Nano        bool   // timestamps are written in nanoseconds; else in microseconds
	Offset      int64  // s, which they begin from: if_tsoffset; not after 1970, and 0 unless they are to be before
}

// Name is what an address is called.
type Name struct {
	Addr  netip.Addr
	Names []string
}

// Statistics are what is known of an interface at a time. What is nil or zero is left out.
type Statistics struct {
	Time           time.Time // of the statistics
	Start, End     time.Time // of the capture
	Received       *uint64   // packets that the interface saw
	Dropped        *uint64   // by the interface, for want of resources
	FilterAccepted *uint64
	OSDropped      *uint64 // by the operating system
	Delivered      *uint64 // to the user
}

// Pcapng writes a pcapng file of draft-ietf-opsawg-pcapng: one section, little-endian. It holds 260 KiB and writes when
// that is full or on Flush; a write to w always ends with a whole block. After an error of w every call returns that
// error. It is not safe for concurrent use.
type Pcapng struct {
	out        output
	interfaces []bool        // whether each is in nanoseconds
	offsets    map[int]int64 // ns, of those that have one
}

// NewPcapng returns a Pcapng that writes to w. Nothing is written before the first flush.
func NewPcapng(w io.Writer, s Section) *Pcapng {
	p := &Pcapng{out: newOutput(w, pcapngUnit)}
	_ = p.put(sectionBlock(s)) // fits the buffer, so that nothing is written
	return p
}

func pcapngUnit(b []byte) (n, captured int) {
	if le.Uint32(b) != blockPacket {
		return int(le.Uint32(b[4:])), -1
	}
	return int(le.Uint32(b[4:])), int(le.Uint32(b[20:]))
}

func (p *Pcapng) put(b block) error {
	return p.out.put(b.end(), 0)
}

// AddInterface adds an interface, at any time, and returns its number.
func (p *Pcapng) AddInterface(i Interface) (int, error) {
	if err := p.put(interfaceBlock(i)); err != nil {
		return 0, err
	}
	p.interfaces = append(p.interfaces, i.Nano)
	p.SetOffset(len(p.interfaces)-1, i.Offset)
	return len(p.interfaces) - 1, nil
}

// SetOffset says what the timestamps of an interface that was added begin from: what its block says.
func (p *Pcapng) SetOffset(iface int, seconds int64) {
	if seconds == 0 {
		return
	}
	if p.offsets == nil {
		p.offsets = make(map[int]int64)
	}
	p.offsets[iface] = seconds * int64(time.Second)
}

// ticks is a time as it is written. What is before an interface's beginning becomes that.
func (p *Pcapng) ticks(iface int, t int64) uint64 {
	ticks := uint64(max(t, 0))
	if len(p.offsets) > 0 {
		offset := p.offsets[iface]
		ticks = uint64(max(t, offset)) - uint64(offset) // which int64 may not have room for
	}
	if !p.interfaces[iface] {
		ticks /= 1000
	}
	return ticks
}

// WriteNames writes what addresses are called, so that readers can show names without asking anyone. Names of
// addresses that are not valid are left out.
func (p *Pcapng) WriteNames(names []Name) error {
	for len(names) > 0 {
		b := newBlock(blockNames)
		for len(names) > 0 && len(b) < maxNames {
			b = b.name(names[0])
			names = names[1:]
		}
		if err := p.put(b.option(nameRecordEnd, nil)); err != nil {
			return err
		}
	}
	return nil
}

// WriteStatistics writes what is known of an interface.
func (p *Pcapng) WriteStatistics(iface int, s Statistics) error {
	if err := p.check(iface); err != nil {
		return err
	}
	return p.put(statisticsBlock(iface, s, p.interfaces[iface]))
}

func (p *Pcapng) check(iface int) error {
	if iface < 0 || iface >= len(p.interfaces) {
		return fmt.Errorf("merge: interface %d was not added", iface)
	}
	return p.out.err
}

// WriteRun writes records of b as packets of an interface. Times before 1970, or before the
// interface's Offset, become that. It returns how many records
// were taken or, with an error, how many of these reached w whole; see Lost for those of earlier runs.
func (p *Pcapng) WriteRun(iface int, b *Batch, recs []Record) (int, error) {
	if err := p.check(iface); err != nil {
		return 0, err
	}
	p.write(iface, b, recs)
	return p.out.endRun(len(recs))
}

func (p *Pcapng) write(iface int, b *Batch, recs []Record) {
	for i := range recs {
		size := packetSize(recs[i].CapLen)
		room := p.out.room(size)
		if room == nil {
			if room, _ = p.out.next(size); room == nil {
				return // endRun knows the error
			}
			p.out.pending++
		} else {
			p.out.took(size, 1)
		}
		p.putPacket(room, iface, b, &recs[i])
	}
}

// putPacket puts a packet's block into room, which it fills but for options.
func (p *Pcapng) putPacket(room []byte, iface int, b *Batch, r *Record) {
	putPacket(room, iface, r, p.ticks(iface, r.Time))
	copy(room[packetHead:], b.Data[r.Off:r.Off+r.CapLen])
}

// WriteCommented writes one record of b as WriteRun does, with a comment. Each call allocates: it is for the rare packet.
func (p *Pcapng) WriteCommented(iface int, b *Batch, r Record, comment string) (int, error) {
	if err := p.check(iface); err != nil {
		return 0, err
	}
	ticks := p.ticks(iface, r.Time)
	_ = p.out.put(packetBlock(iface, r, ticks, b.Packet(r), comment).end(), 1) // endRun knows the error
	return p.out.endRun(1)
}

// CommentedSize is how many bytes WriteCommented takes for a record.
func CommentedSize(captured uint32, comment string) int {
	return len(packetBlock(0, Record{CapLen: captured}, 0, make([]byte, captured), comment)) + 4
}

// Flush writes what was taken.
func (p *Pcapng) Flush() error { return p.out.flush() }

// Size returns the bytes taken so far, those not yet written included.
func (p *Pcapng) Size() int64 { return p.out.size }

// Flushed returns the length of what is in w up to the end of its last whole block. After an error a file cut to it is
// valid, unless it is 0.
func (p *Pcapng) Flushed() int64 { return p.out.flushed }

// Lost returns how many records, for which WriteRun returned no error, did not reach w before it failed.
func (p *Pcapng) Lost() int64 { return p.out.lost() }

// Missed returns the captured lengths of these, in the order in which they were taken.
func (p *Pcapng) Missed() []uint32 { return p.out.missed() }

// Whole returns how many records are in w.
func (p *Pcapng) Whole() int64 { return p.out.whole }
