package bed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// Flow is a stream of numbered UDP packets from one host of a bed to another. Each has a port of its own as its
// destination, and its payload is that port and the packet's number, 4 bytes each, most significant first.
type Flow struct {
	From, To *Host
	Port     int
	Net      int  // whose address of To it goes to, if that is not in net 0 only
	Loopback bool // to 127.0.0.1 of To instead of its address; From is To
	Size     int  // of the payload; 0 means 64

	conn *net.UDPConn
	sink *net.UDPConn
	sent int
}

// Open opens the sockets. The receiving one takes the packets and drops them, so that no host answers "port unreachable".
func (f *Flow) Open(t testing.TB) *Flow {
	t.Helper()
	to := f.To.Addr
	if f.Net > 0 {
		to = f.To.addrs[f.Net]
	}
	if f.Loopback {
		to = "127.0.0.1"
	}
	addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(fmt.Sprintf("%s:%d", to, f.Port)))
	must(t, f.To.Do(func() (err error) { f.sink, err = net.ListenUDP("udp4", addr); return }))
	t.Cleanup(func() { f.sink.Close() })
	must(t, f.From.Do(func() (err error) { f.conn, err = net.DialUDP("udp4", nil, addr); return }))
	t.Cleanup(func() { f.conn.Close() })
	return f
}

// Sent is how many packets have been sent. Do not call it while a Send runs.
func (f *Flow) Sent() int { return f.sent }

// Restart lets the numbers begin at 0 again.
func (f *Flow) Restart() { f.sent = 0 }

// Send sends n packets, rate of them a second; the numbers go on from the last call.
func (f *Flow) Send(n, rate int) error {
	const tick = 2 * time.Millisecond
	start, done := time.Now(), 0
	for done < n {
		for due := min(n, int(time.Since(start).Seconds()*float64(rate))+1); done < due; done++ {
			if err := f.send(); err != nil {
				return fmt.Errorf("packet %d of %s to %s: %w", f.sent, f.From.Name, f.To.Name, err)
			}
		}
		time.Sleep(tick)
	}
	return nil
}

func (f *Flow) send() error {
	payload := make([]byte, max(f.Size, 64))
	binary.BigEndian.PutUint32(payload, uint32(f.Port))
	binary.BigEndian.PutUint32(payload[4:], uint32(f.sent))
	if _, err := f.conn.Write(payload); err != nil {
		return err
	}
	f.sent++
	return nil
}

// SendAll sends n packets on every flow at the same time.
func SendAll(n, rate int, flows ...*Flow) error {
	errs := make(chan error)
	for _, f := range flows {
		go func() { errs <- f.Send(n, rate) }()
	}
	var all []error
	for range flows {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}
