package demo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// TestTshark has an expert look at each instance's capture.
func TestTshark(t *testing.T) {
	t.Parallel()
	for role, protocols := range map[string][]string{Web: {"http"}, App: {"http", "pgsql"}, DB: {"pgsql"}} {
		lost, counts := 0, make(map[string]int)
		for _, f := range tshark(t, writeCapture(t, conversation()[role])) {
			for _, protocol := range strings.Split(f.protocols, ":") {
				counts[protocol]++
			}
			if f.retransmitted {
				lost++
				continue
			}
			if f.odd {
				t.Errorf("%s: %s", role, f.line)
			}
			// The start of a message that is reassembled, or is sent again, is no packet of its protocol yet.
			if f.data && !f.reassembled && !strings.Contains(f.protocols, "http") && !strings.Contains(f.protocols, "pgsql") {
				t.Errorf("%s: not understood: %s", role, f.line)
			}
		}
		if want := map[string]int{Web: requestsToLose()}[role]; lost != want {
			t.Errorf("%s: %d retransmissions, want %d", role, lost, want)
		}
		for _, protocol := range protocols {
			if counts[protocol] < 80 {
				t.Errorf("%s: only %d packets of %s", role, counts[protocol], protocol)
			}
		}
	}
}

func writeCapture(t *testing.T, packets []Packet) string {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(snaplen, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(p.Data), Length: len(p.Data)}
		if err := w.WritePacket(info, p.Data); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "capture.pcap")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// finding is what tshark has to say on a frame.
type finding struct {
	line          string // all of it
	protocols     string
	data          bool // the frame has some
	reassembled   bool // later, with others
	retransmitted bool
	odd           bool // malformed, a wrong checksum, or anything else that an expert notices
}

// tshark must be there in CI.
func tshark(t *testing.T, file string) []finding {
	t.Helper()
	path, err := exec.LookPath("tshark")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	fields := []string{
		"frame.protocols", "tcp.len", "tcp.reassembled_in", "tcp.analysis.retransmission", "tcp.analysis.flags",
		"_ws.malformed", "_ws.expert.severity", "ip.checksum.status", "tcp.checksum.status", "_ws.expert.message",
	}
	args := []string{"-2", "-r", file, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-T", "fields"}
	for _, field := range fields {
		args = append(args, "-e", field)
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Env = append(os.Environ(), fmt.Sprint("HOME=", t.TempDir())) // nobody's preferences
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, &stderr)
	}
	var found []finding
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != len(fields) {
			t.Fatalf("tshark: %q", line)
		}
		found = append(found, finding{
			line: line, protocols: f[0], data: f[1] != "0", reassembled: f[2] != "", retransmitted: f[3] != "",
			odd: f[4] != "" || f[5] != "" || severe(f[6]) || f[7] != "1" || f[8] != "1",
		})
	}
	return found
}

// severe finds warnings (0x600000) and errors in a list of numbers; notes and chats are less.
func severe(list string) bool {
	for _, number := range strings.Split(list, ",") {
		if n, _ := strconv.ParseInt(number, 0, 64); n >= 0x600000 {
			return true
		}
	}
	return false
}
