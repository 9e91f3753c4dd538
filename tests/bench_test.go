package tests

import (
	"bufio"
	encoding "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/tests/bed"
)

// blast sends n UDP packets with so much payload from one host to an address, rate of them a second, many with each
// system call. It returns how long that took.
func blast(from *bed.Host, to string, payload, n, rate int) (time.Duration, error) {
	var conn net.Conn
	if err := from.Do(func() (err error) { conn, err = net.Dial("udp4", to); return }); err != nil {
		return 0, err
	}
	defer conn.Close()
	const most = 64
	batch := make([]ipv4.Message, most)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, payload)}
	}
	packets, start, sent := ipv4.NewPacketConn(conn.(*net.UDPConn)), time.Now(), 0
	for sent < n {
		due := min(n, int(time.Since(start).Seconds()*float64(rate))) - sent
		if due < most/2 && sent+due < n {
			time.Sleep(100 * time.Microsecond) // at this pace the next ones are due
			continue
		}
		for i := range min(due, most) {
			encoding.BigEndian.PutUint32(batch[i].Buffers[0], uint32(sent+i))
		}
		k, err := packets.WriteBatch(batch[:min(due, most)], 0)
		if err != nil {
			return 0, err
		}
		sent += k
	}
	return time.Since(start), nil
}

// sink takes the packets that come to a port of a host, so that it does not answer that there is nobody.
func sink(t testing.TB, on *bed.Host, port int) string {
	t.Helper()
	var conn net.PacketConn
	addr := fmt.Sprintf("%s:%d", on.Addr, port)
	if err := on.Do(func() (err error) { conn, err = net.ListenPacket("udp4", addr); return }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return addr
}

// BenchmarkHelper sends 100,000 packets a second past the helper as it is started with the default flags, whose output is
// read and thrown away: what the instance's side can do by itself, with sender and all on this machine.
func BenchmarkHelper(b *testing.B) {
	blasts(b, func(b *testing.B, on *blasted) (captured, dropped uint64) {
		var log remote.Log
		cmd := on.web.Command("sh", "-c", remote.Command{Interface: on.iface, Filter: on.filter, Nano: true}.Line())
		cmd.Stderr = &log
		stdin, err := cmd.StdinPipe()
		stdout, err2 := cmd.StdoutPipe()
		if err := errors.Join(err, err2, cmd.Start()); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(stdout, make([]byte, 24)); err != nil { // it captures
			b.Fatal(err)
		}
		all := make(chan int64)
		go func() { n, _ := io.Copy(io.Discard, stdout); all <- n }()
		on.blast()
		time.Sleep(200 * time.Millisecond) // as a capture does: what the kernel has is read first
		stdin.Close()
		<-all
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		r := log.Report()
		return r.Captured, r.Dropped
	})
}

// BenchmarkFast sends 100,000 packets a second past one instance that is captured on with the default flags, over SSH into
// a file, all of it on this machine: tcpdump, sshd, sender and client.
func BenchmarkFast(b *testing.B) {
	blasts(b, func(b *testing.B, on *blasted) (captured, dropped uint64) {
		file := filepath.Join(b.TempDir(), "a.pcapng")
		defer os.Remove(file)
		c := start(b, on.bed, on.web.Name, "--interface", on.iface, "-f", on.filter, "-o", file).ready()
		on.blast()
		c.interrupt(0)
		in := c.result().Instances[0].Interfaces[0]
		if records := countRecords(file); uint64(records) != in.Written {
			b.Errorf("%d packets in the file, %d in the report", records, in.Written)
		}
		return in.Written, *in.Dropped
	})
}

// blasted is an instance that packets are sent past.
type blasted struct {
	bed    *bed.Bed
	web    *bed.Host
	iface  string // to capture on
	filter string // lets those packets through
	blast  func() // sends them
}

// blasts runs capture for each interface and size of packets; it is to call blast once. lost% is what was not captured of
// the packets, dropped% what the kernel says that it dropped, sent/s how many were sent a second.
func blasts(b *testing.B, capture func(*testing.B, *blasted) (captured, dropped uint64)) {
	const rate, seconds = 100_000, 3
	for _, iface := range []string{"eth0", "any"} {
		for _, size := range []int{100, 1500} {
			b.Run(fmt.Sprintf("%s/%d", iface, size), func(b *testing.B) {
				n := bed.New(b, tools...)
				web, peer := n.Add("web1", bed.Options{}), n.Add("peer", bed.Options{})
				to := sink(b, web, 40001)
				var sent, captured, dropped, took float64
				on := &blasted{bed: n, web: web, iface: iface, filter: "udp dst port 40001", blast: func() {
					d, err := blast(peer, to, size-42, rate*seconds, rate)
					if err != nil {
						b.Fatal(err)
					}
					sent, took = sent+rate*seconds, took+d.Seconds()
				}}
				for b.Loop() {
					k, d := capture(b, on)
					captured, dropped = captured+float64(k), dropped+float64(d)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(sent/took, "sent/s")
				b.ReportMetric(100*(sent-captured)/sent, "lost%")
				b.ReportMetric(100*dropped/sent, "dropped%")
			})
		}
	}
}

// BenchmarkLatency sends 100 packets a second past one instance or several, and takes the time from the kernel's
// timestamp on the instance, whose clock is ours, to the moment at which the packet can be read from the output.
func BenchmarkLatency(b *testing.B) {
	for _, k := range []int{1, 3} {
		b.Run(fmt.Sprintf("instances=%d", k), func(b *testing.B) {
			n := bed.New(b, tools...)
			var args []string
			var hosts []*bed.Host
			for i := range k {
				hosts = append(hosts, n.Add(fmt.Sprint("web", i+1), bed.Options{}))
				args = append(args, hosts[i].Name)
			}
			peer := n.Add("peer", bed.Options{})
			to := sink(b, hosts[0], 40001)
			var all []time.Duration
			for b.Loop() {
				read, write, err := os.Pipe()
				if err != nil {
					b.Fatal(err)
				}
				took := make(chan []time.Duration)
				go func() { took <- latencies(b, read) }()
				c := startTo(b, n, write, append(args, "-f", "udp dst port 40001", "-o", "-")...).ready()
				write.Close()
				if _, err := blast(peer, to, 100, 300, 100); err != nil {
					b.Fatal(err)
				}
				c.interrupt(0)
				all = append(all, <-took...)
			}
			slices.Sort(all)
			if len(all) < 100 {
				b.Fatalf("%d packets", len(all))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// latencies reads pcapng to its end, and how old each packet is when it comes.
func latencies(t testing.TB, r io.ReadCloser) (all []time.Duration) {
	defer r.Close()
	in := bufio.NewReader(r)
	for {
		head, err := in.Peek(8)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Error(err)
			return all
		}
		block := make([]byte, encoding.LittleEndian.Uint32(head[4:]))
		if _, err := io.ReadFull(in, block); err != nil {
			t.Error(err)
			return all
		}
		if encoding.LittleEndian.Uint32(block) == 6 {
			ns := int64(encoding.LittleEndian.Uint32(block[12:]))<<32 | int64(encoding.LittleEndian.Uint32(block[16:]))
			all = append(all, time.Since(time.Unix(0, ns)))
		}
	}
}
