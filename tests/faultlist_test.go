package tests

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// faults are those that the program has to survive. docs/reliability.md has a line for each.
var faults = []*fault{
	// The way to the host.
	{
		name: "connection refused", early: true, exit: 3, state: "failed", file: nothing, says: "connection refused on port 22",
		prepare: func(x *scene) { x.kill(syscall.SIGKILL, "sshd") },
	},
	{
		name: "packets vanish, before the login", early: true, exit: 3, state: "failed", file: nothing, says: "no answer from port 22",
		args: []string{"--connect-timeout", "2s"}, prepare: func(x *scene) { x.web1.BlackHole() },
	},
	{
		name: "the name does not resolve", early: true, exit: 3, state: "failed", file: nothing, says: "unknown host name",
		prepare: func(x *scene) { x.nameServer(true) },
	},
	{
		name: "the name server does not answer", early: true, exit: 3, state: "failed", file: nothing, says: "the host name cannot be looked up",
		args: []string{"--connect-timeout", "2s"}, prepare: func(x *scene) { x.nameServer(false) },
	},
	{
		name: "connection reset", exit: 3, state: "lost", file: prefix, says: "connection lost: connection reset by peer",
		strike: func(x *scene) { x.web1.Reset() },
	},
	{
		name: "link down", exit: 3, state: "lost", file: prefix, says: "connection lost: the host has not answered for",
		prepare: (*scene).impatient, strike: func(x *scene) { x.web1.Unplug() },
	},
	{
		name: "packets vanish, both ways", exit: 3, state: "lost", file: prefix, says: "connection lost: the host has not answered for",
		prepare: (*scene).impatient, strike: func(x *scene) { x.web1.BlackHole() },
	},
	{
		name: "packets vanish for 20 s", exit: 3, state: "lost", file: prefix, says: "the instance ended it, since no sign of life came from here",
		strike: func(x *scene) {
			x.web1.BlackHole()
			time.Sleep(20 * time.Second)
			x.web1.Mend()
		},
	},
	{
		name: "link down for 18 s, ^C after 17 s", exit: 3, state: "lost", file: prefix, says: "the instance ended it, since no sign of life came from here",
		args: []string{"--grace", "1m"}, strike: func(x *scene) { x.web1.Unplug() }, notice: silently(17 * time.Second),
		end: func(x *scene) int { return x.stopUnheard(time.Second) },
	},
	{
		name: "link down, helper ended on the host, ^C", exit: 3, state: "lost", file: prefix, says: "the helper ended by itself (exit status 0)",
		args: []string{"--grace", "1m"},
		strike: func(x *scene) {
			x.web1.Unplug()
			x.kill(syscall.SIGTERM, "tcpdump")
		},
		notice: (*scene).awaitClean,
		end:    func(x *scene) int { return x.stopUnheard(100 * time.Millisecond) },
	},
	{
		name: "30 % of the packets lost, each way", exit: 0, state: "ok", file: whole,
		strike: func(x *scene) { x.web1.Lossy(30) },
		notice: func(x *scene) {
			silently(length(6*time.Second, time.Minute))(x)
			x.web1.Mend() // the end, too, may take longer than the grace
			x.arrived(200)
		},
	},
	{
		name: "300 ms delay, give or take 150 ms", exit: 0, state: "ok", file: whole,
		prepare: func(x *scene) {
			x.ssh += x.bed.Delay(x.web1, 300*time.Millisecond, 150*time.Millisecond).SSHConfig("web1")
		},
		strike: func(*scene) {}, notice: silently(length(4*time.Second, time.Minute)),
	},
	{
		name: "64 kbit/s, enough for the packets", exit: 0, state: "ok", file: whole, rate: 10,
		strike: func(x *scene) { x.web1.Slow(64_000) }, notice: silently(length(5*time.Second, time.Minute)),
	},
	{
		name: "64 kbit/s, too little for the packets", exit: 3, state: "cut", file: prefix, says: "did not end in time and was cut",
		rate: 1000, args: []string{"--grace", "2s"}, strike: func(x *scene) { x.web1.Slow(64_000) },
		notice: silently(length(5*time.Second, time.Minute)),
		end:    func(x *scene) int { exit := x.interrupt(); x.awaitProblem("web1"); x.awaitClean(); return exit },
	},

	// What runs on the host.
	{
		name: "the connection's sshd killed", exit: 3, state: "lost", file: prefix, says: "connection lost",
		strike: func(x *scene) {
			for _, p := range x.web1.Sessions() {
				syscall.Kill(p.PID, syscall.SIGKILL)
			}
		},
	},
	{
		name: "the SSH server killed, but not the connection's", exit: 0, state: "ok", file: whole,
		strike: func(x *scene) { x.web1.KillServer() }, notice: silently(length(3*time.Second, 30*time.Second)),
	},
	{
		name: "helper killed", exit: 3, state: "lost", file: prefix, says: "tcpdump was killed by signal KILL",
		strike: func(x *scene) { x.kill(syscall.SIGKILL, "tcpdump") },
	},
	{
		name: "helper stopped for good", args: []string{"--grace", "15s"}, exit: 3, state: "lost", file: prefix, says: "did not end when it was asked to, and was killed",
		strike: func(x *scene) { x.kill(syscall.SIGSTOP, "tcpdump") }, notice: silently(length(2*time.Second, 30*time.Second)),
		end: func(x *scene) int { exit := x.interrupt(); x.awaitProblem("web1"); x.awaitClean(); return exit },
	},
	{
		name: "helper stopped for a while, with little room", exit: 0, state: "ok", file: counted, args: []string{"--helper-buffer", "64KiB"},
		strike: func(x *scene) { x.kill(syscall.SIGSTOP, "tcpdump") },
		notice: func(x *scene) {
			silently(length(3*time.Second, 30*time.Second))(x)
			x.kill(syscall.SIGCONT, "tcpdump")
			x.arrived(200)
		},
	},
	{
		name: "helper is a script that does not exec, ^C", exit: 0, state: "ok", file: whole,
		prepare: func(x *scene) { x.helper("tcpdump") }, strike: func(*scene) {}, notice: silently(length(time.Second, 10*time.Second)),
		end: func(x *scene) int { exit := x.interrupt(); x.awaitClean(); return exit },
	},
	{
		name: "helper is a script that does not exec, client killed", exit: -1, file: prefix,
		prepare: func(x *scene) { x.helper("tcpdump") }, strike: func(x *scene) { x.c.signal(os.Kill); x.c.wait(patience) },
		notice: (*scene).awaitClean, end: (*scene).byItself,
	},
	{
		name: "login shell rc, client killed", exit: -1, file: prefix, options: bed.Options{Shell: "rc"},
		strike: func(x *scene) { x.c.signal(os.Kill); x.c.wait(patience) }, notice: (*scene).awaitClean, end: (*scene).byItself,
	},
	{
		name: "sh is yash, client killed", exit: -1, file: prefix, options: bed.Options{Sh: "yash"},
		strike: func(x *scene) { x.c.signal(os.Kill); x.c.wait(patience) }, notice: (*scene).awaitClean, end: (*scene).byItself,
	},
	{
		name: "too little memory for the helper", early: true, exit: 3, state: "failed", file: nothing, says: "tcpdump failed: ",
		prepare: func(x *scene) { x.helper("ulimit -v 12000; exec tcpdump") },
	},
	{
		name: "memory for the helper, but not for our size of the kernel's buffer", exit: 0, state: "ok", file: whole,
		prepare: func(x *scene) { x.helper("ulimit -v 30000; exec tcpdump") }, strike: func(*scene) {}, notice: silently(length(time.Second, 10*time.Second)),
	},
	{
		name: "the kernel ends the helper for want of memory", exit: 3, state: "lost", file: prefix, says: "was killed by signal KILL",
		strike: func(x *scene) {
			memory := x.bed.LimitMemory(64 << 20)
			for _, p := range x.web1.Leftovers() {
				if p.Name == "tcpdump" {
					memory.First(p)
				}
			}
			memory.Fill(3)
		},
	},
	{
		name: "no process can be made on the host", exit: 3, state: "lost", file: prefix, anything: true,
		strike: func(x *scene) {
			none := x.bed.LimitProcesses(1)
			for _, p := range x.web1.Leftovers() {
				none.Add(p)
			}
		},
	},
	{
		name: "host switched off and on", exit: 3, state: "lost", file: prefix, says: "connection lost: connection reset by peer",
		strike: func(x *scene) { x.web1.PowerOff(); x.web1.PowerOn() },
	},
	{
		name: "host switched off and on, with --follow", exit: 0, state: "ok", file: gapped, args: []string{"--follow"},
		strike: func(x *scene) { x.web1.PowerOff(); x.web1.PowerOn() },
		notice: func(x *scene) {
			x.awaitNote("- web1 (connection lost: connection reset by peer)")
			x.awaitNote("+ web1")
			x.arrived(200)
		},
	},
	{
		name: "clock of the host set an hour ahead and back", stepped: true, exit: 0, state: "ok", file: whole,
		prepare: (*scene).steppedHelper,
		strike:  func(x *scene) { x.step(3600); x.arrived(50) },
		notice: func(x *scene) {
			x.awaitNote("web1: its clock was set")
			x.step(-3600)
			x.arrived(50)
			if soak {
				x.awaitNote("web1: its clock was set")
			}
			x.step(0)
			x.arrived(50)
		},
	},

	// The client and its output.
	{
		name: "client killed", exit: -1, file: prefix, strike: func(x *scene) { x.c.signal(os.Kill); x.c.wait(patience) },
		notice: (*scene).awaitClean, end: (*scene).byItself,
	},
	{
		name: "client suspended", both: true, exit: 3, state: "lost", file: prefix, says: "the instance ended it, since no sign of life came from here",
		strike: func(x *scene) { x.c.signal(syscall.SIGSTOP) },
		notice: func(x *scene) {
			x.awaitClean()
			clean(x, time.Until(x.struck.Add(deadline)), x.web2)
			time.Sleep(time.Until(x.struck.Add(length(0, time.Minute))))
			x.c.signal(syscall.SIGCONT)
			x.struck = time.Now()
			x.awaitProblem("web1")
		},
		end: (*scene).byItself,
	},
	{
		name: "client suspended, ^C meanwhile", both: true, exit: 3, state: "lost", file: prefix, says: "the instance ended it, since no sign of life came from here",
		strike: func(x *scene) { x.c.signal(syscall.SIGSTOP) },
		notice: func(x *scene) {
			x.awaitClean()
			clean(x, time.Until(x.struck.Add(deadline)), x.web2)
			x.c.signal(os.Interrupt) // which it gets when it goes on
			x.c.signal(syscall.SIGCONT)
			x.struck = time.Now()
			x.awaitProblem("web1")
		},
		end: (*scene).byItself,
	},
	{
		name: "terminal closed", exit: 0, state: "ok", file: whole,
		prepare: func(x *scene) {
			x.terminal = onTerminal(x.T, x.bed, append(x.args, "-o", x.file)...)
			x.c = x.terminal.client
		},
		strike: func(x *scene) { x.hush(); x.terminal.hangUp() }, notice: func(*scene) {}, end: (*scene).byItself,
	},
	{
		name: "disk full", exit: 1, state: "ok", file: partWise, says: "no space left for it",
		prepare: func(x *scene) { x.file = filepath.Join(x.bed.Tmpfs("small", 128<<10), "a.pcapng") },
		strike: func(x *scene) {
			for size := int64(-1); size != x.size(); time.Sleep(300 * time.Millisecond) { // until it grows no more
				size, x.struck = x.size(), time.Now()
			}
		},
		notice: func(x *scene) { x.awaitProblem("") }, end: (*scene).byItself,
	},
	{
		name: "directory of the output deleted", exit: 1, state: "ok", file: absent, says: "it was removed or replaced while it was being written",
		strike: func(x *scene) { os.RemoveAll(filepath.Dir(x.file)) }, notice: func(x *scene) { x.awaitProblem("") }, end: (*scene).byItself,
	},
	{
		name: "reader of the output gone", exit: 1, state: "ok", file: partWise, says: "its reader went away",
		prepare: (*scene).fifo, strike: func(x *scene) { x.unread() }, notice: func(x *scene) { x.awaitProblem("") }, end: (*scene).byItself,
	},
}

