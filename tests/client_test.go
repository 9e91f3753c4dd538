package tests

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// patience is how long anything may take that takes milliseconds on a machine with nothing else to do.
const patience = 20 * time.Second

// client is a running sshpcap.
type client struct {
	t      testing.TB
	cmd    *exec.Cmd
	stderr text
	report string        // path of its --report
	done   chan struct{} // closed when it has ended
	since  time.Time     // of the last signal
}

// text collects what a program writes, to be read meanwhile.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// env is the client's environment: the bed's home, no agent, nothing of the tester's own.
func env(b *bed.Bed) []string {
	return []string{"HOME=" + b.Home(), "PATH=" + os.Getenv("PATH"), "USER=tester", "LANG=C.UTF-8", "TERM=xterm", "GOTRACEBACK=all"}
}

// start runs `sshpcap capture ARGS` in the hub, with a report.
func start(t testing.TB, b *bed.Bed, args ...string) *client {
	t.Helper()
	return startTo(t, b, nil, args...)
}

// startTo is start with a standard output.
func startTo(t testing.TB, b *bed.Bed, stdout io.Writer, args ...string) *client {
	t.Helper()
	return startProgram(t, b, binary, stdout, args...)
}

// startProgram is startTo with a program that execs sshpcap.
func startProgram(t testing.TB, b *bed.Bed, program string, stdout io.Writer, args ...string) *client {
	t.Helper()
	c := newClient(t, b, program, args...)
	c.cmd.Stdout, c.cmd.Stderr = stdout, &c.stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.watch()
	return c
}

func newClient(t testing.TB, b *bed.Bed, program string, args ...string) *client {
	t.Helper()
	c := &client{t: t, report: filepath.Join(t.TempDir(), "report.json"), done: make(chan struct{})}
	c.cmd = b.Hub.Command(program, append([]string{"capture", "--report", c.report}, args...)...)
	c.cmd.Env = env(b)
	c.cmd.Dir = t.TempDir() // a forgotten -o must not hit the source tree
	return c
}

// watch waits for the end of a client that has been started, in the background.
func (c *client) watch() {
	go func() {
		c.cmd.Wait()
		close(c.done)
	}()
	c.t.Cleanup(c.cleanup)
}

func (c *client) cleanup() {
	c.cmd.Process.Kill()
	<-c.done
	if c.t.Failed() {
		c.t.Logf("sshpcap %q\nexit: %v\nstderr:\n%s", c.cmd.Args[5:], c.cmd.ProcessState, last(c.stderr.String(), 4000))
		if report, err := os.ReadFile(c.report); err == nil {
			c.t.Logf("report:\n%s", last(string(report), 4000))
		}
	}
}

func last(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (c *client) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// ready waits for the line that says that the capture runs.
func (c *client) ready() *client {
	c.t.Helper()
	bed.WaitFor(c.t, patience, "sshpcap is ready", func() bool {
		if c.ended() {
			c.t.Fatal("sshpcap ended before it was ready")
		}
		return strings.Contains(c.stderr.String(), "Capturing on ")
	})
	return c
}

func (c *client) signal(sig os.Signal) *client {
	c.t.Helper()
	c.since = time.Now()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// exit waits for the end, and checks the exit code.
func (c *client) exit(within time.Duration, want int) {
	c.t.Helper()
	c.wait(within)
	if got := c.cmd.ProcessState.ExitCode(); got != want {
		c.t.Errorf("exit code %d (%v), want %d", got, c.cmd.ProcessState, want)
	}
}

// wait waits for the end.
func (c *client) wait(within time.Duration) {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(within):
		c.cmd.Process.Signal(syscall.SIGQUIT) // the goroutines go to stderr
		select {
		case <-c.done:
		case <-time.After(time.Second):
		}
		c.t.Fatalf("sshpcap did not end within %v", within)
	}
}

// interrupt types ^C and waits for the end.
func (c *client) interrupt(want int) {
	c.t.Helper()
	c.signal(os.Interrupt)
	c.exit(patience, want)
	took := time.Since(c.since)
	c.t.Logf("ended %v after ^C", took.Round(time.Millisecond))
	if took > 5*time.Second {
		c.t.Errorf("took %v after ^C", took)
	}
}

// complaint checks that stderr has one problem of the instance (or, without a name, of the whole command) and one hint,
// and that the problem contains every word. It returns both lines.
func (c *client) complaint(instance string, words ...string) (problem, hint string) {
	c.t.Helper()
	start := "sshpcap: "
	if instance != "" {
		start += instance + ": "
	}
	var problems, hints []string
	lines := strings.Split(c.stderr.String(), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, start) {
			problems = append(problems, line)
			if i+1 < len(lines) && strings.HasPrefix(strings.TrimSpace(lines[i+1]), "hint: ") {
				hints = append(hints, strings.TrimSpace(lines[i+1]))
			}
		}
	}
	if len(problems) != 1 || len(hints) != 1 {
		c.t.Errorf("%d problem and %d hint lines for %q, want one each:\n%s", len(problems), len(hints), instance, c.stderr.String())
		return "", ""
	}
	for _, word := range words {
		if !strings.Contains(strings.ToLower(problems[0]), strings.ToLower(word)) {
			c.t.Errorf("the problem does not say %q: %s", word, problems[0])
		}
	}
	return problems[0], hints[0]
}

// clean waits until no capture is left on any of the hosts.
func clean(t testing.TB, within time.Duration, hosts ...*bed.Host) {
	t.Helper()
	for _, h := range hosts {
		var left []bed.Process
		deadline := time.Now().Add(within)
		for left = h.Leftovers(); len(left) > 0 && time.Now().Before(deadline); left = h.Leftovers() {
			time.Sleep(20 * time.Millisecond)
		}
		if len(left) > 0 {
			t.Errorf("left on %s after %v: %v", h.Name, within, left)
		}
	}
}

// output is a path for -o in a directory of its own.
func output(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(t.TempDir(), name)
}
