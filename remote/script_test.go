package remote

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// short are limits for tests.
var short = timing{silence: "0.8", step: "0.2"}

// run is a helper under the stop script.
type run struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
	stderr  *bytes.Buffer // to be read when it has ended
	helper  int           // pid
	session string        // of the helper, which may have one of its own
}

// wrapped starts the helper of a mode in a session of its own, which finds
// every process that comes of it.
func wrapped(t *testing.T, sh shell, mode string) *run {
	t.Helper()
	return wrappedBy(t, stopLine("INT", short), sh, mode)
}

func wrappedBy(t *testing.T, script string, sh shell, mode string) *run {
	t.Helper()
	cmd := sh.command(script)
	cmd.Args = append(cmd.Args, "sshpcap", os.Args[0])
	cmd.Env = append(cmd.Env, helperEnv+"="+mode)
	r := begun(t, cmd)
	if mode != "exit" {
		r.ready()
	}
	if mode == "frozen" { // it is so a moment after it has said that it is there
		waitFor(t, 5*time.Second, func() []string {
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.helper)); !strings.Contains(string(b), ") T ") {
				return []string{"not frozen"}
			}
			return nil
		})
	}
	return r
}

// endSession ends what is left of a command that began a session, when the test ends. Once it has been waited for, its number
// may be another's: then only a test that has failed looks for what it has left.
func endSession(t testing.TB, cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return
	}
	alive(func(pid int, stat []string) bool {
		if t.Failed() && stat[3] == strconv.Itoa(cmd.Process.Pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		return false
	})
}

// begun starts a command in a session of its own, all of which ends with the test.
func begun(t *testing.T, cmd *exec.Cmd) *run {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setsid = true
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := new(bytes.Buffer)
	if cmd.Stderr == nil {
		cmd.Stderr = stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endSession(t, cmd); stdin.Close(); stdout.Close() })
	return &run{t: t, cmd: cmd, stdin: stdin, stdout: bufio.NewReader(stdout), stderr: stderr}
}

// ready waits until the helper says that it is there.
func (r *run) ready() {
	r.t.Helper()
	if _, err := fmt.Fscanf(r.stdout, "ready %d\n", &r.helper); err != nil {
		r.t.Fatal(err)
	}
	alive(func(pid int, stat []string) bool {
		if pid == r.helper {
			r.session = stat[3]
		}
		return false
	})
	if session, err := strconv.Atoi(r.session); err == nil && session != r.cmd.Process.Pid {
		r.t.Cleanup(func() { // after that, it may be another's
			if (r.cmd.ProcessState == nil || r.t.Failed()) && len(r.left()) > 0 {
				syscall.Kill(-session, syscall.SIGKILL)
			}
		})
	}
}

// unasked checks whether the script, which has ended, has told that the helper ended by itself.
func (r *run) unasked(want bool) {
	r.t.Helper()
	if got := strings.Count(r.stderr.String(), "@sshpcap unasked\n"); got != 0 != want || got > 1 {
		r.t.Errorf("told %d times that nobody had asked, want %v: %q", got, want, r.stderr.String())
	}
}

func (r *run) left() []string {
	return alive(func(pid int, stat []string) bool {
		return stat[3] == fmt.Sprint(r.cmd.Process.Pid) || stat[3] == r.session
	})
}

// ends waits for the end and checks the status, how long it took since start,
// and that nothing is left.
func (r *run) ends(start time.Time, status int, least, most time.Duration) {
	r.t.Helper()
	r.endsBy(start, 0, status, least, most)
}

// endsBy is ends where a signal came to the shell, whose status then tells of that, unless the helper was faster.
func (r *run) endsBy(start time.Time, sig syscall.Signal, status int, least, most time.Duration) {
	r.t.Helper()
	stuck := time.AfterFunc(most+10*time.Second, func() { syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) })
	defer stuck.Stop()
	io.Copy(io.Discard, r.stdout)
	err := r.cmd.Wait()
	took := time.Since(start)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if got != status && (sig == 0 || got != 128+int(sig)) {
		r.t.Errorf("exit status %d, want %d", got, status)
	}
	if took < least || took > most {
		r.t.Errorf("took %v, want %v to %v", took, least, most)
	}
	waitFor(r.t, time.Second, r.left)
	r.t.Logf("ended after %v", took)
}

