package tests

import (
	"bytes"
	encoding "encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// leftOut is an instance that did not run.
type leftOut struct{ Name, Target, State, Details string }

// report is what --report writes, version 1.
type report struct {
	Version int    `json:"version"`
	Program string `json:"program"`
	Started string `json:"started"`
	Ready   string `json:"ready"`
	Ended   string `json:"ended"`
	End     string `json:"end"`
	Output  struct {
		Path    string `json:"path"`
		Format  string `json:"format"`
		Packets uint64 `json:"packets"`
		Bytes   int64  `json:"bytes"`
		InOrder bool   `json:"in_order"`
	} `json:"output"`
	Packets   uint64    `json:"packets"`
	Bytes     uint64    `json:"bytes"`
	LeftOut   []leftOut `json:"left_out"`
	Instances []struct {
		Name    string `json:"name"`
		Target  string `json:"target"`
		Address string `json:"address"`
		State   string `json:"state"`
		Problem string `json:"problem"`
		Hint    string `json:"hint"`
		Helper  string `json:"helper"`
		Sudo    bool   `json:"sudo"`

		Notes []string `json:"notes"`

		Interfaces []struct {
			Name      string   `json:"name"`
			LinkType  string   `json:"link_type"`
			Received  uint64   `json:"received"`
			Written   uint64   `json:"written"`
			Discarded uint64   `json:"discarded"`
			Late      uint64   `json:"late"`
			Gaps      uint64   `json:"gaps"`
			Truncated uint64   `json:"truncated"`
			Bytes     uint64   `json:"bytes"`
			Captured  *uint64  `json:"captured"`
			Filtered  *uint64  `json:"filtered"`
			Dropped   *uint64  `json:"dropped"`
			First     string   `json:"first"`
			Last      string   `json:"last"`
			End       string   `json:"end"`
			Without   []string `json:"without"`
		} `json:"interfaces"`
	} `json:"instances"`
}

// result reads the report of a capture that has ended.
func (c *client) result() report {
	c.t.Helper()
	var r report
	b, err := os.ReadFile(c.report)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		c.t.Fatalf("%v: %s", err, b)
	}
	if r.Version != 1 {
		c.t.Errorf("report version %d", r.Version)
	}
	return r
}

// states is "NAME=STATE …" in the report's order.
func (r report) states() string {
	var s []string
	for _, i := range r.Instances {
		s = append(s, i.Name+"="+i.State)
	}
	return strings.Join(s, " ")
}

// written is how many packets of an instance are in the output.
func (r report) written(instance string) uint64 {
	var n uint64
	for _, i := range r.Instances {
		for _, f := range i.Interfaces {
			if i.Name == instance {
				n += f.Written
			}
		}
	}
	return n
}

// late is how many packets came too late to be put in order.
func (r report) late() uint64 {
	var n uint64
	for _, i := range r.Instances {
		for _, f := range i.Interfaces {
			n += f.Late
		}
	}
	return n
}

// check reads the report and holds it against the file: whole records in time order, every number that is in both, and
// the sums.
func (c *client) check(file string) report {
	c.t.Helper()
	r := c.result()
	n, strict := capinfos(c.t, file)
	if late := r.late(); late > 0 {
		// A machine that is busy with other tests may hold an instance up for longer than the window.
		c.t.Logf("%d packets came late; in order: %v", late, r.Output.InOrder)
	}
	if r.Output.InOrder && !strict || r.late() == 0 && !r.Output.InOrder {
		c.t.Errorf("%s: strict time order %v, and the report says %v", file, strict, r.Output.InOrder)
	}
	var written, bytes uint64
	for _, i := range r.Instances {
		for _, f := range i.Interfaces {
			written += f.Written
			bytes += f.Bytes
			if f.Received != f.Written+f.Discarded {
				c.t.Errorf("%s: received %d, but %d written and %d discarded", f.Name, f.Received, f.Written, f.Discarded)
			}
			if i.State == "ok" && f.Captured != nil && *f.Captured != f.Received {
				c.t.Errorf("%s: its helper captured %d, %d received", f.Name, *f.Captured, f.Received)
			}
			if first, last := moment(c.t, f.First), moment(c.t, f.Last); f.Written > 0 && first.After(last) {
				c.t.Errorf("%s: first %s is after last %s", f.Name, f.First, f.Last)
			}
		}
	}
	if n != int(written) || r.Packets != written || r.Output.Packets != written || r.Bytes != bytes {
		c.t.Errorf("the file has %d packets; report: %d, output %d, interfaces %d; bytes %d, interfaces %d",
			n, r.Packets, r.Output.Packets, written, r.Bytes, bytes)
	}
	st, err := os.Stat(file)
	if err != nil {
		c.t.Fatal(err)
	}
	if st.Size() != r.Output.Bytes {
		c.t.Errorf("the file has %d bytes, the report says %d", st.Size(), r.Output.Bytes)
	}
	if st.Mode().Perm() != 0o600 {
		c.t.Errorf("the file's mode is %v, want 0600", st.Mode())
	}
	for _, at := range []string{r.Started, r.Ended} {
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
			c.t.Errorf("report: %v", err)
		}
	}
	return r
}

