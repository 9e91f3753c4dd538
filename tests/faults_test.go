package tests

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// soak makes tests of faults last as long as the faults do in life; without it they are as short as they can be.
var soak = os.Getenv("SSHPCAP_SOAK") != ""

// fault is something that goes wrong in the middle of a capture of two hosts, or before it. It happens to web1, to the client
// or to its output; web2 has to come out whole.
type fault struct {
	name    string
	options bed.Options
	args    []string
	rate    int              // of what web1 sends, packets a second; 0 = rate
	stepped bool             // the clock of web1 can be set
	early   bool             // it happens before anything can be captured on web1
	prepare func(*scene)     // before the client starts; with early, it is the fault
	strike  func(*scene)     // brings it about
	notice  func(*scene)     // waits until somebody notices; nil: until there is a problem of web1
	end     func(*scene) int // ends the capture and returns the exit code; nil: by ^C

	both     bool // it happens to both hosts
	exit     int
	state    string // of web1
	says     string // what the problem says
	anything bool   // no matter what, but something
	file     content
}

// content is what has to be in the file of what was sent on web1.
type content string

const (
	whole    content = "all"
	prefix   content = "all up to the cut"                   // of the rest nothing
	counted  content = "all but what the kernel dropped"     // and counted
	gapped   content = "all but those of the gap"            // which is marked
	nothing  content = "nothing of this host, all of others" // it was never captured on
	absent   content = "there is no file any more"
	partWise content = "all up to there, of all hosts" // the output ended
)

// scene is a capture to which a fault happens.
type scene struct {
	*testing.T
	fault  *fault
	bed    *bed.Bed
	web1   *bed.Host
	web2   *bed.Host
	flows  []*bed.Flow // on the loopback interfaces of web1 and web2, which no fault of a link hits
	args   []string
	file   string
	c      *client
	ssh    string // what is put in front of the client's SSH configuration
	run    string // lines of shell before the client is started
	output string // for -o, when it is not the file

	terminal *terminal
	unread   func() // ends the reading of output
	heard    int    // how much of stderr awaitNote has seen

	sending sync.WaitGroup
	quiet   chan struct{} // closed to end the sending

	clean   chan struct{} // closed when nothing is left on web1
	cleanAt time.Time     // when that was

	struck  time.Time // the last sign of life, where the fault takes it away
	problem string    // what was said
	took    time.Duration
	left    time.Duration // until nothing was left on web1; 0 = it never had anything, or was stopped as it should
	sent    int
	got     int // of them, in the file
	dropped int // by the kernel, by the helper's report
}

// rate is what each host sends, in packets a second.
const rate = 200

// impatient has the client give up a silent server early.
func (x *scene) impatient() {
	if !soak {
		x.ssh += "Host *\n  ServerAliveInterval 2\n  ServerAliveCountMax 2\n"
	}
}

// TestFaults brings every fault about, checks what comes of it, and holds that against docs/reliability.md.
func TestFaults(t *testing.T) {
	all := slices.Clone(faults)
	if soak {
		seed := uint64(time.Now().UnixNano())
		t.Logf("order by seed %d", seed)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	var mu sync.Mutex
	rows := make(map[string]row)
	t.Run("all", func(t *testing.T) {
		for _, f := range all {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				r := newScene(t, f).play()
				mu.Lock()
				defer mu.Unlock()
				rows[f.name] = r
			})
		}
	})
	if !t.Failed() {
		compareReliability(t, rows)
	}
}

func newScene(t *testing.T, f *fault) *scene {
	t.Helper()
	bed.Require(t, "nft", "tc", "sudo")
	x := &scene{T: t, fault: f, bed: bed.New(t, tools...), quiet: make(chan struct{}), clean: make(chan struct{})}
	options := f.options
	options.Nets = []int{0, 1}
	if f.stepped {
		options.Date = x.steppedDate()
	}
	x.web1, x.web2 = x.bed.Add("web1", options), x.bed.Add("web2", bed.Options{})
	x.bed.Side(1, x.web1)
	x.flows = []*bed.Flow{
		(&bed.Flow{From: x.bed.Hub, To: x.web1, Net: 1, Port: 40001}).Open(t),
		(&bed.Flow{From: x.bed.Hub, To: x.web2, Port: 40002}).Open(t),
	}
	x.file = output(t, "a.pcapng")
	return x
}

// play is the whole of it.
func (x *scene) play() row {
	f := x.fault
	x.args = append([]string{"web1", "web2", "-f", flowFilter, "-s", snaplen}, f.args...)
	if f.prepare != nil {
		f.prepare(x)
	}
	x.struck = time.Now()
	x.start()
	if f.early {
		x.watch()
		x.await()
	}
	x.c.ready() // before it is, nothing that is sent has to be captured
	x.send()
	x.arrived(100)
	if !f.early {
		x.struck = time.Now()
		x.watch()
		f.strike(x)
		x.await()
	}
	exit := x.end()
	x.settle(exit)
	return x.row(exit)
}

