package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Link types, as tcpdump and pcap name them.
const (
	ethernet    = 1
	cooked      = 113
	cookedBytes = 16 // of its header
)

// capture is a packet socket.
type capture struct {
	fd       int
	linkType uint32
	snaplen  int
	loopback int     // index of lo, where each packet comes twice
	vm       *bpf.VM // nil: all packets
	patient  bool    // looks at the interrupt only when a packet has come
}

// listen opens the socket, whose packets all wait from then on.
func listen(o config) (*capture, error) {
	c := &capture{linkType: ethernet, snaplen: o.snaplen}
	if lo, err := net.InterfaceByName("lo"); err == nil {
		c.loopback = lo.Index
	}
	kind, index := unix.SOCK_RAW, 0
	if o.iface == "any" {
		kind, c.linkType = unix.SOCK_DGRAM, cooked
	}
	all := int(networkOrder(unix.ETH_P_ALL))
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
		index = i.Index
	}
	c.fd = fd
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) // where it may; else what is usual
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return nil, err
	}
	return c, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: index})
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
	buf := make([]byte, cookedBytes+256<<10)
	oob := make([]byte, 128)
	for range 4096 {
		n, oobn, _, from, err := unix.Recvmsg(c.fd, buf[cookedBytes:], oob, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return wrote, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return wrote, err
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Ifindex == c.loopback && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		packet := buf[cookedBytes : cookedBytes+n]
		if c.linkType == cooked {
			packet = buf[:cookedBytes+n]
			cook(packet, ll)
		}
		keep, err := c.passes(packet)
		if err != nil {
			return wrote, err
		}
		if keep == 0 {
			continue
		}
		if _, err := w.Write(record(packet, min(keep, c.snaplen), stamp(oob[:oobn]))); err != nil {
			return wrote, err
		}
		wrote = true
	}
	return wrote, nil
}

// cook writes the header of LINUX_SLL.
func cook(packet []byte, ll *unix.SockaddrLinklayer) {
	clear(packet[:cookedBytes])
	binary.BigEndian.PutUint16(packet[0:], uint16(ll.Pkttype))
	binary.BigEndian.PutUint16(packet[2:], ll.Hatype)
	binary.BigEndian.PutUint16(packet[4:], uint16(ll.Halen))
	copy(packet[6:14], ll.Addr[:])
	binary.BigEndian.PutUint16(packet[14:], networkOrder(ll.Protocol))
}

// passes is how many bytes the filter wants.
func (c *capture) passes(packet []byte) (int, error) {
	if c.vm == nil {
		return len(packet), nil
	}
	return c.vm.Run(packet)
}

func record(packet []byte, keep int, at time.Time) []byte {
	keep = min(keep, len(packet))
	r := binary.LittleEndian.AppendUint32(make([]byte, 0, 16+keep), uint32(at.Unix()))
	r = binary.LittleEndian.AppendUint32(r, uint32(at.Nanosecond()/1000))
	r = binary.LittleEndian.AppendUint32(r, uint32(keep))
	r = binary.LittleEndian.AppendUint32(r, uint32(len(packet)))
	return append(r, packet[:keep]...)
}

// stamp is when the kernel saw the packet.
func stamp(oob []byte) time.Time {
	messages, _ := syscall.ParseSocketControlMessage(oob)
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}
