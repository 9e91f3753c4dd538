package capture_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/merge"
)

// One packet of the far future makes all later packets of others late. Files of a rotated output are full all the same,
// and all packets are in them.
func TestRotationFarFuture(t *testing.T) {
	const n, size = 20_000, 100_000
	f := newFixture(t, "x.pcapng")
	f.Rotation = capture.Rotation{Size: size}
	f.Buffer = 64 << 10           // so that the future cannot wait
	written := f.packets(n + 500) // of the prophet's some wait on
	f.Instances = []capture.Instance{
		instance(t, "prophet", tcpdump{give: func(h *helper) {
			for i := range 2000 {
				h.packet(time.Now().Add(30*365*24*time.Hour+time.Duration(i)), 2)
			}
		}}.run),
		instance(t, "steady", tcpdump{give: func(h *helper) {
			for i := range n {
				if h.packet(time.Now(), 1); i%200 == 0 {
					time.Sleep(5 * time.Millisecond)
				}
			}
		}}.run),
	}
	report, err := f.run(t, written)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, report)
	if late := report.Instances[1].Interfaces[0].Late; late < n/2 {
		t.Errorf("only %d were late", late)
	}
	if records := rotated(t, f, report); len(records) != n+2000 || report.Packets != n+2000 {
		t.Errorf("%d packets in the files, %d reported", len(records), report.Packets)
	}
	for _, file := range report.Output.Files {
		if info, err := os.Stat(file); err != nil || info.Size() > 2*size+64<<10 {
			t.Errorf("%v %v", info, err)
		}
	}
}

// Packets an hour apart do not make a file each without end.
func TestRotationManyIntervals(t *testing.T) {
	const n = 5000
	f := newFixture(t, "x.pcapng", instance(t, "a", tcpdump{give: func(h *helper) {
		for i := range n {
			h.packet(time.Unix(int64(i)*3600, 0), 1)
		}
	}}.run))
	f.Rotation = capture.Rotation{Interval: 30 * time.Minute}
	report, err := f.run(t, f.packets(n))
	if err != nil {
		t.Fatal(err)
	}
	if made := len(report.Output.Files); made < 900 || made > 1100 || report.Packets != n || !report.Output.InOrder {
		t.Errorf("%d files, %d packets, in order %v", made, report.Packets, report.Output.InOrder)
	}
	checkAll(t, rotated(t, f, report), map[string]int{"a:eth0": n})
}

// Sums of what an instance claims, again and again, do not overflow.
func TestClaimsDoNotOverflow(t *testing.T) {
	f := follow(t, "x.pcapng", instance(t, "liar", func(s *sshserver.Session) int {
		io.WriteString(s.Stderr, "@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n@sshpcap watched\n")
		io.WriteString(s.Stdout, "\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x01\x00\x00\x00")
		most := "18446744073709551615 packets "
		io.WriteString(s.Stderr, most+"captured\n"+most+"received by filter\n"+most+"dropped by kernel\n")
		return 0
	}))
	f.Progress = new(capture.Progress)
	report, err := f.run(t, func() bool { return f.Progress.Reported.Load() >= 3 })
	if err != nil {
		t.Fatal(err)
	}
	i := report.Instances[0].Interfaces[0]
	if i.Captured == nil || *i.Captured != 1<<52 || *i.Dropped != 1<<52 || *i.Unread != 0 || f.Progress.Dropped.Load() != 1<<52 {
		t.Errorf("%+v", i)
	}
}

// A server that opens sessions and never ends them is left after a number of them, and connected to anew, so that it takes
// no more and more memory while following.
func TestFollowSessionsThatDoNotEnd(t *testing.T) {
	if os.Getenv("SSHPCAP_SOAK") == "" {
		t.Skip("takes long: SSHPCAP_SOAK=1")
	}
	server := &sshserver.Server{Handler: func(s *sshserver.Session) int {
		s.Go(func() { io.Copy(io.Discard, s.Stdin) })
		<-s.Context().Done()
		return 1
	}}
	f := follow(t, "x.pcapng", at(t, "hung", server))
	f.ConnectTimeout = 5 * time.Millisecond
	_, err := f.run(t, func() bool { return server.Accepted() >= 2 })
	if err == nil || !strings.Contains(err.Error(), "nothing captured") {
		t.Error(err)
	}
}

// oddStream is what an instance gives whose records are framed soundly and make no sense: between them are 3 packets of 60
// bytes for each. It returns how many are to be written.
func oddStream(h *helper) (kept int) {
	record := func(sec, frac, captured, orig uint32) {
		head := binary.LittleEndian.AppendUint32(nil, sec)
		for _, n := range []uint32{frac, captured, orig} {
			head = binary.LittleEndian.AppendUint32(head, n)
		}
		h.Stdout.Write(append(head, make([]byte, captured)...))
		h.written++ // the helper counts it, too
	}
	now := uint32(time.Now().Unix())
	for _, odd := range []struct {
		kept int
		give func()
	}{
		{1, func() { record(now, 1e9, 60, 60) }},
		{1, func() { record(1<<32-1, 3e9, 60, 60) }},
		{0, func() { record(now, 0, 262145, 262145) }},
		{0, func() { record(now, 0, 16<<20, 5) }},
		{1, func() { record(now, 0, 60, 3) }},
		{1, func() { record(now, 0, 200, 200) }}, // and 100 were asked for
	} {
		for range 3 {
			h.packet(time.Now(), 1)
		}
		odd.give()
		kept += 3 + odd.kept
	}
	h.packet(time.Now(), 1)
	return kept + 1
}

// TestOddPackets: what makes no sense in an instance's packets ends neither the instance nor what others give; it is
// counted and named. The file is readable to its end, for programs that give up at such packets, too.
func TestOddPackets(t *testing.T) {
	for _, name := range []string{"x.pcapng", "x.pcap"} {
		t.Run(name, func(t *testing.T) {
			const kept = 6*3 + 4 + 1
			var given atomic.Bool // a packet of 2106 waits for the end
			f := newFixture(t, name,
				instance(t, "odd", tcpdump{give: func(h *helper) {
					if n := oddStream(h); n != kept {
						t.Errorf("%d are to be written, want %d", n, kept)
					}
					given.Store(true)
				}}.run),
				instance(t, "good", tcpdump{give: burst(2, 50)}.run))
			f.Snaplen = 100
			report, err := f.run(t, given.Load)
			if err != nil {
				t.Fatal(err)
			}
			checkSums(t, report)
			odd, good := report.Instances[0], report.Instances[1]
			i := odd.Interfaces[0]
			if odd.State != capture.OK || good.State != capture.OK || i.Received != kept+2 || i.Discarded != 2 || good.Interfaces[0].Written != 50 {
				t.Errorf("%s %q, %s, %+v", odd.State, odd.Problem, good.State, i)
			}
			want := merge.Oddities{merge.OddFraction: 2, merge.OddTime: 1, merge.OddTooLong: 2, merge.OddOriginal: 1, merge.OddCut: 1}
			if !slices.Equal(i.Oddities, want.List()) || len(good.Interfaces[0].Oddities) != 0 {
				t.Errorf("counts %v, want %v", i.Oddities, want.List())
			}
			for _, args := range [][]string{{"tshark", "-r", f.path, "-T", "fields", "-e", "frame.number"}, {"tcpdump", "-n", "-t", "-r", f.path}} {
				out, err := exec.Command(args[0], args[1:]...).Output()
				if n := bytes.Count(out, []byte("\n")); err != nil || n != kept+50 {
					t.Errorf("%s: %d packets, want %d: %v", args[0], n, kept+50, err)
				}
			}
		})
	}
}
