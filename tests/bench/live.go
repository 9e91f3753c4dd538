package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/tests/farm"
)

// Each session gives packets of this size, as fast as they are taken: so many in all.
const (
	liveSize    = 1000
	livePackets = 1_280_000
	liveHeader  = 24 // of a pcap stream
	liveRecord  = 16 + liveSize
)

// liveTable compares a capture of busy sessions into a file with the SSH library alone, which throws the bytes away. The
// servers are in a process of their own, on the same two processors or how many there are.
func liveTable(o options) error {
	fmt.Printf("Live, %d packets of %d bytes in all: bytes a second that the library alone takes and throws away, and the part of it\nthat a capture takes, merges and writes to a file in %s; medians of %d runs in turn.\n\n", livePackets, liveSize, o.dir, o.runs)
	fmt.Printf("%8s  %12s  %10s  %10s\n", "sessions", "thrown away", "captured", "memory")
	for _, k := range []int{1, 16, 128} {
		if err := liveRow(o, k); err != nil {
			return fmt.Errorf("%d sessions: %w", k, err)
		}
	}
	return nil
}

func liveRow(o options, k int) error {
	dir, err := os.MkdirTemp(o.dir, "sshpcap-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	each := livePackets / k
	f, err := farm.Launch(dir, farm.Farm{Instances: k, First: each, Size: liveSize, Ends: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var ours, alone []time.Duration
	bytes, memory := int64(k*each*liveRecord), int64(0)
	for range o.runs {
		if err := warm(dir, 2*bytes); err != nil {
			return err
		}
		d, err := drainAll(f, each)
		if err != nil {
			return err
		}
		alone = append(alone, d)
		if err := warm(dir, 2*bytes); err != nil {
			return err
		}
		d, m, err := captureAll(o, f, dir, each*k)
		if err != nil {
			return err
		}
		ours, memory = append(ours, d), max(memory, m)
	}
	base := median(alone).Seconds()
	fmt.Printf("%8d  %7.0f MB/s  %8.2f x  %6d MiB\n", k, float64(bytes)/base/1e6, base/median(ours).Seconds(), memory>>20)
	return nil
}

// drainAll has the library alone take all that the farm gives.
func drainAll(f *farm.Process, each int) (time.Duration, error) {
	cmd, err := again(bareEnv, strconv.Itoa(liveHeader+each*liveRecord))
	if err != nil {
		return 0, err
	}
	hostKey := strings.Fields(string(ssh.MarshalAuthorizedKey(f.HostKey)))[1]
	cmd.Stdin = strings.NewReader(fmt.Sprintln(f.Key, hostKey, strings.Join(f.Addresses, ",")))
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("the library alone: %w: %s", err, out)
	}
	return time.Since(start), nil
}

// captureAll captures all that the farm gives, up to the helpers' end: that they ended by themselves is told by exit code 3.
func captureAll(o options, f *farm.Process, dir string, packets int) (time.Duration, int64, error) {
	output := filepath.Join(dir, "x.pcapng")
	cmd := exec.Command(o.sshpcap, "capture", "@"+f.Targets, "-F", f.Config, "-o", output, "--overwrite", "-q")
	start := time.Now()
	said, err := cmd.CombinedOutput()
	took := time.Since(start)
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 3 {
		return 0, 0, fmt.Errorf("%w: %s", err, said)
	}
	defer os.Remove(output)
	n, err := farm.CountPackets(output)
	if err == nil && n != packets {
		err = fmt.Errorf("%d packets in the file, not %d", n, packets)
	}
	return took, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10, err
}

// takeAll reads so many bytes of each session, and then is done with it.
func takeAll(out io.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, out, n)
	return err
}
