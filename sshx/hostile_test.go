package sshx_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sshpcap/sshpcap/internal/rawserver"
	"github.com/sshpcap/sshpcap/sshx"
)

const evil = "\x1b]0;pwned\x07\x1b[2J\u009b31m\u202etxt.exe\x00\r\b\u2028"

// printable fails the test if a text would do anything to a terminal but show characters.
func printable(t testing.TB, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && r != ' ' && !unicode.IsPrint(r) {
			t.Errorf("%U in %q", r, text)
			return
		}
	}
}

// raw starts a server that does anything, and gives a way to it.
func raw(t testing.TB, handle func(*rawserver.Conn)) sshx.Endpoint {
	t.Helper()
	s, err := rawserver.Start(handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	host, text, _ := net.SplitHostPort(s.Addr())
	port, _ := strconv.Atoi(text)
	return sshx.Endpoint{Host: host, Port: port, User: "tester", HostKeyCallback: ssh.FixedHostKey(s.Key.PublicKey())}
}

// sessions lets everybody in, and opens all sessions that the client wants, with a window. None is ever closed.
func sessions(window uint32) func(*rawserver.Conn) {
	return func(c *rawserver.Conn) {
		if c.Login() != nil {
			return
		}
		for {
			if _, err := c.Session(window); err != nil {
				return
			}
		}
	}
}

// TestSessionsThatDoNotEnd: a server that leaves sessions open which nobody wants any more is left.
func TestSessionsThatDoNotEnd(t *testing.T) {
	t.Parallel()
	var d sshx.Dialer
	c, err := d.DialEndpoint(within(t, testTime), raw(t, sessions(1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for n := 0; ; n++ {
		p, err := c.Start(within(t, testTime), "x")
		if err != nil {
			wantError(t, err, sshx.KindLost, "does not end its sessions")
			if n < 60 {
				t.Errorf("left after %d sessions", n)
			}
			break
		}
		if n == 1000 {
			t.Fatal("never left")
		}
		p.Close()
	}
	<-c.Done()
}

// TestOpeningEnds: a session that is being opened just when the server breaks the rules ends with the connection, and closing waits
// for nothing else.
func TestOpeningEnds(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			var d sshx.Dialer
			c, err := d.DialEndpoint(within(t, testTime), raw(t, func(c *rawserver.Conn) {
				if c.Login() != nil {
					return
				}
				c.Session(1 << 20)
				for range 200 { // what is on its way behind the first of them has x/crypto hang
					if c.Data(1000, make([]byte, 1000)) != nil {
						return
					}
				}
			}))
			if err != nil {
				t.Error(err)
				return
			}
			var starting sync.WaitGroup
			for range 100 {
				starting.Go(func() {
					if p, err := c.Start(within(t, testTime), "x"); err == nil {
						p.Close() // the one that the server has opened
					}
				})
			}
			starting.Wait()
			closed := make(chan struct{})
			go func() { c.Close(); close(closed) }()
			select {
			case <-closed:
			case <-time.After(testTime):
				t.Error("the connection does not close")
			}
		})
	}
	all.Wait()
}

// TestNoWindow: a server that takes no input holds up whoever writes it, and nobody else, until the process is closed.
func TestNoWindow(t *testing.T) {
	t.Parallel()
	var d sshx.Dialer
	c, err := d.DialEndpoint(within(t, testTime), raw(t, sessions(0)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.Start(within(t, testTime), "x")
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := p.Stdin.Write([]byte("x"))
		wrote <- err
	}()
	for !sshx.Typing(p) {
		runtime.Gosched()
	}
	if err := errors.Join(p.Signal(ssh.SIGTERM), p.Stdin.Close()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-wrote:
		t.Errorf("written: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	p.Close()
	if err := <-wrote; !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	if err := p.Signal(ssh.SIGTERM); !errors.Is(err, io.ErrClosedPipe) && err != nil {
		t.Error(err)
	}
}

// TestNothingIsRead: a server that reads nothing, so that the link is full, does not hold up Close.
func TestNothingIsRead(t *testing.T) {
	t.Parallel()
	var d sshx.Dialer
	c, err := d.DialEndpoint(within(t, testTime), raw(t, func(c *rawserver.Conn) {
		if c.Login() != nil {
			return
		}
		if _, err := c.Session(1 << 30); err != nil {
			return
		}
		for c.Send(struct {
			Name  string `sshtype:"80"`
			Reply bool
		}{"evil", true}) == nil {
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Start(within(t, testTime), "x")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			if _, err := p.Stdin.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	time.Sleep(100 * time.Millisecond) // time for the link to fill; nothing hangs on it
	p.Close()
	c.Close()
	work.Wait()
}

// TestQuestionsWithoutEnd: a server may ask a user no more than some questions, whatever it does, and what it asks is text.
func TestQuestionsWithoutEnd(t *testing.T) {
	t.Parallel()
	for _, each := range []uint32{1, 3, 1000} {
		var asked atomic.Int64
		d := sshx.Dialer{Prompt: func(_ context.Context, p sshx.Prompt) (string, error) {
			asked.Add(1)
			printable(t, p.Text)
			if len(p.Text) > 1000 || !strings.HasPrefix(p.Text, "(tester@") {
				t.Errorf("%q", p.Text)
			}
			return "secret", nil
		}}
		_, err := d.DialEndpoint(within(t, testTime), raw(t, func(c *rawserver.Conn) {
			if c.Handshake() != nil || c.Service() != nil {
				return
			}
			for {
				if c.Send(struct {
					Methods []string `sshtype:"51"`
					Partial bool
				}{[]string{"keyboard-interactive"}, false}) != nil {
					return
				}
				if _, err := c.Await(rawserver.MsgAuthRequest); err != nil {
					return
				}
				for {
					if c.Write(questions(each)) != nil {
						return
					}
					if _, err := c.Await(rawserver.MsgAuthInfoResponse); err != nil {
						return
					}
				}
			}
		}))
		wantError(t, err, sshx.KindLoginRefused, "too many questions")
		if n := asked.Load(); n > 32 || each < 10 && n < 10 {
			t.Errorf("%d at a time: %d questions", each, n)
		}
	}
}

// questions is a keyboard-interactive request.
func questions(n uint32) []byte {
	p := ssh.Marshal(struct {
		Name, Instruction, Language string `sshtype:"60"`
		N                           uint32
	}{evil, strings.Repeat(evil, 1000), "", n})
	for range n {
		p = append(p, ssh.Marshal(struct {
			Text string
			Echo bool
		}{"passphrase for ~/.ssh/id_rsa" + evil + strings.Repeat("x", 100), true})...)
	}
	return p
}

// TestEvilCertificate: what a host certificate says is shown as text.
func TestEvilCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := keygen(t, filepath.Join(dir, "ca"), "ed25519", "")
	key := keygen(t, filepath.Join(dir, "h"), "ed25519", "")
	args := strings.ReplaceAll(evil, "\x00", "")
	run(t, "ssh-keygen", "-q", "-s", ca, "-I", "id "+args, "-h", "-n", "elsewhere"+args, key+".pub")
	s := newSSHD(t, "HostKey "+key, "HostCertificate "+key+"-cert.pub")
	d, _ := s.knowing(t, "@cert-authority 127.0.0.* "+read(t, ca+".pub"))
	err := refuse(t, d, s.addr())
	wantError(t, err, sshx.KindBadHostCert, "elsewhere")
	printable(t, err.Error()+hint(err))
}

// TestChangedKeyOnTheWay: the keys of jump hosts, the first and the second, are checked as that of the target is.
func TestChangedKeyOnTheWay(t *testing.T) {
	t.Parallel()
	a, b, target := newSSHD(t), newSSHD(t), newSSHD(t)
	servers := map[string]*sshd{"a": a, "b": b, "target": target}
	for who, s := range servers {
		for _, kind := range []sshx.Kind{sshx.KindUnknownHostKey, sshx.KindChangedHostKey} {
			d := hosts(t, servers, "Host target", "ProxyJump a,b")
			known := filepath.Join(filepath.Dir(d.ConfigFile), "known_hosts")
			other := keygen(t, filepath.Join(t.TempDir(), "other"), "ed25519", "")
			line := ""
			if kind == sshx.KindChangedHostKey {
				line = knownhosts.Normalize(s.addr()) + " " + read(t, other+".pub")
			}
			text := read(t, known)
			write(t, known, strings.Replace(text, s.knownLine(t), line, 1))
			err := refuse(t, d, "target")
			wantError(t, err, kind)
			if hop := who != "target"; hop != strings.HasPrefix(err.Error(), "jump host "+who) {
				t.Errorf("of %s: %v", who, err)
			}
			write(t, known, text)
		}
	}
}

// TestOthersConfig: an ssh_config of the user's that somebody else may write to is refused, and so is what it includes.
func TestOthersConfig(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := write(t, filepath.Join(home, ".ssh", "config"), "Include more\n")
	more := write(t, filepath.Join(home, ".ssh", "more"), "Host web\n  Port 2222\n")
	resolve := func() error {
		e, err := new(sshx.Dialer).Resolve("web")
		if err == nil && e.Port != 2222 {
			t.Errorf("port %d", e.Port)
		}
		return err
	}
	if err := resolve(); err != nil {
		t.Error(err)
	}
	for _, file := range []string{config, more} {
		for _, mode := range []os.FileMode{0o620, 0o602} {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			wantError(t, resolve(), sshx.KindConfig, file, "somebody else", "chmod")
		}
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() != 0 {
			continue
		}
		if err := os.Chown(file, 61001, -1); err != nil {
			t.Fatal(err)
		}
		wantError(t, resolve(), sshx.KindConfig, file)
		if err := os.Chown(file, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	if err := resolve(); err != nil {
		t.Error(err)
	}
}

// FuzzServer: whatever a server sends before anybody is logged in, there is an error, and it is text.
func FuzzServer(f *testing.F) {
	init := new(rawserver.Conn).KexInit()
	packet := append([]byte{0, 0, byte((len(init) + 5) >> 8), byte(len(init) + 5), 4}, append(init, 0, 0, 0, 0)...)
	for _, s := range [][]byte{nil, []byte("SSH-2.0-x\r\n"), []byte("Exceeded MaxStartups\r\n"), []byte("HTTP/1.1 400 Bad Request\r\n\r\n" + evil), []byte(strings.Repeat("x\n", 2000)),
		append([]byte("SSH-2.0-x\r\n"), packet...), append([]byte("SSH-2.0-"+evil+"\n"), packet...), []byte("SSH-2.0-x\r\n\x7f\xff\xff\xff"),
		append([]byte("SSH-2.0-x\r\n"), "\x00\x00\x00\x3c\x04\x01\x00\x00\x00\x02\x00\x00\x00\x20farewell "+evil+"\x00\x00\x00\x00\x00\x00\x00\x00"...)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		var d sshx.Dialer
		tries := 0
		e := sshx.Endpoint{Host: "h", User: "u", HostKeyCallback: ssh.InsecureIgnoreHostKey()}
		e.DialTCP = func(context.Context, string, string) (net.Conn, error) {
			if tries++; tries > 1 {
				return nil, &sshx.Error{Problem: "once is enough", Tip: "none"} // a hang-up is tried again
			}
			here, there := net.Pipe()
			go func() {
				go io.Copy(io.Discard, there)
				_, _ = there.Write(said)
				there.Close()
			}()
			return here, nil
		}
		c, err := d.DialEndpoint(context.Background(), e)
		if err == nil {
			c.Close()
			t.Fatal("let in")
		}
		printable(t, err.Error()+hint(err))
	})
}

// FuzzKnownHosts: a key is good only if it stands in the file, and errors are text.
func FuzzKnownHosts(f *testing.F) {
	const blob = "AAAAC3NzaC1lZDI1NTE5AAAAIEhPU1RLRVlIT1NUS0VZSE9TVEtFWUhPU1RLRVlIT1NU"
	raw, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		f.Fatal(err)
	}
	key, err := ssh.ParsePublicKey(raw)
	if err != nil {
		f.Fatal(err)
	}
	line := " ssh-ed25519 " + blob
	for _, s := range []string{"", "h" + line, "h,i" + line + " comment", "*" + line, "!h,*" + line, "[h]:2222" + line, knownhosts.HashHostname("h") + line, "@revoked *" + line,
		"@cert-authority *" + line, "h ssh-ed25519 AAAA", "h" + line[:40], "|1|x|y" + line, "#\n\n\t\nh" + line, "@evil h" + line, "h\x00" + line, evil + line, "h ssh-rsa " + blob} {
		f.Add(s)
	}
	name := filepath.Join(f.TempDir(), "known_hosts")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, e := range []sshx.Endpoint{{Host: "h"}, {Host: "h", Port: 2222}, {Host: "2001:db8::1"}, {Host: "x", HostKeyAlias: "h"}} {
			err := sshx.CheckKnownHost(name, e, key)
			if err == nil && !strings.Contains(text, strings.TrimRight(blob, "=")) {
				t.Errorf("%+v is known by %q", e, text)
			}
			if err != nil {
				printable(t, strings.ReplaceAll(err.Error()+hint(err), name, ""))
			}
		}
	})
}

// TestMoreBehindTheEnd: a server that ends the connection by a wrong message, and sends more behind it than x/crypto takes,
// leaves something hanging there for ever. The connection ends all the same, at the login and later; and after some of
// these the server is left alone, so that it does not take more and more memory.
func TestMoreBehindTheEnd(t *testing.T) {
	t.Parallel()
	wrong := func(c *rawserver.Conn) {
		for range 100 { // data of a channel that there is not
			if c.Data(1000, make([]byte, 1000)) != nil {
				return
			}
		}
		idle(c)
	}
	for name, handle := range map[string]func(*rawserver.Conn){
		"at the login": func(c *rawserver.Conn) {
			if c.Handshake() == nil && c.Service() == nil {
				wrong(c)
			}
		},
		"later": func(c *rawserver.Conn) {
			if c.Login() == nil {
				wrong(c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d sshx.Dialer
			e := raw(t, handle)
			for n := 0; ; n++ {
				if n == 300 {
					t.Fatal("it is never left alone")
				}
				c, err := d.DialEndpoint(within(t, testTime), e)
				if err != nil && strings.Contains(err.Error(), "left alone") {
					printable(t, err.Error()+hint(err))
					return
				}
				if err == nil {
					<-c.Done()
					c.Close()
				}
			}
		})
	}
}

// idle waits for the end of the connection.
func idle(c *rawserver.Conn) { _, _ = io.Copy(io.Discard, c.Conn) }

// FuzzSession: whatever messages a server sends while a command runs, the command has an end, which is text.
func FuzzSession(f *testing.F) {
	messages := func(all ...[]byte) (joined []byte) {
		for _, m := range all {
			joined = append(append(joined, byte(len(m))), m...)
		}
		return joined
	}
	status := ssh.Marshal(struct {
		Channel uint32 `sshtype:"98"`
		Name    string
		Reply   bool
		Status  uint32
	}{0, "exit-status", true, 1<<32 - 1})
	signal := ssh.Marshal(struct {
		Channel    uint32 `sshtype:"98"`
		Name       string
		Reply      bool
		Signal     string
		Core       bool
		Text, Lang string
	}{0, "exit-signal", false, "SEGV" + evil, true, evil, ""})
	end := []byte{rawserver.MsgChannelClose, 0, 0, 0, 0}
	for _, s := range [][]byte{nil, messages(status, end), messages(signal, end, status), messages([]byte{rawserver.MsgChannelEOF, 0, 0, 0, 0}, []byte("\x5e\x00\x00\x00\x00\x00\x00\x00\x01x")),
		messages([]byte("\x5f\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02" + "er")), messages([]byte{rawserver.MsgChannelAdjust, 0, 0, 0, 0, 255, 255, 255, 255}),
		messages([]byte{rawserver.MsgKexInit}, []byte{rawserver.MsgNewKeys}), messages([]byte{rawserver.MsgAuthSuccess}), messages([]byte{rawserver.MsgChannelConfirm, 0, 0, 0, 0}),
		messages([]byte("\x01\x00\x00\x00\x02\x00\x00\x00\x05a\x1b[2Jb")[:14], end), messages([]byte{192, 0, 0, 0, 1, 'x'}, []byte{81}, []byte{82}, []byte{100, 0, 0, 0, 0})} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		var d sshx.Dialer
		c, err := d.DialEndpoint(within(t, testTime), raw(t, func(c *rawserver.Conn) {
			if c.Login() != nil {
				return
			}
			if _, err := c.Session(1 << 20); err != nil {
				return
			}
			for len(said) > 0 {
				n := min(int(said[0]), len(said)-1)
				if n > 0 && c.Write(said[1:1+n]) != nil {
					return
				}
				said = said[1+n:]
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p, err := c.Start(within(t, testTime), "x")
		if err != nil {
			printable(t, err.Error()+hint(err)) // all came before the answer was looked at
			return
		}
		var beside sync.WaitGroup
		beside.Go(func() { _, _ = io.Copy(io.Discard, p.Stderr) })
		_, _ = io.Copy(io.Discard, p.Stdout)
		beside.Wait()
		if err := p.Wait(); err != nil {
			printable(t, err.Error()+hint(err))
			if exit, ok := errors.AsType[*sshx.ExitError](err); ok {
				printable(t, exit.Signal+exit.Text)
			}
		}
		<-c.Done()
		printable(t, c.Err().Error())
	})
}
