package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// workload is one kind of input files.
type workload struct {
	name    string
	sizes   []int // of packets, which are drawn from these with the same probability each
	packets int   // in all files together
	pcap    float64
	pcapng  float64 // the targets, as multiples of the time of a copy
	peer    float64 // and how many times as fast as mergecap, at 16 inputs and more
}

// imix is the simple Internet mix: 7 packets of 64 bytes to 4 of 576 and 1 of 1,500.
var imix = []int{64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1500}

func workloads(scale float64) []workload {
	return []workload{
		{"100 bytes", []int{100}, int(20e6 * scale), 1, 1.4, 5},
		{"IMIX", imix, int(8e6 * scale), 1.2, 1.4, 3},
	}
}

// generate writes k pcap files in time order. Every burst of packets goes to a file drawn by lot. With bursts of one packet
// runs are as short as can be: of k files, one packet and 1/(k-1) of another.
func (w workload) generate(dir string, k, burst int) (names []string, err error) {
	random := rand.New(rand.NewPCG(1, uint64(k)))
	out := make([]*bufio.Writer, k)
	for i := range out {
		name := filepath.Join(dir, fmt.Sprintf("%04d.pcap", i))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, out[i].Flush(), f.Close()) }()
		names = append(names, name)
		out[i] = bufio.NewWriterSize(f, 64<<10)
		head := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
		head = append(head, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		head = binary.LittleEndian.AppendUint32(head, 262144)
		out[i].Write(binary.LittleEndian.AppendUint32(head, 1))
	}
	packet := make([]byte, 16+65536)
	for i := range packet {
		packet[i] = byte(random.Uint32())
	}
	at := uint64(1_700_000_000e6)
	to := 0
	for i := range w.packets {
		if i%burst == 0 {
			to = random.IntN(k)
		}
		at += random.Uint64N(3)
		size := w.sizes[random.IntN(len(w.sizes))]
		binary.LittleEndian.PutUint32(packet, uint32(at/1e6))
		binary.LittleEndian.PutUint32(packet[4:], uint32(at%1e6))
		binary.LittleEndian.PutUint32(packet[8:], uint32(size))
		binary.LittleEndian.PutUint32(packet[12:], uint32(size))
		out[to].Write(packet[:16+size]) // bufio keeps the first error for Flush
	}
	return names, nil
}

// onlyWriter and onlyReader keep io.Copy from shortcuts in the kernel.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }

// copyAll is what others are compared with: one goroutine that copies the same bytes with a buffer of 1 MiB.
func copyAll(to string, names []string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, 1<<20)
	for _, name := range names {
		in, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(onlyWriter{out}, onlyReader{in}, buf)
		in.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// contestant merges files into one.
type contestant struct {
	name string
	run  func(out string, names []string) (memory int64, err error) // bytes at the peak
}

// program is one that runs as a process of its own.
func program(name string, argv ...string) contestant {
	return contestant{name, func(out string, names []string) (int64, error) {
		cmd := exec.Command(argv[0], append(append(argv[1:len(argv):len(argv)], out), names...)...)
		said, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%s: %w: %s", name, err, said)
		}
		return cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10, nil
	}}
}

// mergeTable compares merging files.
func mergeTable(o options) error {
	ours := []contestant{
		{"copy", func(out string, names []string) (int64, error) { return 0, copyAll(out, names) }},
		program("pcap", o.sshpcap, "merge", "--progress", "none", "--overwrite", "--format", "pcap", "-o"),
		program("pcapng", o.sshpcap, "merge", "--progress", "none", "--overwrite", "--format", "pcapng", "-o"),
	}
	if path, err := exec.LookPath("mergecap"); err == nil {
		ours = append(ours, program("mergecap", path, "-F", "pcap", "-w"))
	}
	fmt.Printf("Merging files, %s: the time of a copy of the same bytes (one goroutine, buffers of 1 MiB), and multiples of it;\nmedians of %d runs in turn.\n%s\n\n", o.dir, o.runs, machineLegend)
	fmt.Printf("%-10s %5s %10s %8s | %6s %8s | %6s %8s | %s | %8s %6s %16s\n", "packets", "files", "bytes", "copy", "pcap", "memory", "pcapng", "memory", machineHead, "mergecap", "memory", "pcap is")
	for _, w := range workloads(o.scale) {
		for _, k := range o.counts {
			if err := mergeRow(o, w, k, ours); err != nil {
				return err
			}
		}
	}
	return nil
}

func mergeRow(o options, w workload, k int, of []contestant) error {
	dir, err := os.MkdirTemp(o.dir, "sshpcap-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	names, err := w.generate(dir, k, o.burst)
	if err != nil {
		return err
	}
	size := int64(0)
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			size += info.Size()
		}
	}
	times, memory := make([][]time.Duration, len(of)), make([]int64, len(of))
	var at machine
	for range o.runs {
		for i, c := range of {
			if err := warm(dir, size+size/4); err != nil {
				return err
			}
			if err := at.look(); err != nil {
				return err
			}
			out := filepath.Join(dir, "out")
			start := time.Now()
			m, err := c.run(out, names)
			times[i] = append(times[i], time.Since(start))
			memory[i] = max(memory[i], m)
			if err != nil {
				return err
			}
			os.Remove(out)
		}
	}
	base := median(times[0]).Seconds()
	x := func(i int) float64 { return median(times[i]).Seconds() / base }
	fmt.Printf("%-10s %5d %7.2f GB %7.2f s | %4.2f x %4d MiB | %4.2f x %4d MiB | %s |", w.name, k, float64(size)/1e9, base, x(1), memory[1]>>20, x(2), memory[2]>>20, &at)
	if len(of) > 3 {
		fmt.Printf(" %6.2f x %2d MiB %7.1f x faster", x(3), memory[3]>>20, x(3)/x(1))
	}
	fmt.Println()
	return nil
}
