package sshx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sshpcap/sshpcap/sshx"
)

// What x/crypto leaves of a connection to a server that breaks the rules cannot be ended: see goesSilent. Of others something
// of ours would be left as well.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("golang.org/x/crypto/ssh.(*handshakeTransport).readLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/crypto/ssh.(*handshakeTransport).kexLoop"), goleak.IgnoreAnyFunction("golang.org/x/crypto/ssh.(*mux).loop"),
		goleak.IgnoreAnyFunction("golang.org/x/crypto/ssh.(*mux).Wait"), goleak.IgnoreAnyFunction("golang.org/x/crypto/ssh.(*mux).openChannel"))
}

// log is a program's output that can be waited for.
type log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newLog() *log { return &log{changed: make(chan struct{})} }

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(b), nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) count(s string) int { return strings.Count(l.String(), s) }

// waitFor waits until s, or another text that means the same, has come n times.
func (l *log) waitFor(t testing.TB, s string, n int, or ...string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		changed, have := l.changed, strings.Count(l.text.String(), s)
		for _, other := range or {
			have += strings.Count(l.text.String(), other)
		}
		l.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no %q (%d times) within 20 s in:\n%s", s, n, l)
		}
	}
}

// exactly waits until s has come n times and fails if it came more often. A server's log comes when the client is long
// on with something else, so a count of what is there already proves nothing.
func (l *log) exactly(t testing.TB, s string, n int) {
	t.Helper()
	l.waitFor(t, s, n)
	if got := l.count(s); got != n {
		t.Errorf("%d times %q, want %d", got, s, n)
	}
}

// run runs a program to its end.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start runs a program until the test ends.
func start(t testing.TB, out io.Writer, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		// Below those that the system gives out by itself, to whoever asks meanwhile.
		port := 20_000 + int(nextPort.Add(1)+uint32(os.Getpid())*101)%12_000
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

var nextPort atomic.Uint32

func write(t testing.TB, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// keygen makes a key without a passphrase, or with pass; one round of its derivation, which takes seconds under -race.
func keygen(t testing.TB, file, kind, pass string, more ...string) string {
	t.Helper()
	run(t, "ssh-keygen", append([]string{"-q", "-a", "1", "-t", kind, "-N", pass, "-C", filepath.Base(file), "-f", file}, more...)...)
	return file
}

// sshd is the machine's own, with its own everything.
type sshd struct {
	dir     string
	port    int
	key     string // a private key that may log in
	hostKey string
	log     *log
	cmd     *exec.Cmd
}

func (s *sshd) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// knownLine is the line for known_hosts.
func (s *sshd) knownLine(t testing.TB) string {
	return fmt.Sprintf("[127.0.0.1]:%d %s", s.port, read(t, s.hostKey+".pub"))
}

// newSSHD starts a server; options are further lines of its configuration, which go first.
func newSSHD(t testing.TB, options ...string) *sshd {
	t.Helper()
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Skip("needs root: ", err)
	}
	s := &sshd{dir: t.TempDir(), port: freePort(t), log: newLog()}
	s.key = keygen(t, filepath.Join(s.dir, "user"), "ed25519", "")
	s.hostKey = keygen(t, filepath.Join(s.dir, "host"), "ed25519", "")
	s.authorize(t, s.key)
	config := strings.Join(options, "\n") + fmt.Sprintf(`
Port %d
ListenAddress 127.0.0.1
HostKey %s
PidFile %s/pid
AuthorizedKeysFile %s/authorized
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel VERBOSE
`, s.port, s.hostKey, s.dir, s.dir)
	s.cmd = start(t, s.log, "/usr/sbin/sshd", "-D", "-e", "-f", write(t, filepath.Join(s.dir, "config"), config))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("sshd on port %d:\n%s", s.port, s.log)
		}
	})
	s.log.waitFor(t, "Server listening on", 1)
	return s
}

// authorize lets another key in.
func (s *sshd) authorize(t testing.TB, key string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.dir, "authorized"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(read(t, key+".pub")); err != nil {
		t.Fatal(err)
	}
}

// warnings collects what Warn is told.
type warnings struct {
	mu   sync.Mutex
	list []string
}

func (w *warnings) add(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, s)
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.list...)
}

// client gives a dialer with a configuration of its own: the server's key is known, its user key is the only one.
func (s *sshd) client(t testing.TB, config ...string) *sshx.Dialer {
	t.Helper()
	dir := t.TempDir()
	known := write(t, filepath.Join(dir, "known_hosts"), s.knownLine(t))
	return client(t, dir, append(config, "Host *", "IdentityFile "+s.key, "UserKnownHostsFile "+known)...)
}

func client(t testing.TB, dir string, config ...string) *sshx.Dialer {
	t.Helper()
	lines := strings.Join(config, "\n") + "\nHost *\nUser root\nIdentityAgent none\nGlobalKnownHostsFile none\n"
	return &sshx.Dialer{ConfigFile: write(t, filepath.Join(dir, "ssh_config"), lines)}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func dial(t testing.TB, d *sshx.Dialer, target string) *sshx.Conn {
	t.Helper()
	c, err := d.Dial(within(t, 20*time.Second), target)
	if err != nil {
		t.Fatalf("dial %s: %v\nhint: %s", target, err, hint(err))
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// output runs a command and gives what it says on stdout.
func output(t testing.TB, c *sshx.Conn, command string) string {
	t.Helper()
	p, err := c.Start(within(t, 10*time.Second), command)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, _ := io.ReadAll(p.Stdout)
	if err := p.Wait(); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return string(out)
}

func hint(err error) string {
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return h.Hint()
	}
	return ""
}

// wantError checks an error's kind and that its texts hold some words.
func wantError(t testing.TB, err error, kind sshx.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if got := sshx.KindOf(err); got != kind {
		t.Errorf("kind %d, want %d: %v", got, kind, err)
	}
	text := err.Error() + "\n" + hint(err)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in %q", w, text)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("error is not one clean line: %q", err)
	}
	if hint(err) == "" {
		t.Errorf("no hint for %v", err)
	}
	t.Logf("%v\nhint: %s", err, hint(err))
}

func command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }
