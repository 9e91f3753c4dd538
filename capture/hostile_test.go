package capture_test

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
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
		io.WriteString(s.Stderr, "@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n")
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
