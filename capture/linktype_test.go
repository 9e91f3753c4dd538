package capture_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
)

const linkTypeERF = layers.LinkType(197) // of which tshark takes the length from the record's own header

// short writes n packets of 2 bytes, which no record of ERF can have.
func short(n int) func(*helper) {
	return func(h *helper) {
		for range n {
			if h.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: 2, Length: 2}, []byte{9, 9}) == nil {
				h.written++
			}
		}
	}
}

// attempts plays one helper after the other; the last one stays.
func attempts(helpers ...tcpdump) (handler func(*sshserver.Session) int, begun *atomic.Int64) {
	begun = new(atomic.Int64)
	return func(s *sshserver.Session) int {
		return helpers[min(int(begun.Add(1)), len(helpers))-1].run(s)
	}, begun
}

// packetsBy counts the packets of a pcapng file by interface, link type and length, as tshark reads them.
func packetsBy(t *testing.T, path string) map[string]int {
	t.Helper()
	cmd := exec.Command("tshark", "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.encap_type", "-e", "frame.len")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || strings.Contains(stderr.String(), "damaged") {
		t.Errorf("tshark -r %s: %v: %s", path, err, stderr.String())
	}
	n := make(map[string]int)
	for line := range strings.Lines(string(out)) {
		n[strings.TrimSpace(strings.ReplaceAll(line, "\t", " "))]++
	}
	if out, err := exec.Command("capinfos", path).CombinedOutput(); err != nil {
		t.Errorf("capinfos %s: %v: %s", path, err, out)
	}
	return n
}

func wantCounts(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// The link types of tshark's own numbering.
const (
	encapEthernet = "1"
	encapERF      = "98"
	encapSLL      = "25"
)

// interfacesOf are those that a file describes.
func interfacesOf(t *testing.T, path string) (all []pcapgo.NgInterface) {
	t.Helper()
	fd, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	ng, err := pcapgo.NewNgReader(fd, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, _, err = ng.ReadPacketData()
	}
	for i := range ng.NInterfaces() {
		iface, _ := ng.Interface(i)
		all = append(all, iface)
	}
	return all
}

// An instance that comes back with another link type is another interface of the file. What it gives can be read under
// its own type, and spoils nothing of others.
func TestFollowOtherLinkType(t *testing.T) {
	shaky, begun := attempts(
		tcpdump{link: linkTypeERF, give: burst(1, 5), leave: true},
		tcpdump{give: short(4), leave: true},
		tcpdump{link: linkTypeERF, give: burst(1, 3)},
	)
	f := follow(t, "x.pcapng", instance(t, "shaky", shaky),
		instance(t, "good", tcpdump{give: spread(2, 1000)}.run), instance(t, "fine", tcpdump{give: spread(3, 1000)}.run))
	packets := f.packets(2012)
	report, err := f.run(t, func() bool { f.look(); return packets() && begun.Load() == 3 })
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, report)
	wantCounts(t, "file", packetsBy(t, f.path), map[string]int{
		"shaky:eth0 " + encapERF + " 0": 8, "shaky:eth0 " + encapEthernet + " 2": 4,
		"good:eth0 " + encapEthernet + " 60": 1000, "fine:eth0 " + encapEthernet + " 60": 1000,
	})
	if i := report.Instances[0].Interfaces[0]; i.Written != 12 || i.LinkType != "ERF, EN10MB" || i.Gaps != 2 || *i.Captured != 12 {
		t.Errorf("%+v, %d captured", i, *i.Captured)
	}
	var descriptions, received []string
	for _, i := range interfacesOf(t, f.path) {
		if i.Name == "shaky:eth0" {
			descriptions = append(descriptions, i.Description)
			received = append(received, fmt.Sprint(i.LinkType, i.Statistics.PacketsReceived, i.Statistics.PacketsDropped))
		}
	}
	if len(descriptions) != 2 || strings.Contains(descriptions[0], "came back") || !strings.Contains(descriptions[1], "came back with link type EN10MB in place of ERF") {
		t.Errorf("descriptions %q", descriptions)
	}
	if want := fmt.Sprint([]string{fmt.Sprint(linkTypeERF, 8+14, 14), fmt.Sprint(layers.LinkTypeEthernet, 4+7, 7)}); fmt.Sprint(received) != want {
		t.Errorf("statistics %v, want %v", received, want)
	}
}

