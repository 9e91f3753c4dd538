package files_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"github.com/sshpcap/sshpcap/files"
)

// readGopacket reads packets by pcapgo, as far as it can.
func readGopacket(t *testing.T, path string) (all []packet, err error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	for err == nil {
		data, info, readErr := r.ReadPacketData()
		if err = readErr; err == nil {
			at := int64(0)
			if !info.Timestamp.IsZero() {
				at = info.Timestamp.UnixNano()
			}
			if len(all) > 0 && info.Timestamp.IsZero() { // a simple packet, which has no time: it stays where it is
				at = all[len(all)-1].time
			}
			all = append(all, packet{time: at, data: string(data)})
		}
	}
	return all, err
}

// TestGopacketFiles reads the files that gopacket's reader is tested with, in both byte orders, as that one does.
func TestGopacketFiles(t *testing.T) {
	t.Parallel()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/gopacket").Output()
	if err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "pcapgo", "tests", "?e", "*.pcapng"))
	if len(names) < 50 {
		t.Fatalf("%d files", len(names))
	}
	packets := 0
	for _, name := range names {
		t.Run(filepath.Base(filepath.Dir(name))+"/"+filepath.Base(name), func(t *testing.T) {
			want, theirs := readGopacket(t, name)
			whole := errors.Is(theirs, io.EOF) // else a version that neither knows
			slices.SortStableFunc(want, func(a, b packet) int { return int(min(max(a.time-b.time, -1), 1)) })
			out := filepath.Join(t.TempDir(), "out")
			report, err := files.Merge(context.Background(), files.Config{Inputs: []string{name}, Path: out})
			if err != nil {
				t.Fatal(err)
			}
			if in := report.Inputs[0]; in.Damage != nil || (in.Skipped == 0) != whole {
				t.Errorf("damage: %v, %d skipped; pcapgo says %v", in.Damage, in.Skipped, theirs)
			}
			got, err := readGopacket(t, out)
			if !errors.Is(err, io.EOF) {
				t.Errorf("of ours pcapgo says %v", err)
			}
			if !whole && len(got) > len(want) {
				got = got[:len(want)] // of a section behind that of the other version
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d packets, and pcapgo reads %d:\n%v\n%v", len(got), len(want), got, want)
			}
			packets += len(got)
		})
	}
	if packets < 100 {
		t.Errorf("only %d packets", packets)
	}
}
