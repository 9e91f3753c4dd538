package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Link types, as tcpdump and pcap name them.
const (
	ethernet    = 1
	cooked      = 113
	cookedBytes = 16 // of its header
)

// capture is a packet socket with a ring.
type capture struct {
	fd       int
	index    int // of the interface; 0 is any
	linkType uint32
	snaplen  int
	loopback int     // index of lo, where each packet comes twice
	vm       *bpf.VM // of cooked packets, whose header the kernel's filter does not see; nil: all packets
	ring     []byte
	slots    int
	next     int  // slot to be filled
	patient  bool // looks at the interrupt only when a packet has come
}

// listen opens the socket. Nothing comes before it is started.
func listen(o config) (*capture, error) {
	c := &capture{linkType: ethernet, snaplen: o.snaplen, slots: o.slots}
	if lo, err := net.InterfaceByName("lo"); err == nil {
		c.loopback = lo.Index
	}
	kind := unix.SOCK_RAW
	if o.iface == "any" {
		kind, c.linkType = unix.SOCK_DGRAM, cooked
	}
	// Without a protocol nothing comes before the socket is bound to its interface.
	fd, err := unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if o.iface != "any" {
		i, err := net.InterfaceByName(o.iface)
		if err != nil {
			return nil, unix.ENODEV
		}
		if i.Flags&net.FlagUp == 0 {
			return nil, unix.ENETDOWN
		}
		c.index = i.Index
	}
	c.fd = fd
	return c, nil
}

// The ring's header of a packet, struct tpacket2_hdr, and what follows it, struct sockaddr_ll.
const (
	slotBytes   = 128 << 10 // holds any packet
	headerBytes = 32
)

// start makes the ring and has packets come. What comes while all slots are full is lost, and counted nowhere.
func (c *capture) start() error {
	if err := unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return err
	}
	request := unix.TpacketReq{Block_size: slotBytes, Block_nr: uint32(c.slots), Frame_size: slotBytes, Frame_nr: uint32(c.slots)}
	if err := unix.SetsockoptTpacketReq(c.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		return err
	}
	var err error
	if c.ring, err = unix.Mmap(c.fd, 0, c.slots*slotBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: c.index})
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// explain gives an error libpcap's words.
func explain(iface string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: You don't have permission to perform this capture on that device (socket: Operation not permitted)", iface)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%s: No such device exists (No such device exists)", iface)
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("%s: That device is not up", iface)
	}
	return fmt.Errorf("%s: %w", iface, err)
}

// tick is how long a wait for packets lasts before the interrupt is looked at.
const tick = 20 * time.Millisecond

// run writes the header and then packets until an interrupt.
func (c *capture) run(w io.Writer, interrupt <-chan os.Signal) error {
	h := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	h = append(h, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	h = binary.LittleEndian.AppendUint32(h, uint32(c.snaplen))
	h = binary.LittleEndian.AppendUint32(h, c.linkType)
	if _, err := w.Write(h); err != nil {
		return err
	}
	for asked := false; ; {
		wrote, err := c.drain(w)
		if err != nil {
			return err
		}
		if asked && (wrote || !c.patient) {
			return nil
		}
		select {
		case <-interrupt:
			asked = true
			continue // to what is there already
		default:
		}
		poll := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, int(tick/time.Millisecond)); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// drain writes the packets that are there and pass the filter, and tells whether there were any. Where more and more
// come, it leaves some, for the interrupt to be seen.
func (c *capture) drain(w io.Writer) (wrote bool, err error) {
	for range 4096 {
		slot := c.ring[c.next*slotBytes:][:slotBytes]
		status := (*uint32)(unsafe.Pointer(&slot[0]))
		if atomic.LoadUint32(status)&unix.TP_STATUS_USER == 0 {
			return wrote, nil
		}
		was, err := c.deliver(w, slot)
		wrote = wrote || was
		atomic.StoreUint32(status, unix.TP_STATUS_KERNEL)
		c.next = (c.next + 1) % c.slots
		if err != nil {
			return wrote, err
		}
	}
	return wrote, nil
}

// deliver writes the packet of a slot, if it is one to be written.
func (c *capture) deliver(w io.Writer, slot []byte) (wrote bool, err error) {
	field := binary.NativeEndian
	original, kept := int(field.Uint32(slot[4:])), int(field.Uint32(slot[8:]))
	mac := int(field.Uint16(slot[12:]))
	at := time.Unix(int64(field.Uint32(slot[16:])), int64(field.Uint32(slot[20:])))
	from := slot[headerBytes:]
	if int(field.Uint32(from[4:])) == c.loopback && from[10] == unix.PACKET_OUTGOING {
		return false, nil
	}
	packet := slot[mac:][:kept]
	if c.linkType == cooked {
		packet, original = cook(packet, from), original+cookedBytes
	}
	keep, err := c.passes(packet)
	if err != nil || keep == 0 {
		return false, err
	}
	_, err = w.Write(record(packet, min(keep, c.snaplen), original, at))
	return err == nil, err
}

// cook puts the header of LINUX_SLL before a packet that came with a struct sockaddr_ll.
func cook(packet, from []byte) []byte {
	head := make([]byte, cookedBytes, cookedBytes+len(packet))
	binary.BigEndian.PutUint16(head[0:], uint16(from[10]))                     // type of the packet
	binary.BigEndian.PutUint16(head[2:], binary.NativeEndian.Uint16(from[8:])) // of the device
	binary.BigEndian.PutUint16(head[4:], uint16(from[11]))                     // length of the address
	copy(head[6:14], from[12:20])                                              // address
	copy(head[14:16], from[2:4])                                               // protocol, in network order
	return append(head, packet...)
}

// passes is how many bytes the filter wants.
func (c *capture) passes(packet []byte) (int, error) {
	if c.vm == nil {
		return len(packet), nil
	}
	return c.vm.Run(packet)
}

func record(packet []byte, keep, original int, at time.Time) []byte {
	keep = min(keep, len(packet))
	r := binary.LittleEndian.AppendUint32(make([]byte, 0, 16+keep), uint32(at.Unix()))
	r = binary.LittleEndian.AppendUint32(r, uint32(at.Nanosecond()/1000))
	r = binary.LittleEndian.AppendUint32(r, uint32(keep))
	r = binary.LittleEndian.AppendUint32(r, uint32(original))
	return append(r, packet[:keep]...)
}
