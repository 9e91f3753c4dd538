package demo

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/sshpcap/sshpcap/internal/sshserver"
)

// Helper returns the handler of an instance's SSH server. It answers a capture's command line as the instance's shell
// and tcpdump would, on an interface eth0 whatever is asked for, and until its stdin ends or a signal comes; it heeds
// no filter and no snaplen. Any other command is not found.
func (t *Traffic) Helper(role string) func(*sshserver.Session) int {
	return func(s *sshserver.Session) int {
		if !strings.Contains(s.Command, "tcpdump") && !strings.Contains(s.Command, "dumpcap") {
			fmt.Fprintln(s.Stderr, "sh: 1: not found: this instance can capture and nothing else")
			return 127
		}
		return t.tcpdump(s, role)
	}
}

func (t *Traffic) tcpdump(s *sshserver.Session, role string) int {
	stopped := make(chan struct{}) // closed below
	s.Go(func() {
		io.Copy(io.Discard, s.Stdin) // signs of life, until its end, which comes with that of the session too
		close(stopped)
	})
	announce(s)
	out, err := newWriter(s)
	if err != nil {
		return 1
	}
	since := time.Now()
	show := t.join(role)
	defer t.leave(role)
	if show.wait(stopped, s.Signals) {
		for packet := range show.packets(role, since) {
			if !until(packet.Time, stopped, s.Signals) {
				break
			}
			if err := out.write(packet); err != nil {
				return 1
			}
		}
	}
	out.report(s.Stderr)
	return 0
}

// announce prints what comes on an instance before the capture: the lines of the script of package remote around
// tcpdump, and tcpdump's own.
func announce(s *sshserver.Session) {
	say := func(what string, words ...string) {
		fmt.Fprintln(s.Stderr, "@sshpcap "+strings.Join(append([]string{what}, words...), " "))
	}
	now := time.Now()
	say("clock", fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond()))
	say("uid", "1000")
	if strings.Contains(s.Command, "SSH_CONNECTION") {
		words := strings.Fields(s.Connection)
		say("connection", words...)
		say("self", fmt.Sprintf("tcp and host %s and port %s and host %s and port %s", words[0], words[1], words[2], words[3]))
	}
	say("helper", "/usr/bin/tcpdump")
	say("start")
	say("watched")
	fmt.Fprintf(s.Stderr, "tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length %d bytes\n", snaplen)
}

const snaplen = 262144 // tcpdump's own

// until waits for a time to come. It is false when the capture is stopped before.
func until(t time.Time, stopped <-chan struct{}, signals <-chan string) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stopped:
	case <-signals:
	}
	return false
}

// writer gives out a pcap stream as tcpdump -U does, each packet at once.
type writer struct {
	pcap   *pcapgo.Writer
	buffer *bufio.Writer
	count  int
}

func newWriter(s *sshserver.Session) (*writer, error) {
	buffer := bufio.NewWriter(s.Stdout)
	pcap := pcapgo.NewWriter(buffer)
	if strings.Contains(s.Command, "--time-stamp-precision=nano") {
		pcap = pcapgo.NewWriterNanos(buffer)
	}
	if err := pcap.WriteFileHeader(snaplen, layers.LinkTypeEthernet); err != nil {
		return nil, err
	}
	return &writer{pcap: pcap, buffer: buffer}, buffer.Flush()
}

func (w *writer) write(p Packet) error {
	info := gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(p.Data), Length: len(p.Data)}
	if err := w.pcap.WritePacket(info, p.Data); err != nil {
		return err
	}
	w.count++
	return w.buffer.Flush()
}

// report is tcpdump's at its end.
func (w *writer) report(to io.Writer) {
	packets := "packets"
	if w.count == 1 {
		packets = "packet"
	}
	fmt.Fprintf(to, "%d %s captured\n%d %s received by filter\n0 packets dropped by kernel\n", w.count, packets, w.count, packets)
}