// start starts the client.
func (x *scene) start() {
	x.Helper()
	if x.ssh != "" {
		config, err := os.ReadFile(x.bed.SSHConfig())
		if err != nil {
			x.Fatal(err)
		}
		x.args = append(x.args, "-F", x.bed.WriteFile("faulty_config", 0o644, x.ssh+string(config)))
	}
	program := binary
	if x.run != "" {
		program = x.bed.WriteFile("run", 0o755, "#!/bin/sh\n"+x.run+"\nexec '"+binary+"' \"$@\"\n")
	}
	if x.c == nil {
		x.c = startProgram(x, x.bed, program, nil, append(x.args, "-o", cmp.Or(x.output, x.file))...)
	}
}

// send sends to both hosts until hush is called.
func (x *scene) send() {
	for i, flow := range x.flows {
		each := rate
		if i == 0 && x.fault.rate > 0 {
			each = x.fault.rate
		}
		x.sending.Go(func() {
			for {
				select {
				case <-x.quiet:
					return
				default:
				}
				if err := flow.Send(max(each/20, 1), each); err != nil {
					x.Error(err)
					return
				}
				time.Sleep(time.Second / time.Duration(each)) // what comes before the next packet
			}
		})
	}
	x.Cleanup(x.hush)
}

// hush ends the sending, once.
func (x *scene) hush() {
	select {
	case <-x.quiet:
	default:
		close(x.quiet)
	}
	x.sending.Wait()
}

// arrived waits until n packets more are in the file.
func (x *scene) arrived(n int) {
	x.Helper()
	n += countRecords(x.file)
	bed.WaitFor(x, patience, fmt.Sprintf("%d packets are in the file", n), func() bool { return countRecords(x.file) >= n })
}

// await waits until somebody notices, and until nothing is left on web1 if that is what comes of it.
func (x *scene) await() {
	x.Helper()
	if x.fault.notice != nil {
		x.fault.notice(x)
		return
	}
	x.awaitProblem("web1")
	x.awaitClean()
}

// awaitProblem waits for the line that says what is wrong.
func (x *scene) awaitProblem(who string) {
	x.Helper()
	bed.WaitFor(x, 90*time.Second, "a problem of "+who, func() (ok bool) {
		x.problem, ok = told(x.c.stderr.String(), who)
		return ok
	})
	x.took = time.Since(x.struck)
	if !strings.Contains(x.problem, x.fault.says) {
		x.Errorf("it says %q, want %q", x.problem, x.fault.says)
	}
}

// told is what is said to be wrong with a host, alone or together with others; of "" with the capture.
func told(stderr, host string) (problem string, ok bool) {
	for line := range strings.Lines(stderr) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "sshpcap: ")
		if !ok {
			continue
		}
		several := onInstances.FindStringSubmatch(text)
		switch {
		case host == "":
			return text, true
		case several != nil && slices.Contains(strings.Split(several[1], ", "), host):
			return several[2], true
		}
		if text, ok := strings.CutPrefix(text, host+": "); ok {
			return text, true
		}
	}
	return "", false
}

var onInstances = regexp.MustCompile(`^on [0-9,]+ instances: (.*?): (.*)$`)

// awaitNote waits for a line that is no problem, behind those that were awaited before.
func (x *scene) awaitNote(text string) {
	x.Helper()
	bed.WaitFor(x, 60*time.Second, "it says "+text, func() bool {
		said := x.c.stderr.String()
		at := strings.Index(said[x.heard:], text)
		if at >= 0 {
			x.heard += at + len(text)
		}
		return at >= 0
	})
	if x.took == 0 {
		x.took, x.problem = time.Since(x.struck), text
	}
}

// watch notes when web1 is rid of the capture.
func (x *scene) watch() {
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		defer close(x.clean)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for len(x.web1.Leftovers()) > 0 {
			select {
			case <-tick.C:
			case <-over:
				return
			}
		}
		x.cleanAt = time.Now()
	})
	x.Cleanup(func() { close(over); watching.Wait() })
}

// awaitClean waits until web1 is rid of the capture, and checks that it was in time.
func (x *scene) awaitClean() {
	x.Helper()
	select {
	case <-x.clean:
		x.left = max(x.cleanAt.Sub(x.struck), 1)
	case <-time.After(deadline):
		x.left = deadline
	}
	if x.left >= deadline {
		x.Errorf("left on web1 %v after the last sign of life: %v", x.left, x.web1.Leftovers())
	}
}

// end ends the capture and returns the exit code.
func (x *scene) end() int {
	x.Helper()
	if x.fault.end != nil {
		return x.fault.end(x)
	}
	return x.interrupt()
}

// interrupt stops the sending and presses ^C.
func (x *scene) interrupt() int {
	x.Helper()
	x.hush()
	x.c.signal(os.Interrupt)
	if x.fault.end != nil {
		x.struck = x.c.since
	}
	x.c.wait(patience)
	return x.c.cmd.ProcessState.ExitCode()
}