// moment is a time of a report; zero where there is none.
func moment(t testing.TB, text string) (at time.Time) {
	t.Helper()
	if text != "" {
		if err := at.UnmarshalText([]byte(text)); err != nil {
			t.Error(err)
		}
	}
	return at
}

// capinfos checks that a file has whole records, counts them and reports whether they are in strict time order.
func capinfos(t testing.TB, file string) (n int, strict bool) {
	t.Helper()
	out, err := exec.Command("capinfos", "-M", "-c", "-o", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), "cut short") {
		t.Fatalf("capinfos: %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); key {
		case "Number of packets":
			if n, err = strconv.Atoi(value); err != nil {
				t.Fatal(err)
			}
		case "Strict time order":
			strict = value == "True"
		}
	}
	return n, strict || n == 0 // it calls a file without packets unordered
}

// frame is one packet of a capture.
type frame struct {
	time  string // as tshark prints it
	iface string
	port  string // UDP destination; "" when it is not UDP
	data  string // UDP payload in hex
}

func frames(t testing.TB, file string) []frame {
	t.Helper()
	cmd := exec.Command("tshark", "-n", "-r", file, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.interface_name",
		"-e", "udp.dstport", "-e", "udp.payload")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, stderr.String())
	}
	var all []frame
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 4 {
			t.Fatalf("tshark: %q", line)
		}
		all = append(all, frame{f[0], f[1], f[2], f[3]})
	}
	return all
}

// matching is tshark's line for each packet that a display filter lets through.
func matching(t testing.TB, file, filter string) []string {
	t.Helper()
	out, err := exec.Command("tshark", "-n", "-r", file, "-Y", filter).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")[:strings.Count(string(out), "\n")]
}

// sight is what a capture has to show: every packet of a flow, as an interface has seen it. A pcap file has no names.
type sight struct {
	flow  *bed.Flow
	iface string
}

// exactly checks that the file has every packet of the sights once each, and no others.
func exactly(t testing.TB, file string, sights ...sight) {
	t.Helper()
	want := map[string]int{}
	for _, s := range sights {
		for n := range s.flow.Sent() {
			want[fmt.Sprintf("%s %08x%08x", s.iface, s.flow.Port, n)]++
		}
	}
	var extra []string
	for _, f := range frames(t, file) {
		id := f.iface + " " + f.data[:min(16, len(f.data))]
		if want[id]--; want[id] < 0 {
			extra = append(extra, id)
		}
	}
	var lost []string
	for id, n := range want {
		if n > 0 {
			lost = append(lost, id)
		}
	}
	if len(extra)+len(lost) > 0 {
		t.Errorf("of %d packets %d are missing, %d are too many; missing %.10q, too many %.10q",
			len(want), len(lost), len(extra), lost[:min(5, len(lost))], extra[:min(5, len(extra))])
	}
}

// arrived waits until n packets are in a file that is being written. It does not fail: what is missing in the end is for
// the checks of the finished file to say.
func arrived(t testing.TB, file string, n int) {
	t.Helper()
	deadline := time.Now().Add(8 * time.Second)
	for got := 0; got < n; got = countRecords(file) {
		if time.Now().After(deadline) {
			t.Logf("only %d of %d packets are in the file", got, n)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var little = encoding.LittleEndian

// countRecords counts the whole packets in a pcap or pcapng file of a little endian machine.
func countRecords(file string) int {
	b, _ := os.ReadFile(file)
	if len(b) < 24 {
		return 0
	}
	n := 0
	if little.Uint32(b) != 0x0a0d0d0a {
		for b = b[24:]; len(b) >= 16; n++ {
			size := 16 + int(little.Uint32(b[8:]))
			if size > len(b) {
				break
			}
			b = b[size:]
		}
		return n
	}
	for len(b) >= 12 {
		kind, size := little.Uint32(b), int(little.Uint32(b[4:]))
		if size < 12 || size > len(b) {
			break
		}
		if kind == 6 { // enhanced packet block
			n++
		}
		b = b[size:]
	}
	return n
}