// slack is what a busy machine may add.
const slack = 3 * time.Second

func TestStop(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, sh := range posixShells(t) {
		each := func(name string, f func(t *testing.T)) {
			t.Run(sh.name+"/"+name, func(t *testing.T) { t.Parallel(); f(t) })
		}
		for _, mode := range []struct {
			name        string
			status      int
			least, most time.Duration
		}{
			{"polite", 7, 0, slack},
			{"stubborn", 137, 400 * ms, 400*ms + slack},
			{"flood", 137, 400 * ms, 400*ms + slack},
			{"frozen", 137, 400 * ms, 400*ms + slack},
		} {
			each("end of stdin, "+mode.name, func(t *testing.T) {
				r := wrapped(t, sh, mode.name)
				if mode.name == "flood" {
					r.blocked()
				}
				start := time.Now()
				r.stdin.Close()
				if mode.name == "flood" { // nobody reads until it is gone
					waitFor(t, mode.most, r.left)
				}
				r.ends(start, mode.status, mode.least, mode.most+slack)
				r.unasked(false)
			})
			each("silence, "+mode.name, func(t *testing.T) {
				r := wrapped(t, sh, mode.name)
				start := time.Now()
				r.stdin.Write(Heartbeat())
				if mode.name == "flood" {
					waitFor(t, 800*ms+mode.most, r.left)
				}
				r.ends(start, Unheard, 800*ms+mode.least, 800*ms+mode.most+slack)
				r.unasked(true)
			})
		}
		each("silence from the start", func(t *testing.T) {
			start := time.Now()
			wrapped(t, sh, "polite").ends(start, Unheard, 800*ms, 800*ms+slack)
		})
		each("heartbeats keep it", func(t *testing.T) {
			r := wrapped(t, sh, "polite")
			start := time.Now()
			r.beat(2400*ms, 200*ms, 1)
			r.ends(start, Unheard, 2900*ms, 3200*ms+slack)
		})
		each("a flood of heartbeats", func(t *testing.T) {
			r := wrapped(t, sh, "polite")
			start := time.Now()
			r.beat(2*time.Second, 50*ms, 5)
			r.stdin.Close()
			r.ends(start, 7, 2*time.Second, 10*time.Second)
		})
		each("ends by itself", func(t *testing.T) {
			for range 5 {
				start := time.Now()
				wrapped(t, sh, "exit").ends(start, 3, 0, slack)
			}
		})
		each("is ended on the instance", func(t *testing.T) {
			r := wrapped(t, sh, "polite")
			r.beat(400*ms, 100*ms, 1) // else there may be no watch yet, to tell
			start := time.Now()
			syscall.Kill(r.helper, syscall.SIGTERM)
			r.ends(start, 7, 0, slack)
			r.unasked(true)
		})
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			each(sig.String()+" to the shell", func(t *testing.T) {
				r := wrapped(t, sh, "polite")
				start := time.Now()
				r.watched()
				r.cmd.Process.Signal(sig)
				r.endsBy(start, sig, 7, 0, slack)
			})
			each(sig.String()+" to the group", func(t *testing.T) {
				r := wrapped(t, sh, "polite")
				start := time.Now()
				r.watched()
				syscall.Kill(-r.cmd.Process.Pid, sig)
				r.endsBy(start, sig, 7, 0, slack)
			})
			each(sig.String()+" to the group, stubborn", func(t *testing.T) {
				r := wrapped(t, sh, "stubborn")
				r.watched()
				syscall.Kill(-r.cmd.Process.Pid, sig)
				r.stdin.Write(Heartbeat())
				start := time.Now()
				r.stdin.Close()
				r.endsBy(start, sig, 137, 400*ms, 400*ms+slack)
			})
		}
		each("the shell killed, end of stdin", func(t *testing.T) {
			r := wrapped(t, sh, "stubborn")
			r.watched() // there is nobody else before
			r.cmd.Process.Kill()
			r.stdin.Close()
			r.ends(time.Now(), -1, 0, 400*ms+slack)
		})
		each("the shell killed, silence", func(t *testing.T) {
			r := wrapped(t, sh, "stubborn")
			r.watched() // there is nobody else before
			r.cmd.Process.Kill()
			helper := fmt.Sprint(r.helper)
			waitFor(t, 1200*ms+slack, func() []string {
				return alive(func(pid int, _ []string) bool { return fmt.Sprint(pid) == helper })
			})
			r.stdin.Close() // as every server does once the shell is gone
			r.ends(time.Now(), -1, 0, slack)
		})
	}
}

