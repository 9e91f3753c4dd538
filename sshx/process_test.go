package sshx_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/sshx"
)

func begin(t *testing.T, c *sshx.Conn, command string) *sshx.Process {
	t.Helper()
	p, err := c.Start(within(t, 10*time.Second), command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestProcess(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	c := dial(t, s.client(t), s.addr())

	p := begin(t, c, "tr a-z A-Z; echo done >&2; exit 3")
	if _, err := io.WriteString(p.Stdin, "some text\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stdin.Close(); err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(p.Stdout)
	errs, _ := io.ReadAll(p.Stderr)
	if string(out) != "SOME TEXT\n" || string(errs) != "done\n" {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}
	var exit *sshx.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.Status != 3 || exit.Signal != "" {
		t.Errorf("Wait: %v", err)
	}
	if got := output(t, c, "exit 0"); got != "" {
		t.Errorf("output %q", got)
	}
	if got := output(t, c, "tty; test -z $SSH_TTY$SSH_AUTH_SOCK && echo clean"); !strings.Contains(got, "not a tty") || !strings.Contains(got, "clean") {
		t.Errorf("a terminal or an agent was asked for: %q", got)
	}
	if want := s.addr(); c.RemoteAddr().String() != want || !strings.HasPrefix(c.LocalAddr().String(), "127.0.0.1:") {
		t.Errorf("addresses %v, %v", c.LocalAddr(), c.RemoteAddr())
	}
	if err := c.Err(); err != nil {
		t.Errorf("Err while it lives: %v", err)
	}
	c.Close()
	<-c.Done()
	if !errors.Is(c.Err(), sshx.ErrClosed) {
		t.Errorf("Err after Close: %v", c.Err())
	}
	if _, err := c.Start(context.Background(), "true"); sshx.KindOf(err) != sshx.KindLost {
		t.Errorf("Start after Close: %v", err)
	}
}

// A signal reaches the command only when the server runs as the user's own; root's sshd refuses it (a session of root
// counts as one with a forced command). Without an answer being asked for nothing hangs and the session goes on.
func TestSignal(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	c := dial(t, s.client(t), s.addr())
	p := begin(t, c, "kill -TERM $$")
	var exit *sshx.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.Signal != "TERM" || exit.Status != 143 {
		t.Errorf("Wait: %#v", err)
	}
	p = begin(t, c, "read line; echo $line")
	if err := p.Signal(ssh.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(p.Stdin, "still here")
	if out, _ := io.ReadAll(p.Stdout); string(out) != "still here\n" {
		t.Errorf("after a signal: %q", out)
	}
}

// Close ends one session at once, whatever the command does, and nothing else.
func TestProcessClose(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	c := dial(t, s.client(t), s.addr())
	other := begin(t, c, "cat")
	p := begin(t, c, "trap '' HUP INT TERM; echo $$; exec sleep 1000")
	killLater(t, p)
	closeWhileReading(t, p)
	if err := p.Wait(); !errors.Is(err, sshx.ErrLost) || !errors.Is(err, sshx.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
	fmt.Fprintln(other.Stdin, "alive")
	other.Stdin.Close()
	if out, _ := io.ReadAll(other.Stdout); string(out) != "alive\n" {
		t.Errorf("the other session gave %q", out)
	}
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
}

// What is read without a copy is what the command wrote, also when the rest is read with one; and it ends.
func TestReadStdout(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	c := dial(t, s.client(t), s.addr())
	var want strings.Builder
	for i := range 200_000 {
		fmt.Fprintln(&want, i+1)
	}
	for _, direct := range []int{want.Len() / 3, math.MaxInt} {
		p := begin(t, c, "seq 1 200000")
		var got []byte
		b, err := make([]byte, 256<<10), error(nil)
		for i, n := 0, 0; err == nil && len(got) < direct; i++ {
			n, err = p.ReadStdout(b[:1+i*i*7%len(b)])
			got = append(got, b[:n]...)
		}
		if err == nil {
			var rest []byte
			rest, err = io.ReadAll(p.Stdout)
			got = append(got, rest...)
		}
		if string(got) != want.String() || err != nil && err != io.EOF {
			t.Errorf("%d bytes and %v, want %d", len(got), err, want.Len())
		}
		for range 5 { // it stays at its end
			if n, err := p.ReadStdout(b); n != 0 || err != io.EOF {
				t.Errorf("%d bytes, %v after the end", n, err)
			}
		}
	}
}

// A reader that waits comes back when the process is closed, and what waited for it may be written to: nobody must.
func TestReadStdoutClose(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	c := dial(t, s.client(t), s.addr())
	p := begin(t, c, "trap '' HUP INT TERM; echo $$; exec sleep 1000")
	killPrinted(t, p.ReadStdout)
	b, ended := make([]byte, 64), make(chan error)
	go func() {
		_, err := p.ReadStdout(b)
		ended <- err
	}()
	sshx.WaitPumps(1)
	p.Close()
	select {
	case err := <-ended:
		if err != io.EOF {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it did not end after Close")
	}
}

// closeWhileReading closes p and wants the readers that wait to come back.
func closeWhileReading(t *testing.T, p *sshx.Process) {
	t.Helper()
	ended := make(chan error, 2)
	for _, r := range []io.Reader{p.Stdout, p.Stderr} {
		go func() {
			_, err := io.Copy(io.Discard, r)
			ended <- err
		}()
	}
	sshx.WaitPumps(2)
	p.Close()
	for range 2 {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("stdout and stderr did not end after Close")
		}
	}
}

// killLater reads the pid that the command prints and kills that process when the test ends.
func killLater(t *testing.T, p *sshx.Process) int {
	t.Helper()
	return killPrinted(t, p.Stdout.Read)
}

// killPrinted is killLater for what is read in any way.
func killPrinted(t *testing.T, read func([]byte) (int, error)) int {
	t.Helper()
	var line []byte
	b := make([]byte, 1)
	for {
		if _, err := read(b); err != nil {
			t.Fatal(err)
		}
		if b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

// The server's process for the connection is killed: every session is lost, and says why.
func TestLost(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	c := dial(t, s.client(t), s.addr())
	p := begin(t, c, "echo $PPID; exec cat")
	server := killLater(t, p)
	if err := syscall.Kill(server, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(p.Stdout); err != nil {
		t.Errorf("stdout ended with %v", err)
	}
	err := p.Wait()
	if !errors.Is(err, sshx.ErrLost) || !strings.Contains(err.Error(), "the server closed it") || hint(err) == "" {
		t.Errorf("Wait: %v, hint %q", err, hint(err))
	}
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("Done is open")
	}
	if c.Err() == nil {
		t.Error("Err is nil")
	}
}

// Who wants more sessions than a server allows on one connection gets further ones; a server that allows none is not
// asked again and again.
func TestTooManySessions(t *testing.T) {
	t.Parallel()
	s := newSSHD(t) // MaxSessions 10
	d := s.client(t)
	c, other := dial(t, d, s.addr()), dial(t, d, s.addr())
	// What waits for them comes back then: a test that hangs until the binary's time is up clears nothing up.
	context.AfterFunc(within(t, testTime), func() { c.Close(); other.Close() })
	const n = 30
	processes := make([]*sshx.Process, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			var err error
			if processes[i], err = []*sshx.Conn{c, other}[i%2].Start(within(t, testTime), "echo $SSH_CONNECTION; cat"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	used := map[string]int{}
	for _, p := range processes {
		all.Go(func() { io.Copy(io.Discard, p.Stderr) })
		out := bufio.NewReader(p.Stdout)
		line, _ := out.ReadString('\n')
		all.Go(func() { io.Copy(io.Discard, out) })
		used[line]++
	}
	if len(used) != 3 {
		t.Errorf("30 sessions on %d connections: %v", len(used), used)
	}
	s.log.exactly(t, "Accepted publickey", 3)
	processes[0].Stdin.Close() // makes room for one more, wherever it was
	if err := processes[0].Wait(); err != nil {
		t.Error(err)
	}
	begin(t, c, "cat")
	c.Close()
	output(t, other, "true")
	other.Close()
	all.Wait() // all streams have ended
	s.log.waitFor(t, "Connection closed by", 3)

	none := newSSHD(t, "MaxSessions 0")
	c = dial(t, none.client(t), none.addr())
	_, err := c.Start(within(t, 5*time.Second), "cat")
	wantError(t, err, sshx.KindTooManySessions, "no further session", "MaxSessions")
	none.log.exactly(t, "Accepted publickey", 1)
}

func TestStartCancelled(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	c := dial(t, s.client(t), s.addr())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Start(ctx, "true"); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v", err)
	}
	if got := output(t, c, "echo on"); got != "on\n" {
		t.Errorf("after a cancelled start: %q", got)
	}
}

func TestCommandRefused(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	text := read(t, s.dir+"/authorized")
	if err := os.WriteFile(s.dir+"/authorized", []byte(`restrict,command="/bin/false" `+text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s.client(t), s.addr())
	p := begin(t, c, "echo hello")
	var exit *sshx.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.Status != 1 {
		t.Errorf("a forced command's status: %v", err)
	}
}