// byItself waits for a client that ends without being told to.
func (x *scene) byItself() int {
	x.Helper()
	x.c.wait(patience)
	x.hush()
	return x.c.cmd.ProcessState.ExitCode()
}

// settle checks what came of it: exit code, states, file, and that nothing is left anywhere.
func (x *scene) settle(exit int) {
	x.Helper()
	x.hush()
	if exit != x.fault.exit {
		x.Errorf("exit code %d, want %d", exit, x.fault.exit)
	}
	if strings.Contains(x.c.stderr.String(), "goroutine ") {
		x.Error("it crashed")
	}
	clean(x, 5*time.Second, x.web1, x.web2)
	x.sent = x.flows[0].Sent()
	if exit >= 0 {
		r := x.c.result()
		if len(r.Instances) != 2 || r.Instances[0].State != x.fault.state {
			x.Errorf("states %s, want web1=%s", r.states(), x.fault.state)
		}
		if x.fault.file != absent && x.fault.file != partWise {
			x.c.check(x.file)
		}
	}
	x.conserve(exit)
}

// conserve checks that every packet that was sent is in the file, or was dropped by the kernel of its host, or was lost
// with what came after the last byte that arrived.
func (x *scene) conserve(exit int) {
	x.Helper()
	want := x.fault.file
	if want == absent {
		if _, err := os.Stat(x.file); !os.IsNotExist(err) {
			x.Errorf("there is a file: %v", err)
		}
		return
	}
	have := make(map[string][]bool)
	for i, flow := range x.flows {
		have[fmt.Sprintf("web%d:any %08x", i+1, flow.Port)] = make([]bool, flow.Sent())
	}
	for _, f := range frames(x, x.file) {
		var n int
		seen := have[f.iface+" "+f.data[:8]]
		if _, err := fmt.Sscanf(f.data[8:16], "%08x", &n); err != nil || n >= len(seen) || seen[n] {
			x.Fatalf("a packet that was not sent, or twice: %+v", f)
		}
		seen[n] = true
	}
	x.verify("web1", want, have[fmt.Sprintf("web1:any %08x", 40001)], exit)
	others := whole
	if want == partWise || exit < 0 || x.fault.both {
		others = prefix
	}
	x.verify("web2", others, have[fmt.Sprintf("web2:any %08x", 40002)], exit)
}

// verify holds what is in the file of one host against what has to be.
func (x *scene) verify(host string, want content, seen []bool, exit int) {
	x.Helper()
	got, holes, last := 0, 0, -1
	for n, ok := range seen {
		if ok {
			got++
			if n > last+1 {
				holes++
			}
			last = n
		}
	}
	missing, tail := len(seen)-got, len(seen)-1-last
	dropped, gaps := 0, 0
	if exit >= 0 {
		dropped, gaps = x.reported(host)
	}
	x.Logf("%s: %d sent = %d in the file + %d dropped by the kernel + %d behind the last that came + %d others; %d holes",
		host, len(seen), got, dropped, tail, missing-dropped-tail, holes)
	good := false
	switch want {
	case whole:
		good = missing == 0 && dropped == 0
	case prefix, partWise:
		good = holes == 0 && dropped == 0 && got > 0
	case counted:
		good = missing == dropped && dropped > 0
	case gapped:
		good = holes == gaps && gaps == 1 && tail == 0 && dropped == 0
	case nothing:
		good = got == 0
	}
	if !good {
		x.Errorf("%s: in the file has to be: %s", host, want)
	}
	if host == "web1" {
		x.got, x.dropped = got, dropped
	}
}

// reported is what the report says of a host.
func (x *scene) reported(host string) (dropped, gaps int) {
	for _, in := range x.c.result().Instances {
		for _, f := range in.Interfaces {
			if in.Name == host {
				gaps += int(f.Gaps)
				if f.Dropped != nil {
					dropped += int(*f.Dropped)
				}
			}
		}
	}
	return dropped, gaps
}

// silently is a fault that nobody has to notice: it lasts for a while.
func silently(d time.Duration) func(*scene) {
	return func(x *scene) {
		time.Sleep(d) // what happens meanwhile is all there is
		if strings.Contains(x.c.stderr.String(), "sshpcap: ") {
			x.Errorf("it says %s", x.c.stderr.String())
		}
	}
}

// length is short, or long in a soak.
func length(short, long time.Duration) time.Duration {
	if soak {
		return long
	}
	return short
}

// kill sends a signal to all processes on web1 that have one of the names.
func (x *scene) kill(sig syscall.Signal, names ...string) {
	x.Helper()
	n := 0
	for _, name := range names {
		n += x.web1.Kill(name, sig)
	}
	if n == 0 {
		x.Fatalf("no process of %v on web1", names)
	}
}
