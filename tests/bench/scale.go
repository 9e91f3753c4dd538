package main

import (
	"bufio"
	"bytes"
	"encoding/json"
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

// Packets that each instance gives: at first, and when it is asked to end.
const (
	scaleFirst = 10
	scaleLast  = 10
)

// The round trip of a long line, and how many instances are at its end.
const (
	longLine = 100 * time.Millisecond
	farAway  = 100
)

// sample is what a client with a number of instances took.
type sample struct {
	connect time.Duration // from its start until all capture
	cpu     time.Duration // until then
	memory  int64         // bytes resident, with all connected and silent
	stop    time.Duration // from ^C to its end
}

// scaleTable prints what captures on 1 to 1,000 instances cost, beside the SSH library alone. The instances are in a
// process of their own.
func scaleTable(o options) error {
	fmt.Printf("%9s  %18s  %26s  %30s  %11s\n", "instances", "all capturing", "client CPU", "memory", "^C to prompt")
	var one, bareOne sample
	for _, n := range []int{1, 10, 100, 1000} {
		ours, bare, err := scaleRow(o, n)
		if err != nil {
			return fmt.Errorf("%d instances: %w", n, err)
		}
		if n == 1 {
			one, bareOne = ours, bare
		}
		printScale(n, ours, bare, one, bareOne)
	}
	return longLines(o)
}

func printScale(n int, ours, bare, one, bareOne sample) {
	each := ""
	if n > 1 {
		grown := func(s, one sample) float64 { return float64(s.memory-one.memory) / float64(n-1) / 1024 }
		each = fmt.Sprintf(", each %.0f KiB + %.0f KiB", grown(bare, bareOne), grown(ours, one)-grown(bare, bareOne))
	}
	fmt.Printf("%9d  %16.3f s  %8.3f s, %5.2f x bare  %6.1f MiB%s  %9.3f s\n", n, ours.connect.Seconds(),
		ours.cpu.Seconds(), ours.cpu.Seconds()/bare.cpu.Seconds(), float64(ours.memory)/(1<<20), each, ours.stop.Seconds())
}

// scaleRow runs both clients in turn and gives the medians.
func scaleRow(o options, n int) (ours, bare sample, err error) {
	dir, err := os.MkdirTemp(o.dir, "bench")
	if err != nil {
		return ours, bare, err
	}
	defer os.RemoveAll(dir)
	f, err := farm.Launch(dir, farm.Farm{Instances: n, First: scaleFirst, Last: scaleLast})
	if err != nil {
		return ours, bare, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var all, allBare []sample
	for range o.runs {
		s, err := scaleBare(f)
		if err != nil {
			return ours, bare, fmt.Errorf("the library alone: %w", err)
		}
		allBare = append(allBare, s)
		if s, err = scaleCapture(o, f, dir); err != nil {
			return ours, bare, err
		}
		all = append(all, s)
	}
	return medianSample(all), medianSample(allBare), nil
}

func medianSample(of []sample) (m sample) {
	pick := func(value func(*sample) int64) int64 {
		var all []int64
		for i := range of {
			all = append(all, value(&of[i]))
		}
		return median(all)
	}
	m.connect = time.Duration(pick(func(s *sample) int64 { return int64(s.connect) }))
	m.cpu = time.Duration(pick(func(s *sample) int64 { return int64(s.cpu) }))
	m.memory = pick(func(s *sample) int64 { return s.memory })
	m.stop = time.Duration(pick(func(s *sample) int64 { return int64(s.stop) }))
	return m
}

// client is a process that says on a pipe how far it is.
type client struct {
	*exec.Cmd
	lines *bufio.Scanner
	said  bytes.Buffer
	began time.Time
}

func startClient(cmd *exec.Cmd, pipe func() (io.ReadCloser, error)) (*client, error) {
	out, err := pipe()
	if err != nil {
		return nil, err
	}
	c := &client{Cmd: cmd, lines: bufio.NewScanner(out), began: time.Now()}
	return c, cmd.Start()
}

// until reads what the client says up to a line that begins with some words.
func (c *client) until(words string) error {
	for c.lines.Scan() {
		fmt.Fprintln(&c.said, c.lines.Text())
		if strings.HasPrefix(c.lines.Text(), words) {
			return nil
		}
	}
	return fmt.Errorf("it never said %q, but: %s", words, &c.said)
}

// drain reads the rest.
func (c *client) drain() {
	for c.lines.Scan() {
		fmt.Fprintln(&c.said, c.lines.Text())
	}
}

// settle is how long clients are left alone before their memory is looked at.
const settle = time.Second

func scaleBare(f *farm.Process) (s sample, err error) {
	cmd, err := again(bareEnv, "1")
	if err != nil {
		return s, err
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return s, err
	}
	c, err := startClient(cmd, cmd.StdoutPipe)
	if err != nil {
		return s, err
	}
	defer func() { stdin.Close(); c.drain(); err = errors.Join(err, cmd.Wait()) }()
	hostKey := strings.Fields(string(ssh.MarshalAuthorizedKey(f.HostKey)))[1]
	fmt.Fprintln(stdin, f.Key, hostKey, strings.Join(f.Addresses, ","))
	if err := c.until("connected"); err != nil {
		return s, err
	}
	s.connect = time.Since(c.began)
	if s.cpu, err = cpuTime(cmd.Process.Pid); err != nil {
		return s, err
	}
	if err := c.until("running"); err != nil {
		return s, err
	}
	time.Sleep(settle)
	s.memory, err = resident(cmd.Process.Pid)
	return s, err
}

func scaleCapture(o options, f *farm.Process, dir string) (s sample, err error) {
	output, report := filepath.Join(dir, "x.pcapng"), filepath.Join(dir, "report.json")
	cmd := exec.Command(o.sshpcap, "capture", "@"+f.Targets, "-F", f.Config, "-o", output, "--overwrite", "--report", report, "--progress", "none")
	c, err := startClient(cmd, cmd.StderrPipe)
	if err != nil {
		return s, err
	}
	defer cmd.Process.Kill() // if it has not ended
	if err := c.until("Capturing on "); err != nil {
		return s, err
	}
	s.connect = time.Since(c.began)
	if s.cpu, err = cpuTime(cmd.Process.Pid); err != nil {
		return s, err
	}
	time.Sleep(settle)
	if s.memory, err = resident(cmd.Process.Pid); err != nil {
		return s, err
	}
	stopped := time.Now()
	cmd.Process.Signal(syscall.SIGINT)
	c.drain()
	if err := cmd.Wait(); err != nil {
		return s, fmt.Errorf("%w: %s", err, &c.said)
	}
	s.stop = time.Since(stopped)
	return s, accounted(output, report, len(f.Addresses))
}

// accounted checks that every packet is in the file and in the report.
func accounted(output, report string, instances int) error {
	text, err := os.ReadFile(report)
	if err != nil {
		return err
	}
	var r struct {
		Packets   int
		Instances []struct {
			Name, State string
			Interfaces  []struct{ Received, Written int }
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	const each = scaleFirst + scaleLast
	for _, in := range r.Instances {
		if i := in.Interfaces; in.State != "ok" || len(i) != 1 || i[0].Received != each || i[0].Written != each {
			return fmt.Errorf("%+v, want %d packets", in, each)
		}
	}
	inFile, err := farm.CountPackets(output)
	if err == nil && (r.Packets != instances*each || len(r.Instances) != instances || inFile != instances*each) {
		err = fmt.Errorf("%d packets of %d instances in the report, %d in the file", r.Packets, len(r.Instances), inFile)
	}
	return err
}

// cpuTime is what a process has used so far, all its threads together.
func cpuTime(pid int) (sum time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, errors.New("no /proc to see CPU times in")
	}
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		ns, _ := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		sum += time.Duration(ns)
	}
	return sum, nil
}

// resident is how much memory a process has now, in bytes.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kib << 10, err
}

// longLines compares one and many instances behind a line with a long round trip.
func longLines(o options) error {
	o.runs = max(o.runs, 3)
	var took [2]time.Duration
	for i, n := range []int{1, farAway} {
		s, err := longLineRow(o, n)
		if err != nil {
			return fmt.Errorf("%d instances at %v: %w", n, longLine, err)
		}
		took[i] = s.connect
	}
	fmt.Printf("\n%d instances at %v round trip: all capture after %.3f s, one alone after %.3f s: %.2f x\n", farAway, longLine,
		took[1].Seconds(), took[0].Seconds(), took[1].Seconds()/took[0].Seconds())
	return nil
}

func longLineRow(o options, n int) (s sample, err error) {
	dir, err := os.MkdirTemp(o.dir, "bench")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	f, err := farm.Launch(dir, farm.Farm{Instances: n, First: scaleFirst, Last: scaleLast, Delay: longLine / 2})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var all []sample
	for range o.runs {
		s, err := scaleCapture(o, f, dir)
		if err != nil {
			return s, err
		}
		all = append(all, s)
	}
	return medianSample(all), nil
}