// stopUnheard presses ^C while the link is down, and mends it a while later.
func (x *scene) stopUnheard(after time.Duration) int {
	x.Helper()
	x.hush()
	x.c.signal(os.Interrupt)
	x.struck = x.c.since
	time.Sleep(after) // for which the link stays down
	x.web1.Plug()
	x.awaitProblem("web1")
	x.awaitClean()
	return x.byItself()
}

// size is that of the file, in bytes.
func (x *scene) size() int64 {
	info, err := os.Stat(x.file)
	if err != nil {
		return 0
	}
	return info.Size()
}

// nameServer gives web1 a name that has to be looked up, and the client a server that says that there is no such name, or
// nothing at all.
func (x *scene) nameServer(answers bool) {
	x.Helper()
	var server net.PacketConn
	if err := x.bed.Hub.Do(func() (err error) { server, err = net.ListenPacket("udp4", bed.HubAddr+":53"); return err }); err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			if answers && n > 3 {
				buf[2], buf[3] = buf[2]|0x80, 0x80|3 // a response: no such name
				server.WriteTo(buf[:n], from)
			}
		}
	}()
	x.ssh += "Host web1\n  HostName web1.example.com\n"
	x.run = fmt.Sprintf("mount --bind '%s' /etc/resolv.conf", x.bed.WriteFile("resolv.conf", 0o644, "nameserver "+bed.HubAddr+"\n"))
}

