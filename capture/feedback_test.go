package capture_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/sshx"
)

// wire is a TCP connection that tells what comes on it, as packets on the way do.
type wire struct {
	net.Conn
	tap func([]byte)
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.tap(b[:n])
	return n, err
}

// seen is what has passed on some wires and was not captured yet.
type seen struct {
	mu      sync.Mutex
	packets [][]byte
}

func (s *seen) tap(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 && len(s.packets) < 1000 {
		n := min(len(b), 1448)
		s.packets = append(s.packets, append(make([]byte, 54), b[:n]...)) // behind the headers
		b = b[n:]
	}
}

func (s *seen) take() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	packets := s.packets
	s.packets = nil
	return packets
}

// tunnelled is a wire of which only an outer layer is seen, which enciphers: its packets pad what is in them to 16 bytes.
type tunnelled struct {
	net.Conn
	seen *seen
}

func (w *tunnelled) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.seen.enciphered(n, 2, 1)
	return n, err
}

func (w *tunnelled) Write(b []byte) (int, error) {
	w.seen.enciphered(len(b), 1, 2)
	return w.Conn.Write(b)
}

// enciphered has n bytes go from one host to another, and be acknowledged.
func (s *seen) enciphered(n int, from, to byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n > 0 && len(s.packets) < 5000 {
		inner := min(n, 1348)
		s.packets = append(s.packets, outer(from, to, inner+52), outer(to, from, 52))
		n -= inner
	}
}

// outer is a packet of the outer layer, which holds one of size bytes.
func outer(from, to byte, size int) []byte {
	p := make([]byte, 14+20+8+16+(size+15)/16*16+16)
	copy(p[12:], []byte{8, 0, 0x45})
	p[14+9] = 17
	copy(p[14+12:], []byte{192, 0, 2, from, 192, 0, 2, to, 0xca, 0x6c, 0xca, 0x6c})
	rand.Read(p[42:])
	return p
}

// capturing captures what passes on some wires, the first bytes of each packet. The first one is of something else.
func capturing(from *seen, snaplen int) func(*sshserver.Session) int {
	return tcpdump{give: func(h *helper) {
		from.take() // of the login
		h.packet(time.Now(), 1)
		for !h.stopped() && h.Context().Err() == nil {
			for _, p := range from.take() {
				data := p[:min(len(p), snaplen)]
				if h.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(data), Length: len(p)}, data) == nil {
					h.written++
				}
			}
			time.Sleep(time.Millisecond) // it goes round no faster than that
		}
	}}.run
}

// tapped is an instance of which everything that comes from it is told.
func tapped(t *testing.T, name string, tap func([]byte), handler func(*sshserver.Session) int) capture.Instance {
	return through(t, name, func(conn net.Conn) net.Conn { return &wire{conn, tap} }, handler)
}

// through is an instance that is reached through what is made of each connection to it.
func through(t *testing.T, name string, made func(net.Conn) net.Conn, handler func(*sshserver.Session) int) capture.Instance {
	t.Helper()
	server := &sshserver.Server{Handler: handler}
	in := at(t, name, server)
	end := endpoint(server)
	end.DialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return made(conn), nil
	}
	var dialer sshx.Dialer
	in.Dial = func(ctx context.Context) (*sshx.Conn, error) { return dialer.DialEndpoint(ctx, end) }
	return in
}