// TestClockQuestion has every shell answer, to nothing but the question.
func TestClockQuestion(t *testing.T) {
	t.Parallel()
	for _, sh := range posixShells(t) {
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			cmd := sh.command(stopLine("INT", limits))
			cmd.Args = append(cmd.Args, "sshpcap", os.Args[0])
			cmd.Env = append(cmd.Env, helperEnv+"=polite")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			stdin, err := cmd.StdinPipe()
			stderr, err2 := cmd.StderrPipe()
			if err := errors.Join(err, err2, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { endSession(t, cmd) })
			var log Log
			log.Write([]byte("@sshpcap start\n"))
			lines := bufio.NewReader(stderr)
			watched := 0
			next := func() string {
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						t.Fatal(err)
					}
					if line != "@sshpcap watched\n" {
						return line
					}
					watched++
				}
			}
			for n := 1; n <= 3; n++ {
				before := time.Now()
				stdin.Write(Heartbeat())
				stdin.Write(ClockQuestion())
				line := next()
				log.Write([]byte(line))
				told, shows := log.Clock()
				// Where date knows no fractions the middle of the second is taken, and where it is not there, nothing.
				if shows.IsZero() && sh.name == "busybox only" {
					continue
				}
				if told != n || shows.Before(before.Add(-time.Second)) || shows.After(time.Now().Add(time.Second)) {
					t.Errorf("%q: told %d times, %v", line, told, shows)
				}
			}
			stdin.Close()
			rest, err := io.ReadAll(lines)
			more := bytes.Count(rest, []byte("@sshpcap watched\n"))
			if watched += more; err != nil || len(rest) > more*len("@sshpcap watched\n") || watched > 9 {
				t.Errorf("then %q, %v; watched %d times", rest, err, watched)
			}
			cmd.Wait()
		})
	}
}

// bareShells find no other program.
func bareShells(t *testing.T) (shells []shell) {
	for _, sh := range posixShells(t)[:2] {
		path, err := exec.LookPath(sh.args[0])
		if err != nil {
			t.Fatal(err)
		}
		shells = append(shells, shell{name: sh.name + ", bare", args: []string{path}, env: []string{"PATH=/nowhere"}})
	}
	return shells
}

// TestStopContainer has the stop script for containers, also where there is a shell and nothing else.
func TestStopContainer(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, sh := range append(posixShells(t), bareShells(t)...) {
		for _, mode := range []struct {
			name        string
			status      int
			least, most time.Duration
		}{
			{"polite", 7, 0, slack},
			{"stubborn", 137, 2000 * ms, 3000*ms + slack},
			{"frozen", 137, 2000 * ms, 3000*ms + slack},
		} {
			each := func(how string, f func(t *testing.T, r *run)) {
				t.Run(sh.name+"/"+how+", "+mode.name, func(t *testing.T) {
					t.Parallel()
					f(t, wrappedBy(t, containerStopLine("INT", timing{silence: "9"}), sh, mode.name))
				})
			}
			each("end of stdin", func(t *testing.T, r *run) {
				r.stdin.Write(Heartbeat())
				start := time.Now()
				r.stdin.Close()
				r.ends(start, mode.status, mode.least, mode.most)
			})
			each("a signal and no end of stdin", func(t *testing.T, r *run) {
				r.watched()
				start := time.Now()
				r.cmd.Process.Signal(syscall.SIGTERM)
				r.ends(start, mode.status, mode.least, mode.most)
			})
		}
	}
}