// helper makes a program of shell lines that end in a command, which gets the helper's words on web1.
func (x *scene) helper(lines string) {
	x.Helper()
	x.args = append(x.args, "--helper", x.bed.WriteFile("helper/tcpdump", 0o755, fmt.Sprintf(`#!/bin/sh
case $SSH_CONNECTION in *" %s 22") exec tcpdump "$@" ;; esac
%s "$@"
`, x.web2.Addr, lines)))
}

// fifo makes an output that somebody reads, who writes what comes into the file.
func (x *scene) fifo() {
	x.Helper()
	x.output = filepath.Join(x.TempDir(), "fifo.pcapng")
	if err := syscall.Mkfifo(x.output, 0o600); err != nil {
		x.Fatal(err)
	}
	to, err := os.Create(x.file)
	if err != nil {
		x.Fatal(err)
	}
	opened, done := make(chan *os.File, 1), make(chan struct{}) // done is closed when all has been read
	go func() {
		defer close(done)
		defer to.Close()
		from, err := os.Open(x.output) // waits for the client
		if err == nil {
			opened <- from
			io.Copy(to, from)
		}
	}()
	x.unread = func() {
		(<-opened).Close()
		<-done
	}
}

// stepEnv makes the test binary a helper whose clock is ahead by as many seconds as a file says, which it names.
const stepEnv = "SSHPCAP_TEST_STEP"