// A stream whose packets hold the connection that carries it is ended, whatever the size of its packets, and not begun again.
func TestFeedback(t *testing.T) {
	for _, snaplen := range []int{262144, 96} {
		for _, follow := range []bool{false, true} {
			var wires seen
			f := newFixture(t, "x.pcapng", tapped(t, "a", wires.tap, capturing(&wires, snaplen)), instance(t, "b", tcpdump{give: burst(2, 5)}.run))
			f.Follow, f.Filter = follow, "tcp"
			f.OnEvent = func(e capture.Event) {
				if e.Kind == capture.Lost {
					f.stop()
				}
			}
			report, err := f.run(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			a, b := report.Instances[0], report.Instances[1]
			if a.State != capture.LostState || b.State != capture.OK || !strings.Contains(a.Problem, "our own SSH connection") ||
				!strings.Contains(a.Hint, "--no-self-filter") || report.Bytes > 10<<20 {
				t.Errorf("snaplen %d, follow %v: %s %q %q, %s, %d bytes", snaplen, follow, a.State, a.Problem, a.Hint, b.State, report.Bytes)
			}
			if in := a.Interfaces[0]; in.Captured == nil || *in.Captured != in.Received {
				t.Errorf("received %d of %v: it was not ended in good order", in.Received, in.Captured)
			}
		}
	}
}

// The same where its bytes are not in what is captured, since another layer enciphers them or they are cut off.
func TestFeedbackBySize(t *testing.T) {
	t.Parallel()
	for _, snaplen := range []int{262144, 96, 42} {
		t.Run(fmt.Sprint(snaplen), func(t *testing.T) {
			t.Parallel()
			var wires seen
			tunnel := func(conn net.Conn) net.Conn { return &tunnelled{conn, &wires} }
			f := newFixture(t, "x.pcapng", through(t, "a", tunnel, capturing(&wires, snaplen)))
			f.MaxSize = 300 << 20
			report, err := f.run(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			a := report.Instances[0]
			if a.State != capture.LostState || !strings.Contains(a.Problem, "our own SSH connection") ||
				!strings.Contains(a.Hint, "'not ((udp and host 192.0.2.1 and host 192.0.2.2 and port 51820))'") || report.Bytes > 200<<20 {
				t.Errorf("%s %q %q, %d bytes", a.State, a.Problem, a.Hint, report.Bytes)
			}
			t.Logf("%d packets, %d bytes", report.Packets, report.Bytes)
		})
	}
}

// With --no-self-filter it is wanted.
func TestFeedbackWanted(t *testing.T) {
	var wires seen
	f := newFixture(t, "x.pcapng", tapped(t, "a", wires.tap, capturing(&wires, 262144)))
	f.NoSelfFilter, f.Count = true, 500
	report, err := f.run(t, nil)
	if err != nil || report.Instances[0].State != capture.OK || report.Packets != 500 {
		t.Errorf("%v, %d packets, %+v", err, report.Packets, report.Instances[0])
	}
}

// Two instances that capture one another are as bad, and one of them goes on. Where one captures the other's connection
// only, nothing is wrong: a router does.
func TestFeedbackInTurn(t *testing.T) {
	for name, mutual := range map[string]bool{"both": true, "one": false} {
		t.Run(name, func(t *testing.T) {
			var ofA, ofB seen
			a := tapped(t, "a", ofA.tap, capturing(&ofB, 262144))
			if !mutual {
				a = tapped(t, "a", ofA.tap, tcpdump{give: func(h *helper) {
					for !h.stopped() && h.Context().Err() == nil {
						h.packet(time.Now(), 1)
						time.Sleep(time.Millisecond)
					}
				}}.run)
			}
			b := tapped(t, "b", ofB.tap, capturing(&ofA, 262144))
			f := newFixture(t, "x.pcapng", a, b)
			over := time.AfterFunc(2*time.Second, f.stop)
			defer over.Stop()
			f.OnEvent = func(e capture.Event) {
				if e.Kind == capture.Lost {
					over.Reset(300 * time.Millisecond) // in which the other one goes on
				}
			}
			report, err := f.run(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			lost := 0
			for _, in := range report.Instances {
				if in.State == capture.LostState && strings.Contains(in.Problem, "which in turn carries") {
					lost++
				}
			}
			if mutual && lost != 1 || !mutual && lost != 0 {
				t.Errorf("%d were ended: %+v", lost, report.Instances)
			}
		})
	}
}