// Files that begin later describe what their packets need, and those of single instances the same.
func TestFollowOtherLinkTypeInFiles(t *testing.T) {
	for name, perInstance := range map[string]bool{"rotated": false, "each": true} {
		shaky, begun := attempts(
			tcpdump{link: layers.LinkTypeLinuxSLL, give: burst(1, 700), leave: true},
			tcpdump{give: burst(1, 700)},
		)
		f := follow(t, "x.pcapng", instance(t, "shaky", shaky), instance(t, "good", tcpdump{give: burst(2, 10)}.run))
		f.PerInstance = perInstance
		if !perInstance {
			f.Rotation.Size = 20_000
		}
		packets := f.packets(1410)
		report, err := f.run(t, func() bool { f.look(); return packets() && begun.Load() == 2 })
		if err != nil {
			t.Fatal(err)
		}
		checkSums(t, report)
		total := make(map[string]int)
		files := report.Output.Files
		if perInstance {
			wantCounts(t, "file", packetsBy(t, filepath.Join(filepath.Dir(f.path), "x.shaky.pcapng")),
				map[string]int{"shaky:eth0 " + encapSLL + " 60": 700, "shaky:eth0 " + encapEthernet + " 60": 700})
			files = []string{f.path}
		}
		for _, file := range files {
			for what, n := range packetsBy(t, file) {
				total[what] += n
			}
		}
		wantCounts(t, name, total, map[string]int{
			"shaky:eth0 " + encapSLL + " 60": 700, "shaky:eth0 " + encapEthernet + " 60": 700, "good:eth0 " + encapEthernet + " 60": 10,
		})
		if last := interfacesOf(t, files[len(files)-1]); !perInstance && len(last) > 2 {
			t.Errorf("the last file describes %d interfaces, of which one is used no more", len(last))
		}
	}
}

// A pcap file takes one link type: an attempt with another one is refused, and none of its packets is written, and the
// next one with the right type is taken again.
func TestFollowOtherLinkTypeRefused(t *testing.T) {
	shaky, begun := attempts(
		tcpdump{give: burst(1, 5), exit: 1},
		tcpdump{link: layers.LinkTypeLinuxSLL, give: burst(7, 2000), exit: 1},
		tcpdump{give: burst(1, 6)},
	)
	f := follow(t, "x.pcap", instance(t, "shaky", shaky), instance(t, "good", tcpdump{give: burst(2, 20)}.run))
	packets := f.packets(31)
	report, err := f.run(t, func() bool { f.look(); return packets() && begun.Load() == 3 })
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, report)
	from := make(map[string]int)
	out, err := exec.Command("tshark", "-r", f.path, "-T", "fields", "-e", "frame.encap_type", "-e", "eth.dst").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		from[strings.TrimSpace(line)[:4]]++
	}
	wantCounts(t, "file", from, map[string]int{"1\t01": 11, "1\t02": 20})
	in := report.Instances[0]
	if i := in.Interfaces[0]; in.State != capture.OK || i.Received != 11 || i.Written != 11 || i.Gaps != 1 || i.LinkType != "EN10MB" {
		t.Errorf("%s %q %+v", in.State, in.Problem, i)
	}
	if len(f.left) != 1 {
		t.Errorf("left %q", f.left)
	}
}

// An instance that only ever comes back with the wrong type is lost, and says why.
func TestFollowOtherLinkTypeForGood(t *testing.T) {
	shaky, begun := attempts(tcpdump{give: burst(1, 5), exit: 1}, tcpdump{link: layers.LinkTypeLinuxSLL, give: burst(7, 500)})
	f := follow(t, "x.pcap", instance(t, "shaky", shaky), instance(t, "good", tcpdump{give: burst(2, 20)}.run))
	packets := f.packets(25)
	report, err := f.run(t, func() bool { f.look(); return packets() && begun.Load() >= 3 })
	if err != nil {
		t.Fatal(err)
	}
	in := report.Instances[0]
	if in.State != capture.LostState || !strings.Contains(in.Problem, "LINUX_SLL in place of EN10MB") || !strings.Contains(in.Hint, "pcapng") {
		t.Errorf("%s %q %q", in.State, in.Problem, in.Hint)
	}
	if n := countRecords(t, f.path); n != 25 || report.Packets != 25 {
		t.Errorf("%d packets in the file, %d reported", n, report.Packets)
	}
}
