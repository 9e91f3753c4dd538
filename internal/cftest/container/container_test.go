package container

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// codes are one-time codes.
type codes struct {
	mu   sync.Mutex
	good map[string]bool
}

func (c *codes) fresh() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good == nil {
		c.good = make(map[string]bool)
	}
	code := fmt.Sprint("code", len(c.good))
	c.good[code] = true
	return code
}

func (c *codes) take(code string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := c.good[code]
	if ok {
		c.good[code] = false
	}
	return ok
}

// platform is a proxy with one container.
type platform struct {
	*Proxy
	codes     codes
	container *Container
}

func start(t *testing.T, set func(*platform)) *platform {
	t.Helper()
	p := &platform{Proxy: &Proxy{}, container: &Container{GUID: "shop-guid", Index: 1}}
	p.TakeCode = p.codes.take
	if set != nil {
		set(p)
	}
	p.Add(p.container)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.container.Close(), p.Proxy.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *platform) dial(user, code string, set func(*ssh.ClientConfig)) (*ssh.Client, error) {
	config := &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.Password(code)},
		HostKeyCallback: ssh.FixedHostKey(p.HostKey.PublicKey()), Timeout: 5 * time.Second,
	}
	if set != nil {
		set(config)
	}
	return ssh.Dial("tcp", p.Addr(), config)
}