// limited are short limits with one of the time in all.
var limited = timing{silence: "0.8", step: "0.2", most: "1"}

// TestTimeUp ends helpers although signs of life come, and leaves nothing of the countdown where they end before.
func TestTimeUp(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	scripts := map[string]func(timing) string{
		"host":      func(t timing) string { return stopLine("INT", t) },
		"container": func(t timing) string { return containerStopLine("INT", t) },
	}
	long := limited
	long.silence, long.most = "9", "99"
	for _, sh := range append(posixShells(t), bareShells(t)...) {
		for kind, script := range scripts {
			if kind == "host" && strings.HasSuffix(sh.name, ", bare") {
				continue // a host has programs
			}
			each := func(name, mode string, limits timing, f func(r *run, start time.Time)) {
				t.Run(sh.name+"/"+kind+"/"+name, func(t *testing.T) {
					t.Parallel()
					start := time.Now()
					f(wrappedBy(t, script(limits), sh, mode), start)
				})
			}
			each("time is up, polite", "polite", limited, func(r *run, start time.Time) {
				defer r.beatOn()()
				r.ends(start, TimeUp, 900*ms, 2*time.Second+slack) // bare, it is looked at with each sign of life
			})
			each("time is up, stubborn", "stubborn", limited, func(r *run, start time.Time) {
				defer r.beatOn()()
				r.ends(start, TimeUp, 1100*ms, 5*time.Second+slack)
			})
			each("ends by itself", "exit", long, func(r *run, _ time.Time) { r.ends(time.Now(), 3, 0, slack) })
			each("end of stdin", "polite", long, func(r *run, _ time.Time) {
				r.stdin.Write(Heartbeat())
				start := time.Now()
				r.stdin.Close()
				r.ends(start, 7, 0, slack)
			})
			each("a signal", "polite", long, func(r *run, _ time.Time) {
				r.watched()
				start := time.Now()
				r.cmd.Process.Signal(syscall.SIGTERM)
				r.endsBy(start, syscall.SIGTERM, 7, 0, slack)
			})
			each("the shell killed", "stubborn", long, func(r *run, _ time.Time) {
				r.stdin.Write(Heartbeat())
				r.cmd.Process.Kill()
				r.stdin.Close()
				r.ends(time.Now(), -1, 0, 5*time.Second+slack)
			})
		}
	}
}

// beatOn gives signs of life, whether anybody takes them or not, until stop is called.
func (r *run) beatOn() (stop func()) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			r.stdin.Write(Heartbeat())
			select {
			case <-tick.C:
			case <-over:
				return
			}
		}
	})
	return func() { close(over); wg.Wait() }
}

// beat sends n lines at once, again and again, and sees that nothing ends.
func (r *run) beat(d, every time.Duration, n int) {
	r.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(every) {
		if _, err := io.WriteString(r.stdin, strings.Repeat("\n", n)); err != nil {
			r.t.Fatal(err)
		}
		if err := syscall.Kill(r.helper, 0); err != nil {
			r.t.Fatal("the helper is gone")
		}
	}
}

// blocked waits until the helper sleeps in a write to its full output.
func (r *run) blocked() {
	r.t.Helper()
	waitFor(r.t, 5*time.Second, func() []string {
		f, err := os.Open(fmt.Sprintf("/proc/%d/task", r.helper))
		if err != nil {
			r.t.Fatal(err)
		}
		defer f.Close()
		tasks, _ := f.Readdirnames(-1)
		for _, task := range tasks {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/wchan", r.helper, task))
			s, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", r.helper, task))
			if strings.Contains(string(b), "pipe_write") || strings.HasPrefix(string(s), "1 0x1 ") {
				return nil
			}
		}
		return []string{"not blocked"}
	})
}

