package capture_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/pcapgo"

	"github.com/sshpcap/sshpcap/capture"
)

// uneven writes packets of all lengths until it is told to stop.
func uneven(instance byte) func(*helper) {
	return func(h *helper) {
		random := rand.New(rand.NewPCG(1, uint64(instance)))
		for !h.stopped() && h.Context().Err() == nil {
			data := make([]byte, 5+random.IntN(300))
			data[0] = instance
			binary.BigEndian.PutUint32(data[1:], uint32(h.written))
			if h.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(data), Length: len(data)}, data) == nil {
				h.written++
			}
		}
	}
}

// tally is what can be read from a file of each instance.
type tally map[byte]struct{ packets, bytes int64 }

func (n tally) read(t *testing.T, path string) (packets int64) {
	t.Helper()
	fd, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	var next func() ([]byte, gopacket.CaptureInfo, error)
	if strings.HasSuffix(path, ".pcapng") {
		ng, err := pcapgo.NewNgReader(fd, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			t.Fatal(err)
		}
		next = ng.ReadPacketData
	} else {
		r, err := pcapgo.NewReader(fd)
		if err != nil {
			t.Fatal(err)
		}
		next = r.ReadPacketData
	}
	for {
		data, _, err := next()
		if errors.Is(err, io.EOF) {
			return packets
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		was := n[data[0]]
		was.packets++
		was.bytes += int64(len(data))
		n[data[0]] = was
		packets++
	}
}

// checkAccounts checks that the report claims what can be read from the files, to the packet, and which files there are.
func checkAccounts(t *testing.T, f *fixture, report capture.Report) {
	t.Helper()
	checkSums(t, report)
	whole, named := make(tally), make(map[string]bool)
	for _, account := range report.Output.Accounts {
		named[account.Path] = true
		read := whole
		if f.PerInstance && (strings.Contains(account.Path, ".a.") || strings.Contains(account.Path, ".b.")) {
			read = make(tally)
		}
		if n := read.read(t, account.Path); n != account.Packets {
			t.Errorf("%s: %d packets, the report says %d", filepath.Base(account.Path), n, account.Packets)
		}
		if info, err := os.Stat(account.Path); err != nil || info.Size() != account.Bytes {
			t.Errorf("%s: %v, the report says %d bytes: %v", filepath.Base(account.Path), info.Size(), account.Bytes, err)
		}
	}
	for i, in := range report.Instances {
		got := whole[byte(i+1)]
		if iface := in.Interfaces[0]; iface.Written != got.packets || iface.Bytes != got.bytes {
			t.Errorf("%s: %d packets and %d bytes of it, the report says %d and %d", in.Name, got.packets, got.bytes, iface.Written, iface.Bytes)
		}
	}
	for _, path := range beside(t, f) {
		if !named[path] {
			t.Errorf("the report does not name %s", path)
		}
	}
}

// outputKinds are the ways in which an output can be several files.
var outputKinds = map[string]func(*fixture){
	"plain":    func(*fixture) {},
	"rotated":  func(f *fixture) { f.Rotation.Size = 40_000 },
	"each":     func(f *fixture) { f.PerInstance = true },
	"both":     func(f *fixture) { f.PerInstance, f.Rotation.Size = true, 40_000 },
	"interval": func(f *fixture) { f.PerInstance, f.Rotation.Interval = true, time.Millisecond },
}

// smallDisk mounts a file system of a size, where that is allowed.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") == "" {
		t.Skip("no right to mount")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A disk that fills up: of each file the report says what is in it, to the packet, however many files there are and
// wherever the disk was full.
func TestAccountsOnFullDisk(t *testing.T) {
	sizes := []int{5 << 12, 37 << 12, 90 << 12}
	if os.Getenv("SSHPCAP_SOAK") != "" {
		sizes = nil
		for pages := 1; pages < 200; pages += 3 {
			sizes = append(sizes, pages<<12)
		}
	}
	for kind, change := range outputKinds {
		for _, name := range []string{"x.pcapng", "x.pcap"} {
			for _, size := range sizes {
				t.Run(fmt.Sprintf("%s %s %d", kind, name, size), func(t *testing.T) {
					f := newFixture(t, name, instance(t, "a", tcpdump{give: uneven(1)}.run), instance(t, "b", tcpdump{give: uneven(2)}.run))
					change(f)
					f.path = filepath.Join(smallDisk(t, size), name)
					f.Output.Path = f.path
					report, err := f.run(t, nil)
					if !errors.Is(err, syscall.ENOSPC) || report.End != capture.EndOutput {
						t.Fatalf("error %v, end %q", err, report.End)
					}
					checkAccounts(t, f, report)
				})
			}
		}
	}
}

// The same where a file may not become larger, at any byte of a packet.
func TestAccountsAtFileSizeLimit(t *testing.T) {
	if !alone(t) {
		return
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)
	limits := []uint64{100_001, 33_333}
	if os.Getenv("SSHPCAP_SOAK") != "" {
		for n := uint64(1000); n < 400_000; n += 7001 {
			limits = append(limits, n)
		}
	}
	for kind, change := range outputKinds {
		for _, name := range []string{"x.pcapng", "x.pcap"} {
			for _, limit := range limits {
				if kind == "interval" || kind == "rotated" && limit > 40_000 {
					continue // no file becomes as large
				}
				f := newFixture(t, name, instance(t, "a", tcpdump{give: uneven(1)}.run), instance(t, "b", tcpdump{give: uneven(2)}.run))
				change(f)
				if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: before.Max}); err != nil {
					t.Fatal(err)
				}
				report, err := f.run(t, nil)
				syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)
				if !errors.Is(err, syscall.EFBIG) || report.End != capture.EndOutput || !strings.Contains(err.Error(), "larger") {
					t.Fatalf("%s %s %d: error %v, end %q", kind, name, limit, err, report.End)
				}
				checkAccounts(t, f, report)
			}
		}
	}
}

// A file that is whole has its account, too.
func TestAccounts(t *testing.T) {
	for kind, change := range outputKinds {
		f := newFixture(t, "x.pcapng", instance(t, "a", tcpdump{give: uneven(1)}.run), instance(t, "b", tcpdump{give: uneven(2)}.run))
		change(f)
		f.Count = 3000
		report, err := f.run(t, nil)
		if err != nil || report.Packets != 3000 {
			t.Errorf("%s: %d packets, error %v", kind, report.Packets, err)
		}
		checkAccounts(t, f, report)
	}
}
