package tests

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// terminal is a pseudo-terminal with a client on it.
type terminal struct {
	*client
	master, slave *os.File
	screen        text // everything the terminal was sent
	read          chan struct{}
	before        unix.Termios
}

// onTerminal runs `sshpcap capture ARGS` on a terminal of its own, as its controlling one.
func onTerminal(t *testing.T, b *bed.Bed, args ...string) *terminal {
	t.Helper()
	return startOnTerminal(t, newClient(t, b, binary, args...))
}

// startOnTerminal starts a client on a terminal of its own.
func startOnTerminal(t *testing.T, c *client) *terminal {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{client: c, master: master, slave: slave, read: make(chan struct{})}
	term.before = term.modes()
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(term.read)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.screen.Write(buf[:n])
			term.stderr.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		slave.Close()
		<-term.read
		master.Close()
	})
	term.watch()
	return term
}

func (term *terminal) modes() unix.Termios {
	term.t.Helper()
	modes, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return *modes
}

// hangUp takes the terminal away, as a window does that is closed.
func (term *terminal) hangUp() {
	term.since = time.Now()
	term.slave.Close()
	term.master.Close()
}

func (term *terminal) typed(keys string) {
	term.t.Helper()
	term.since = time.Now()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// shows waits until the terminal has been sent something.
func (term *terminal) shows(what string) {
	term.t.Helper()
	expr := regexp.MustCompile(what)
	bed.WaitFor(term.t, patience, "the terminal shows "+what, func() bool { return expr.MatchString(term.screen.String()) })
}

// lines is what stands on the screen in the end: of each line what was written after the last return to its start.
func (term *terminal) lines() []string {
	var out []string
	for line := range strings.Lines(strings.ReplaceAll(term.screen.String(), "\r\n", "\n")) {
		line = strings.TrimSuffix(line, "\n")
		if at := strings.LastIndex(line, "\r"); at >= 0 {
			line = line[at+1:]
		}
		out = append(out, regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]").ReplaceAllString(line, ""))
	}
	return out
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	b, hosts, flows := three(t, bed.Options{})
	file := output(t, "a.pcapng")
	term := onTerminal(t, b, "web1", "web2", "db1", "-o", file, "-f", flowFilter, "-s", snaplen)
	term.shows(`Capturing on 3 instances, press \^C to stop`)
	sendAll(t, 250, 1000, flows...)
	term.shows(`3/3 instances  1,000 packets`)
	term.typed("\x03")
	term.exit(5*time.Second, 0)
	t.Logf("ended %v after ^C", time.Since(term.since).Round(time.Millisecond))
	clean(t, patience, hosts...)
	exactly(t, file, sightsOf(flows, "any")...)
	term.check(file)
	if after := term.modes(); after != term.before {
		t.Errorf("the terminal's modes were %+v, now they are %+v", term.before, after)
	}
	bed.WaitFor(t, patience, "the last line", func() bool { return strings.HasSuffix(term.screen.String(), "\r\n") })
	end := term.lines()
	for len(end) > 0 && !strings.HasPrefix(end[0], "INSTANCE") {
		end = end[1:]
	}
	if len(end) != 5 {
		t.Fatalf("the last lines are not a table of three and where it went: %q", term.lines())
	}
	for i, want := range []string{"INSTANCE +PACKETS +BYTES +DROPPED +LATE", "web1 +500 ", "web2 +250 ", "db1 +250 ", regexp.QuoteMeta(file)} {
		if !regexp.MustCompile(want).MatchString(end[i]) {
			t.Errorf("line %d of the end is %q, want %s", i, end[i], want)
		}
	}
	for _, line := range term.lines() {
		if strings.Contains(line, "instances  ") {
			t.Errorf("a progress line is left on the screen: %q", line)
		}
	}
}

// TestTerminalBar: with something to reach there is a real bar.
func TestTerminalBar(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	term := onTerminal(t, b, "web1", "-o", output(t, "a.pcapng"), "-f", flowFilter, "-s", snaplen, "-d", "3s")
	term.shows(`[1-9][0-9]?%`)
	term.exit(patience, 0)
	clean(t, patience, h)
}

// TestPacketsToTerminal: packets do not go to a terminal, and nothing connects to find out.
func TestPacketsToTerminal(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	term := onTerminal(t, b, "web1", "-o", "-")
	term.exit(patience, 2)
	term.shows("terminal")
	term.shows("hint: ")
	if n := h.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// TestPassphrase: a key's passphrase is asked for on a terminal, without showing it.
func TestPassphrase(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	lock(t, filepath.Join(b.Home(), ".ssh", "id_ed25519"), "open sesame")

	t.Run("typed", func(t *testing.T) {
		file := output(t, "a.pcapng")
		term := onTerminal(t, b, "web1", "-o", file, "-f", flowFilter, "-s", snaplen)
		term.shows("(?i)passphrase")
		bed.WaitFor(t, patience, "the echo is off", func() bool { return term.modes().Lflag&unix.ECHO == 0 })
		term.typed("open sesame\r")
		term.shows("Capturing on 1 instance")
		term.typed("\x03")
		term.exit(patience, 0)
		if strings.Contains(term.screen.String(), "sesame") {
			t.Error("the passphrase was shown")
		}
		if term.modes() != term.before {
			t.Error("the terminal's modes have changed")
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		term := onTerminal(t, b, "web1", "-o", output(t, "a.pcapng"))
		term.shows("(?i)passphrase")
		bed.WaitFor(t, patience, "the echo is off", func() bool { return term.modes().Lflag&unix.ECHO == 0 })
		term.typed("\x03")
		term.wait(5 * time.Second)
		if term.modes() != term.before {
			t.Error("the terminal's modes have changed")
		}
	})
	t.Run("without a terminal", func(t *testing.T) {
		c := start(t, b, "web1", "-o", output(t, "a.pcapng"))
		c.exit(patience, 1)
		if _, hint := c.complaint("web1"); !strings.Contains(strings.ToLower(c.stderr.String()), "passphrase") {
			t.Errorf("no word of the passphrase: %s", hint)
		}
	})
	t.Run("check", func(t *testing.T) {
		c := newClient(t, b, binary)
		c.cmd.Args = append(b.Hub.Command(binary).Args, "check", "web1")
		term := startOnTerminal(t, c)
		term.shows("(?i)passphrase")
		bed.WaitFor(t, patience, "the echo is off", func() bool { return term.modes().Lflag&unix.ECHO == 0 })
		term.typed("open sesame\r")
		term.exit(patience, 0)
		term.shows(`(?s)✓ +web1.*\r\nA capture would work\.\r\n`)
	})
	clean(t, patience, h)
}

// lock encrypts a private key in place.
func lock(t *testing.T, path, passphrase string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "bed", []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAgent: keys of the user's agent are used.
func TestAgent(t *testing.T) {
	t.Parallel()
	b := bed.New(t, tools...)
	h := b.Add("web1", bed.Options{})
	socket := serveAgent(t, b)
	c := newClient(t, b, binary, "web1", "-o", output(t, "a.pcapng"))
	c.cmd.Env = append(c.cmd.Env, "SSH_AUTH_SOCK="+socket)
	c.cmd.Stderr = &c.stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.watch()
	c.ready().interrupt(0)
	clean(t, patience, h)
}