// watched waits until the shell has its traps: it catches TERM.
func (r *run) watched() {
	r.t.Helper()
	waitFor(r.t, 5*time.Second, func() []string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
		if err != nil {
			r.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var mask uint64
			if n, _ := fmt.Sscanf(line, "SigCgt: %x", &mask); n == 1 && mask&(1<<(syscall.SIGTERM-1)) != 0 && mask&1 != 0 {
				return nil
			}
		}
		return []string{"no traps"}
	})
}

func TestJoinScript(t *testing.T) {
	got := joinScript("\n# why\na=1\n\tf() {\n  x &\n  y &&\n}\ncase $a in\n  b) c ;;\nesac\nif d; then\ne\nelse\ng\nfi\n( # no comment here\n")
	// A comment only counts at the start of a line; none of ours ends one.
	want := "a=1; f() { x & y && }; case $a in b) c ;; esac; if d; then e; else; g; fi; ( # no comment here"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestStopLine pins the text that runs on instances, as root.
func TestStopLine(t *testing.T) {
	const want = `exec 3<&0 4>&2; kids=; hit() { :; [ "${p#0}" ] || return; kill -$1 -$p && return; [ "$kids" ] || { all=; young $p; }; case $1 in 0|KILL) c=$all ;; *) c=$kids ;; esac; ` +
		`set -- $1 1; for c in $c; do kill -$1 $c && set -- $1 0; done; return $2; } 2>/dev/null; young() { c=; read -r c </proc/$1/task/$1/children; ` +
		`[ "$c" ] || kids="$kids $1"; for c in $c; do young $c; done; all="$all $1"; }; g=setsid; command -v setsid >/dev/null 2>&1 && command -v "$1" >/dev/null 2>&1 || { g=; ` +
		`(set -m) && set -m; } 2>/dev/null; exec $g "$@" </dev/null 3<&- 4>&- & p=$!; case $- in *m*) set +m ;; esac; trap "hit TERM; i=0; ` +
		`while [ \$i -lt 9999 ] && hit 0; do i=\$((i+1)); done; hit KILL" EXIT; [ "${p#0}" ] || exit 125; trap "" INT TERM HUP; { trap "" PIPE; ` +
		`ended() { kill -ALRM $! $t; [ "$asked" ] || printf "@sshpcap unasked\n" >&4; exit; }; trap ended USR1; t= o=9; ` +
		`watched() { [ "$asked" ] || [ $o = 0 ] || printf "@sshpcap watched\n" >&4; }; settle() { i=0; ` +
		`while [ $i -lt 15 ] && read -r x y z </proc/$p/stat && [ "${z%% *}" = R ]; do sleep .02; i=$((i+1)); done; i=0; while [ $i -lt 2000 ]; do x=; ` +
		`read -r x </proc/$p/wchan; case $x in *pipe*|*sock*|*unix*) i=$((i+1)) ;; *) i=2000 ;; esac; done; }; count() { b=$!; ` +
		`{ trap "[ \$! = $! ] || kill -KILL \$!; trap - EXIT; exit" ALRM; k=TERM; trap "hit \$k" EXIT; d=$1; for s in TERM TERM KILL; do b=$!; ` +
		`exec sleep $d 4>&- & case $! in 0|$b) exit ;; esac; watched; exec 4>&-; wait $!; case $2$k in USR1*|*KILL) ;; *) settle ;; esac; ` +
		`[ "$2" ] && kill -$2 $$; hit $s || break; d=2 k=KILL; done; trap - EXIT; exit; } & case $! in 0|$b) exit ;; esac; kill -ALRM $t; t=$!; }; ` +
		`count 14 USR1; while read -r x; do [ $o = 0 ] || o=$((o-1)); count 14 USR1; [ "$x" = c ] && printf "@sshpcap clock %s\n" $(date +%s.%N) >&4; done; ` +
		`asked=1; count 0; wait; } <&3 3<&- >/dev/null 2>&1 & w=$!; case $w in 0|$p) exit 125 ;; esac; exec >/dev/null 2>&1 4>&-; m=; trap "m=123" USR1; ` +
		`trap "m=124" USR2; trap "s=1; hit TERM" INT TERM HUP; s= z= one=$p; case $BASH_VERSION in "") trap : CHLD; exec sleep 1 & z=$! ;; ` +
		`4.[3-9]*|[5-9]*) one="-n $p $w" ;; esac; r=127; kill -0 $p && { wait $one; r=$?; }; while [ "$z" ] && [ ! "$m$s" ] && kill -0 $p && kill -0 $w; do wait $p; r=$?; ` +
		`done; v=0; while hit 0; do kill -0 $w && kill -0 $p || v=$((v+1)); case $v in 3) kill -0 $w || m=${m:-125}; hit TERM ;; 19) hit KILL ;; 40) break ;; ` +
		`esac; sleep .1 || sleep 1; done; [ "$m" ] || wait $p; x=$?; [ $x = 127 ] || r=$x; [ "$m" ] && r=$m; trap "" INT TERM HUP; trap - EXIT CHLD; ` +
		`[ "${z#0}" ] && kill -KILL $z; kill -USR1 $w; exit $r`
	if got := (Command{}).stopScript(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if strings.Contains(stopLine("INT", limits)+containerStopLine("INT", limits)+stopLine("INT", limited)+containerStopLine("INT", limited), "'") {
		t.Error("a single quote")
	}
}

// TestLimitedStopLine pins what a limit of the time adds to it.
func TestLimitedStopLine(t *testing.T) {
	short := Command{}.stopScript()
	want := strings.NewReplacer(`$! $t; [`, `$! $t $l; [`, "}; count 14", "}; l=; count 90 USR2; l=$t t=; count 14", "count 0; ", "count 0; kill -ALRM $l; ").Replace(short)
	if got := (Command{MaxTime: 89001 * time.Millisecond}).stopScript(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestContainerStopLine pins the text that runs in containers.
func TestContainerStopLine(t *testing.T) {
	const want = `n= q=.50 j=0; sleep .01 2>/dev/null || { q=1; sleep 0 2>/dev/null; } || { n=1 q=.50; sleep() { (:); read -r a b </proc/uptime || return; ` +
		`a=$((${a%.*}${a#*.} + ${1#.})); while (:) && read -r b c </proc/uptime && [ ${b%.*}${b#*.} -le $a ]; do :; done; } 2>/dev/null; }; exec 3<&0 4>&2; ` +
		`kids=; hit() { :; [ "${p#0}" ] || return; kill -$1 -$p && return; [ "$kids" ] || { all=; young $p; }; case $1 in 0|KILL) c=$all ;; *) c=$kids ;; esac; set -- $1 1; ` +
		`for c in $c; do kill -$1 $c && set -- $1 0; done; return $2; } 2>/dev/null; young() { c=; read -r c </proc/$1/task/$1/children; ` +
		`[ "$c" ] || kids="$kids $1"; for c in $c; do young $c; done; all="$all $1"; }; g=setsid; command -v setsid >/dev/null 2>&1 && command -v "$1" >/dev/null 2>&1 || { g=; ` +
		`(set -m) && set -m; } 2>/dev/null; exec $g "$@" </dev/null 3<&- 4>&- & p=$!; case $- in *m*) set +m ;; esac; trap "hit TERM; i=0; ` +
		`while [ \$i -lt 9999 ] && hit 0; do i=\$((i+1)); done; hit KILL" EXIT; [ "${p#0}" ] || exit 125; trap "" INT TERM HUP; { trap "" PIPE; ` +
		`ended() { kill -ALRM $! $t; [ "$asked" ] || printf "@sshpcap unasked\n" >&4; exit; }; trap ended USR1; t= o=9; ` +
		`watched() { [ "$asked" ] || [ $o = 0 ] || printf "@sshpcap watched\n" >&4; }; settle() { i=0; ` +
		`while [ $i -lt 15 ] && read -r x y z </proc/$p/stat && [ "${z%% *}" = R ]; do sleep .02; i=$((i+1)); done; i=0; while [ $i -lt 2000 ]; do x=; ` +
		`read -r x </proc/$p/wchan; case $x in *pipe*|*sock*|*unix*) i=$((i+1)) ;; *) i=2000 ;; esac; done; }; count() { [ "$n" ] && [ $1 != 0 ] && { watched; ` +
		`return; }; b=$!; { trap "[ \$! = $! ] || kill -KILL \$!; trap - EXIT; exit" ALRM; k=INT; trap "hit \$k" EXIT; d=$1; ` +
		`for s in INT TERM TERM TERM TERM KILL; do b=$!; sleep $d 4>&- & case $! in 0|$b) exit ;; esac; watched; exec 4>&-; wait $!; ` +
		`case $2$k in USR1*|*KILL) ;; *) settle ;; esac; [ "$2" ] && kill -$2 $$; hit $s || break; d=$q k=KILL; done; trap - EXIT; exit; ` +
		`} & case $! in 0|$b) exit ;; esac; kill -ALRM $t; t=$!; }; count 14 USR1; while read -r x; do [ $o = 0 ] || o=$((o-1)); count 14 USR1; ` +
		`[ "$x" = c ] && printf "@sshpcap clock %s\n" $(date +%s.%N) >&4; done; asked=1; count 0; wait; } <&3 3<&- >/dev/null 2>&1 & w=$!; ` +
		`case $w in 0|$p) exit 125 ;; esac; exec >/dev/null 2>&1 4>&-; m=; trap "m=123" USR1; trap "m=124" USR2; trap "s=1; hit INT" INT TERM HUP; ` +
		`s= z= one=$p; case $BASH_VERSION in "") trap : CHLD; [ "$n" ] || { sleep 1 & z=$!; } ;; 4.[3-9]*|[5-9]*) one="-n $p $w" ;; esac; ` +
		`r=127; kill -0 $p && { wait $one; r=$?; }; while [ "$z" ] && [ ! "$m$s" ] && kill -0 $p && kill -0 $w; do wait $p; r=$?; done; v=0; while hit 0; ` +
		`do kill -0 $w && kill -0 $p || v=$((v+1)); case $v in 3) kill -0 $w || m=${m:-125}; hit INT ;; 19) hit KILL ;; 40) break ;; esac; j=$((j+1)); ` +
		`case $j$q in 6.50|21) hit TERM ;; 30.50|51) hit KILL ;; esac; sleep .10 || sleep 1; done; [ "$m" ] || wait $p; x=$?; [ $x = 127 ] || r=$x; ` +
		`[ "$m" ] && r=$m; trap "" INT TERM HUP; trap - EXIT CHLD; [ "${z#0}" ] && kill -KILL $z; kill -USR1 $w; exit $r`
	for _, c := range []Command{{Helper: "cf-pcap"}, {SelfFilter: "udp"}} { // the second may turn out to be one
		if got := c.stopScript(); got != want {
			t.Errorf("%+v: got  %s\nwant %s", c, got, want)
		}
	}
	for _, c := range []Command{{Helper: "tcpdump", SelfFilter: "udp"}} {
		if got := c.stopScript(); got != strings.NewReplacer("INT TERM TERM", "TERM TERM TERM", "hit INT", "hit TERM", "k=INT", "k=TERM").Replace(want) {
			t.Errorf("%+v: got  %s", c, got)
		}
	}
}

// TestSyntax has every shell read every form of both scripts.
func TestSyntax(t *testing.T) {
	for _, sh := range posixShells(t) {
		for _, c := range []Command{{}, {Sudo: true}, {NoSelfFilter: true}, {Helper: "x"}, {Helper: "/x", Filter: "("}, {Helper: "cf-pcap"}, {SelfFilter: "udp"}, {MaxTime: 1}, {SelfFilter: "udp", MaxTime: 1}} {
			for _, text := range []string{c.startScript(), c.stopScript()} {
				cmd := sh.command(text)
				cmd.Args = append(cmd.Args[:len(cmd.Args)-2], "-n", "-c", text)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v %s\n%s", sh.name, err, out, text)
				}
			}
		}
	}
}

// TestStopInAFlood: a packet that waits for room in the output when the stop comes is not lost. The script sees that a
// helper waits, but cannot keep it from beginning to: one stop in two hundred hits such a write all the same, and more where
// the link is so slow that there is no pause while it looks.
func TestStopInAFlood(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.flood(t)
	const stops, most = 20, 3
	lost := 0
	for range stops {
		cmd := exec.Command("ip", "netns", "exec", b.ns, "sh", "-c", stopLine("TERM", limits), "sshpcap",
			"tcpdump", "-i", "lo", "-n", "-U", "-w", "-", "-B", "512", "--immediate-mode")
		var said, got bytes.Buffer
		cmd.Stderr = &said
		r, err := begun(t, cmd), error(nil)
		for i := 0; err == nil; i++ {
			if i == 8 {
				r.stdin.Close()
			}
			_, err = io.CopyN(&got, r.stdout, 32<<10)
			time.Sleep(10 * time.Millisecond) // a link that is slower than the helper
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err, said.String())
		}
		got.Next(24) // the file's header
		n := records(t, &got)
		switch said := said.String(); {
		case strings.Contains(said, fmt.Sprintf("\n%d packets captured", n)):
		case strings.Contains(said, fmt.Sprintf("\n%d packets captured", n+1)):
			lost++
		default:
			t.Fatalf("%d packets came; %s", n, said)
		}
	}
	if lost > most {
		t.Errorf("%d of %d stops lost a packet", lost, stops)
	}
}

// flood sends UDP packets on lo until the test ends.
func (b *bed) flood(t *testing.T) {
	t.Helper()
	from, end := b.udp(t, 0)
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			if _, err := from.Write(make([]byte, 100)); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	t.Cleanup(func() { end(); sending.Wait() })
}

// TestNoProcess: where no process can be made any more, a helper that does not heed signals is ended all the same.
func TestNoProcess(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "prlimit", "sleep")
	for i, sh := range posixShells(t)[:3] {
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			// A user of its own, whose processes are counted; root's are not.
			who := &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(61100 + i), Gid: 61100}}
			const most = 10 // processes; half of them are there from the start
			cmd := sh.command(stopLine("TERM", short))
			cmd.Args = append([]string{"prlimit", "--nproc=" + itoa(most), cmd.Path}, cmd.Args[1:]...)
			cmd.Args = append(cmd.Args, "sshpcap", "sh", "-c", `trap "" INT TERM; echo ready $$; exec sleep 300`)
			cmd.Path, cmd.Dir, cmd.SysProcAttr = where(t, "prlimit"), "/", who
			r := begun(t, cmd)
			r.ready()
			r.watched()
			for range most {
				other := exec.Command("sleep", "300")
				other.Dir, other.SysProcAttr = "/", who
				if err := other.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { other.Process.Kill(); other.Wait() })
			}
			limit := slack
			if sh.name == "bash as sh" {
				limit += 20 * time.Second // longer than it tries again
			}
			waitFor(t, limit, func() []string {
				return alive(func(pid int, _ []string) bool { return pid == r.helper })
			})
			r.stdin.Close() // as the server does when the first shell has ended
			waitFor(t, limit, r.left)
			cmd.Wait()
		})
	}
}
