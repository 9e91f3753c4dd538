// Package farm is any number of instances to capture on, for tests and benchmarks of many: SSH servers on the loopback
// interface, each on a port of its own, in a process of their own, whose tcpdump gives a known number of packets.
package farm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/sshserver"
)

// Farm says what the instances are like.
type Farm struct {
	Instances int
	First     int           // packets that each gives as soon as it captures
	Last      int           // and when it is asked to end
	Size      int           // of each; 0 means 100 bytes
	Ends      bool          // each ends by itself when it has given the first ones
	Delay     time.Duration // of every byte on its way, in each direction
	User      ssh.PublicKey // who may log in

	HostKey   ssh.PublicKey // of all of them; set by Start
	Addresses []string      // set by Start

	servers []*sshserver.Server
	proxies []*proxy
}

// Start starts the servers; Close ends them.
func (f *Farm) Start() error {
	var key ssh.Signer // the first server makes it
	for range f.Instances {
		s := &sshserver.Server{Handler: f.tcpdump, HostKey: key, AuthorizedKeys: []ssh.PublicKey{f.User}}
		if err := s.Start(); err != nil {
			return errors.Join(err, f.Close())
		}
		key, f.HostKey = s.HostKey, s.PublicKey()
		f.servers = append(f.servers, s)
		address := s.Addr()
		if f.Delay > 0 {
			p, err := newProxy(address, f.Delay)
			if err != nil {
				return errors.Join(err, f.Close())
			}
			f.proxies = append(f.proxies, p)
			address = p.listener.Addr().String()
		}
		f.Addresses = append(f.Addresses, address)
	}
	return nil
}

// Close cuts what still runs and waits for its end.
func (f *Farm) Close() error {
	var errs []error
	for _, p := range f.proxies {
		errs = append(errs, p.close())
	}
	for _, s := range f.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// tcpdump answers a capture's command line: with a header, First packets, and after the end of its input Last more.
func (f *Farm) tcpdump(s *sshserver.Session) int {
	if !strings.Contains(s.Command, "tcpdump") {
		return 127
	}
	clock(s)
	fmt.Fprintf(s.Stderr, "@sshpcap connection %s\n@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n@sshpcap watched\n", s.Connection)
	nano := strings.Contains(s.Command, "--time-stamp-precision=nano")
	out := bufio.NewWriterSize(s.Stdout, 32<<10)
	out.Write(header(nano))
	size := f.Size
	if size == 0 {
		size = packetSize
	}
	writePackets(out, f.First, size, nano)
	if out.Flush() != nil {
		return 1
	}
	for lines := bufio.NewScanner(s.Stdin); !f.Ends && lines.Scan(); { // signs of life, until their end
		if lines.Text() == "c" {
			clock(s)
		}
	}
	writePackets(out, f.Last, size, nano)
	if out.Flush() != nil {
		return 1
	}
	n := f.First + f.Last
	fmt.Fprintf(s.Stderr, "%d packets captured\n%d packets received by filter\n0 packets dropped by kernel\n", n, n)
	return 0
}

// clock says what an instance's clock shows.
func clock(s *sshserver.Session) {
	now := time.Now()
	fmt.Fprintf(s.Stderr, "@sshpcap clock %d.%09d\n", now.Unix(), now.Nanosecond())
}

const packetSize = 100

func header(nano bool) []byte {
	magic := uint32(0xa1b2c3d4)
	if nano {
		magic = 0xa1b23c4d
	}
	b := binary.LittleEndian.AppendUint32(nil, magic)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, 262144)
	return binary.LittleEndian.AppendUint32(b, 1) // Ethernet
}

// writePackets leaves the error to the writer's Flush.
func writePackets(w io.Writer, n, size int, nano bool) {
	p := make([]byte, 16+size)
	for range n {
		now := time.Now()
		fraction := now.Nanosecond()
		if !nano {
			fraction /= 1000
		}
		binary.LittleEndian.PutUint32(p[0:], uint32(now.Unix()))
		binary.LittleEndian.PutUint32(p[4:], uint32(fraction))
		binary.LittleEndian.PutUint32(p[8:], uint32(size))
		binary.LittleEndian.PutUint32(p[12:], uint32(size))
		w.Write(p)
	}
}

// proxy is a long line to a server: it delays all bytes and holds none up.
type proxy struct {
	listener net.Listener
	to       string
	delay    time.Duration
}

func newProxy(to string, delay time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, to: to, delay: delay}
	go p.accept()
	return p, nil
}

func (p *proxy) close() error { return p.listener.Close() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		client.Close()
		return
	}
	go p.carry(server, client)
	p.carry(client, server)
}

// carry takes bytes over, each as long after it came as the line is long.
func (p *proxy) carry(to, from net.Conn) {
	type piece struct {
		due   time.Time
		bytes []byte
	}
	line := make(chan piece, 1024) // closed by the reader
	go func() {
		defer close(line)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if n > 0 {
				line <- piece{time.Now().Add(p.delay), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for next := range line {
		time.Sleep(time.Until(next.due))
		if _, err := to.Write(next.bytes); err != nil {
			from.Close() // ends the reader, whom somebody has to drain
		}
	}
	to.Close()
}