func (x *scene) stepFile() string { return filepath.Join(x.bed.Dir, "step") }

// step sets the clock of the helper on web1 ahead.
func (x *scene) step(seconds int) {
	x.Helper()
	temporary := x.bed.WriteFile("step.new", 0o644, strconv.Itoa(seconds))
	if err := os.Rename(temporary, x.stepFile()); err != nil {
		x.Fatal(err)
	}
}

// steppedDate makes a date that shows the clock that is set.
func (x *scene) steppedDate() (path string) {
	x.Helper()
	date, err := exec.LookPath("date")
	if err != nil {
		x.Fatal(err)
	}
	program, err := os.ReadFile(date)
	if err != nil {
		x.Fatal(err)
	}
	x.step(0)
	return x.bed.WriteFile("stepped-date", 0o755, fmt.Sprintf(`#!/bin/sh
t=$('%s' +%%s.%%N)
echo $((${t%%.*} + $(cat '%s'))).${t#*.}
`, x.bed.WriteFile("true-date", 0o755, string(program)), x.stepFile()))
}

// steppedHelper makes a helper whose packets have the times of that clock.
func (x *scene) steppedHelper() {
	self, err := os.Executable()
	if err != nil {
		x.Fatal(err)
	}
	x.helper(fmt.Sprintf("exec env %s='%s' '%s'", stepEnv, x.stepFile(), self))
}

// stepMain is tcpdump with a clock that can be set: the timestamps of a pcap stream are the kernel's otherwise.
func stepMain(file string) int {
	cmd := exec.Command("tcpdump", os.Args[1:]...)
	cmd.Stderr = os.Stderr
	ask := make(chan os.Signal, 4)
	signal.Notify(ask, syscall.SIGINT, syscall.SIGTERM)
	stdout, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return 1
	}
	go func() {
		for sig := range ask {
			cmd.Process.Signal(sig)
		}
	}()
	if err := stepStream(os.Stdout, stdout, file); err != nil {
		cmd.Process.Kill()
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

func stepStream(to io.Writer, from io.Reader, file string) error {
	if _, err := io.CopyN(to, from, 24); err != nil {
		return err
	}
	for head := make([]byte, 16); ; {
		if _, err := io.ReadFull(from, head); err != nil {
			return err
		}
		record := make([]byte, 16+little.Uint32(head[8:]))
		copy(record, head)
		if _, err := io.ReadFull(from, record[16:]); err != nil {
			return err
		}
		text, _ := os.ReadFile(file)
		seconds, _ := strconv.Atoi(string(text))
		little.PutUint32(record, uint32(int(little.Uint32(record))+seconds))
		if _, err := to.Write(record); err != nil {
			return err
		}
	}
}