func (p *platform) login(t *testing.T) *ssh.Client {
	t.Helper()
	client, err := p.dial("cf:shop-guid/1", p.codes.fresh(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// command is one that runs in the container.
type command struct {
	t       *testing.T
	session *ssh.Session
	stdin   io.WriteCloser
	stdout  *bufio.Reader
}

func (p *platform) run(t *testing.T, client *ssh.Client, line string) *command {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start(line); err != nil {
		t.Fatal(err)
	}
	return &command{t, session, stdin, bufio.NewReader(stdout)}
}

func (c *command) line(want string) {
	c.t.Helper()
	if got, err := c.stdout.ReadString('\n'); err != nil || got != want+"\n" {
		c.t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

func (c *command) status() int {
	io.Copy(io.Discard, c.stdout)
	err := c.session.Wait()
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitStatus()
	}
	return -1
}

func (p *platform) gone(t *testing.T) {
	t.Helper()
	until(t, func() bool { return len(p.container.Processes()) == 0 })
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time")
		}
	}
}

func TestLogin(t *testing.T) {
	p := start(t, func(p *platform) {
		p.Allow = func(guid string, index int) bool { return guid != "closed" }
	})
	p.Add(&Container{GUID: "closed"})
	for user, ok := range map[string]bool{
		"cf:shop-guid/1": true, "cf:shop-guid/2": false, "cf:other/1": false, "shop-guid/1": false, "cf:shop-guid": false,
		"cf:shop-guid/x": false, "cf:/1": false, "": false, "root": false, "cf:closed/0": false,
	} {
		code := p.codes.fresh()
		client, err := p.dial(user, code, nil)
		if (err == nil) != ok {
			t.Errorf("%q: %v", user, err)
		}
		if err != nil && !strings.Contains(err.Error(), "unable to authenticate") {
			t.Errorf("%q: %v", user, err)
		}
		if client == nil {
			continue
		}
		client.Close()
		if _, err := p.dial(user, code, nil); err == nil {
			t.Error("a code worked twice")
		}
	}
	until(t, func() bool { return p.Logins() == 1 }) // the client knows of it a moment before the proxy counts it
}

func TestAlgorithms(t *testing.T) {
	p := start(t, nil)
	for name, set := range map[string]func(*ssh.ClientConfig){
		"kex":    func(c *ssh.ClientConfig) { c.KeyExchanges = []string{"ecdh-sha2-nistp256"} },
		"cipher": func(c *ssh.ClientConfig) { c.Ciphers = []string{"chacha20-poly1305@openssh.com"} },
	} {
		if _, err := p.dial("cf:shop-guid/1", p.codes.fresh(), set); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, cipher := range []string{"aes128-gcm@openssh.com", "aes128-ctr", "aes256-ctr"} {
		client, err := p.dial("cf:shop-guid/1", p.codes.fresh(), func(c *ssh.ClientConfig) { c.Ciphers = []string{cipher} })
		if err != nil {
			t.Errorf("%s: %v", cipher, err)
			continue
		}
		client.Close()
	}
}

func TestFingerprints(t *testing.T) {
	p := start(t, nil)
	f, key := p.Fingerprints(), p.HostKey.PublicKey()
	if "SHA256:"+f.SHA256Base64 != ssh.FingerprintSHA256(key) || f.MD5 != ssh.FingerprintLegacyMD5(key) {
		t.Errorf("%+v", f)
	}
	if len(f.SHA256Hex) != 64 || len(f.SHA256Base64) != 43 || len(f.SHA1) != 59 || len(f.MD5) != 47 {
		t.Errorf("%+v", f)
	}
}

func TestIdleAndKeepAlive(t *testing.T) {
	p := start(t, func(p *platform) { p.IdleTimeout = 300 * time.Millisecond })
	client := p.login(t)
	for end := time.Now().Add(600 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok, _, err := client.SendRequest("keepalive@openssh.com", true, nil); ok || err != nil {
			t.Fatalf("%v %v", ok, err)
		}
	}
	began := time.Now()
	client.Wait()
	if d := time.Since(began); d < 100*time.Millisecond || d > 3*time.Second {
		t.Errorf("cut after %v", d)
	}
}

func TestHandshakes(t *testing.T) {
	p := start(t, func(p *platform) { p.MaxHandshakes = 2 })
	var slow []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil { // the server's version: it counts
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	if _, err := p.dial("cf:shop-guid/1", "x", nil); err == nil || strings.Contains(err.Error(), "authenticate") {
		t.Errorf("the third: %v", err)
	}
	if p.Resets() != 1 {
		t.Errorf("%d resets", p.Resets())
	}
	slow[0].Close()
	until(t, func() bool { return p.Connections() == 1 })
	p.login(t)
}

func TestSignals(t *testing.T) {
	p := start(t, nil)
	client := p.login(t)
	t.Run("to the shell", func(t *testing.T) {
		c := p.run(t, client, `trap 'echo INT' INT; trap 'exit 4' TERM; echo ready; while :; do read -r x; done`)
		c.line("ready")
		c.session.Signal("NOPE")
		c.session.Signal("WINCH")
		c.session.Signal(ssh.SIGINT)
		c.line("INT")
		c.session.Signal(ssh.SIGTERM)
		if s := c.status(); s != 4 {
			t.Errorf("status %d", s)
		}
	})
	for _, s := range []struct {
		signal ssh.Signal
		status int
	}{{ssh.SIGINT, 130}, {ssh.SIGTERM, 143}, {ssh.SIGKILL, 137}} {
		t.Run(string(s.signal), func(t *testing.T) {
			c := p.run(t, client, `echo ready; exec sleep 60`)
			c.line("ready")
			c.session.Signal(s.signal)
			if got := c.status(); got != s.status {
				t.Errorf("status %d", got)
			}
		})
	}
	t.Run("only to the shell", func(t *testing.T) {
		c := p.run(t, client, `trap : INT; sh -c 'trap "" INT; trap "echo child" TERM; echo ready; read x; echo end'; echo shell; exit 3`)
		c.line("ready")
		c.session.Signal(ssh.SIGTERM) // the shell ends; its child is not told, and holds the output
		until(t, func() bool { return len(p.container.Processes()) == 1 })
		c.stdin.Close()
		c.line("end")
		if got := c.status(); got != 143 {
			t.Errorf("status %d", got)
		}
	})
}

func TestOutputBeforeStatus(t *testing.T) {
	p := start(t, nil)
	c := p.run(t, p.login(t), `head -c 5000000 /dev/zero; exit 9`)
	n, err := io.Copy(io.Discard, c.stdout)
	if n != 5000000 || err != nil || c.status() != 9 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestLivesOn closes the channel, then the connection: a command ends by the end of its input or by SIGPIPE, if at all.
func TestLivesOn(t *testing.T) {
	for how, end := range map[string]func(*platform, *ssh.Client, *command){
		"channel":    func(_ *platform, _ *ssh.Client, c *command) { c.session.Close() },
		"connection": func(_ *platform, l *ssh.Client, _ *command) { l.Close() },
		"cut":        func(p *platform, _ *ssh.Client, _ *command) { p.CloseConnections() },
	} {
		t.Run(how, func(t *testing.T) {
			p := start(t, nil)
			client := p.login(t)
			var commands []*command
			for _, line := range []string{`exec sleep 60`, `exec cat >/dev/null`, `while sleep .05; do /bin/echo x || exit; done`} {
				c := p.run(t, client, `echo ready; `+line)
				c.line("ready")
				commands = append(commands, c)
			}
			until(t, func() bool { return len(p.container.Processes()) >= 3 })
			for _, c := range commands {
				end(p, client, c)
			}
			until(t, func() bool { // the shell may not have become sleep yet
				left := p.container.Processes()
				return len(left) == 1 && left[0].Line == "sleep 60"
			})
		})
	}
}

func TestUnreachable(t *testing.T) {
	p := start(t, nil)
	p.container.Unreachable.Store(true)
	client := p.login(t)
	if _, err := client.NewSession(); err == nil {
		t.Error("a session")
	}
	p.container.Unreachable.Store(false)
	if s := p.run(t, p.login(t), "exit 5").status(); s != 5 {
		t.Errorf("status %d", s)
	}
}

func TestCrash(t *testing.T) {
	p := start(t, nil)
	client := p.login(t)
	c := p.run(t, client, `echo ready; (sleep 60 & setsid sleep 61 & wait)`)
	c.line("ready")
	if err := p.container.Crash(); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, c.stdout)
	var missing *ssh.ExitMissingError
	if err := c.session.Wait(); !errors.As(err, &missing) {
		t.Errorf("ended with %v", err)
	}
	p.gone(t)
	if _, err := p.dial("cf:shop-guid/1", p.codes.fresh(), nil); err == nil {
		t.Error("a login to a crashed container")
	}
	p.container.Restart()
	if s := p.run(t, p.login(t), "exit 6").status(); s != 6 {
		t.Errorf("status %d", s)
	}
}

// TestInside runs commands as another user, with a folder of their own and a prefix.
func TestInside(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "cftest-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	if err := os.WriteFile(dir+"/mark", []byte("mark\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, func(p *platform) {
		p.container.Lifecycle, p.container.User = dir, &User{UID: 65534, GID: 65534}
		p.container.Prefix = []string{"unshare", "--net"}
		p.container.Shell = []string{"sh"}
		p.container.Env = []string{"PATH=/bin:/usr/bin:/sbin", "A=b c"}
	})
	c := p.run(t, p.login(t), `cat /tmp/lifecycle/mark; id -u; echo "$A $0"; cat /proc/net/dev | grep -c :; ps -o ppid= -o sid= -p $$ | { read p s; [ $p = `+fmt.Sprint(os.Getpid())+` ] && [ $s = $$ ] && echo direct; }`)
	for _, want := range []string{"mark", "65534", "b c sh", "1", "direct"} {
		c.line(want)
	}
	if s := c.status(); s != 0 {
		t.Errorf("status %d", s)
	}
}
