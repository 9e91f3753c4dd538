package sshx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/sshx"
)

const testTime = 20 * time.Second

// agent starts an ssh-agent with keys and gives its socket.
func startAgent(t *testing.T, keys ...string) string {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "agent")
	l := newLog()
	start(t, l, "ssh-agent", "-D", "-a", sock)
	l.waitFor(t, "SSH_AUTH_SOCK", 1)
	for _, k := range keys {
		addKey(t, sock, k)
	}
	return sock
}

func addKey(t *testing.T, sock, key string) {
	t.Helper()
	cmd := command("ssh-add", "-q", key)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v\n%s", err, out)
	}
}

// login gives a client that knows the server and has only the given configuration.
func (s *sshd) login(t *testing.T, config ...string) *sshx.Dialer {
	t.Helper()
	dir := t.TempDir()
	known := write(t, filepath.Join(dir, "known_hosts"), s.knownLine(t))
	return client(t, dir, append(config, "UserKnownHostsFile "+known)...)
}

// never fails the test when anything is asked.
func never(t *testing.T) func(context.Context, sshx.Prompt) (string, error) {
	return func(_ context.Context, p sshx.Prompt) (string, error) {
		t.Errorf("asked: %q", p.Text)
		return "", errors.New("not to be asked")
	}
}

func TestKeyKinds(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	dir := t.TempDir()
	for name, key := range map[string]string{
		"rsa":         keygen(t, filepath.Join(dir, "rsa"), "rsa", "", "-b", "2048"),
		"rsa, PEM":    keygen(t, filepath.Join(dir, "pem"), "rsa", "", "-b", "2048", "-m", "PEM"),
		"ecdsa":       keygen(t, filepath.Join(dir, "ecdsa"), "ecdsa", "", "-b", "384"),
		"space in it": keygen(t, filepath.Join(dir, "a key"), "ed25519", ""),
	} {
		s.authorize(t, key)
		d := s.login(t, fmt.Sprintf("IdentityFile %q", key))
		output(t, dial(t, d, s.addr()), "true")
		t.Log(name)
	}
	s.log.waitFor(t, "RSA SHA256", 1)
}

func TestAgent(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	sock := startAgent(t, s.key)
	rsa := keygen(t, filepath.Join(t.TempDir(), "rsa"), "rsa", "", "-b", "2048")
	d := s.login(t, "IdentityFile none", "IdentityAgent "+sock)
	dial(t, d, s.addr())
	// IdentitiesOnly without identities offers nothing.
	d = s.login(t, "IdentityFile none", "IdentitiesOnly yes", "IdentityAgent "+sock)
	wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "nothing")
	// A public key as identity means the agent's private one.
	d = s.login(t, "IdentityFile "+s.key+".pub", "IdentitiesOnly yes", "IdentityAgent "+sock)
	dial(t, d, s.addr())
	s2 := newSSHD(t)
	s2.authorize(t, rsa)
	d = s2.login(t, "IdentityFile none", "IdentityAgent "+startAgent(t, rsa))
	dial(t, d, s2.addr())
	// An agent that is gone is no agent.
	d = s.login(t, "IdentityFile "+s.key, "IdentityAgent /nonexistent/agent")
	dial(t, d, s.addr())
}

// The server counts offers: the named key goes before those of a full agent.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := newSSHD(t, "MaxAuthTries 3")
	dir := t.TempDir()
	var keys []string
	for i := range 6 {
		keys = append(keys, keygen(t, filepath.Join(dir, fmt.Sprint("k", i)), "ed25519", ""))
	}
	sock := startAgent(t, keys...)
	d := s.login(t, "IdentityFile "+s.key, "IdentityAgent "+sock)
	dial(t, d, s.addr())
	s.log.waitFor(t, "Accepted publickey", 1)
	if n := s.log.count("Failed publickey"); n != 0 {
		t.Errorf("%d keys were offered in vain", n)
	}
	d = s.login(t, "IdentityFile none", "IdentityAgent "+sock)
	wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "oo many authentication failures", "k0 of the agent", "IdentitiesOnly")
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	other := keygen(t, filepath.Join(t.TempDir(), "other"), "ed25519", "")
	d := s.login(t, "IdentityFile "+other)
	d.Prompt = never(t) // the server takes keys only
	wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "user root", other, "--identity", "authorized_keys")
	d = s.login(t, "IdentityFile /nonexistent/key")
	wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "no key to offer")
	for _, bad := range []string{"/nonexistent/key", write(t, filepath.Join(t.TempDir(), "bad"), "no key\n"), t.TempDir()} {
		d = s.login(t)
		d.Identities = []string{bad}
		wantError(t, refuse(t, d, s.addr()), sshx.KindIdentity, bad, "--identity")
	}
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := keygen(t, filepath.Join(dir, "ca"), "ed25519", "")
	s := newSSHD(t, "TrustedUserCAKeys "+ca+".pub")
	for _, kind := range []string{"ed25519", "rsa"} {
		key := keygen(t, filepath.Join(dir, kind), kind, "", bits(kind)...)
		run(t, "ssh-keygen", "-q", "-s", ca, "-I", "me", "-n", "root", key+".pub")
		dial(t, s.login(t, "IdentityFile "+key), s.addr())
		dial(t, s.login(t, "IdentityFile none", "IdentityAgent "+startAgent(t, key)), s.addr())
	}
	s.log.waitFor(t, "-CERT SHA256", 4)
}

// The passphrase of one key is asked for once, however many hosts want it, and only when the server takes the key.
func TestPassphrase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, args := range map[string][]string{"OpenSSH": nil, "PEM": {"-m", "PEM"}, "PEM alone": {"-m", "PEM"}} {
		kind := "ecdsa"
		key := keygen(t, filepath.Join(dir, name), kind, "secret", args...)
		s := newSSHD(t)
		s.authorize(t, key)
		if name != "PEM" {
			os.Remove(key + ".pub")
		}
		d := s.login(t, fmt.Sprintf("IdentityFile %q", key))
		var asked atomic.Int32
		d.ConnectTimeout = 3 * time.Second
		d.Prompt = func(_ context.Context, p sshx.Prompt) (string, error) {
			if !strings.Contains(p.Text, name) || p.Echo {
				t.Errorf("asked %+v", p)
			}
			if asked.Add(1) == 1 {
				if name == "PEM" {
					time.Sleep(3500 * time.Millisecond) // longer than the timeout: thinking does not count
				}
				return "wrong", nil
			}
			return "secret", nil
		}
		e, err := d.Resolve(s.addr())
		if err != nil {
			t.Fatal(err)
		}
		e.NoShare = true
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				c, err := d.DialEndpoint(within(t, testTime), e)
				if err != nil {
					t.Error(err)
					return
				}
				c.Close()
			})
		}
		wg.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("%s: asked %d times", name, n)
		}
	}
}

func TestPassphraseFailures(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	key := keygen(t, filepath.Join(t.TempDir(), "locked"), "ed25519", "secret")
	d := s.login(t, "IdentityFile "+key)
	d.Prompt = never(t)
	wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "locked") // the server does not want it: nobody is asked
	s.authorize(t, key)
	d = s.login(t, "IdentityFile "+key)
	wantError(t, refuse(t, d, s.addr()), sshx.KindEncryptedKey, key, "no terminal", "ssh-add")
	var asked int
	d.Prompt = func(context.Context, sshx.Prompt) (string, error) {
		asked++
		return "wrong", nil
	}
	for range 2 {
		wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "wrong three times")
	}
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
	d = s.login(t, "IdentityFile "+key)
	d.Prompt = func(context.Context, sshx.Prompt) (string, error) { return "", errors.New("the user does not want to") }
	wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "does not want to")
	// A cancelled question is no answer: the next one who wants the key asks again.
	ctx, cancel := context.WithCancel(context.Background())
	d = s.login(t, "IdentityFile "+key)
	d.Prompt = func(ctx context.Context, _ sshx.Prompt) (string, error) {
		if ctx.Err() == nil {
			cancel()
			<-ctx.Done()
		}
		return "", ctx.Err()
	}
	if _, err := d.Dial(ctx, s.addr()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the prompt: %v", err)
	}
	d.Prompt = func(context.Context, sshx.Prompt) (string, error) { return "secret", nil }
	dial(t, d, s.addr())
}

// passwordServer takes the password "right", in one way or the other, after as many tries as wanted.
func passwordServer(t *testing.T, interactive bool) string {
	t.Helper()
	key, err := ssh.ParsePrivateKey([]byte(read(t, keygen(t, filepath.Join(t.TempDir(), "k"), "ed25519", ""))))
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{}
	config.AddHostKey(key)
	check := func(pass string) (*ssh.Permissions, error) {
		if pass == "right" {
			return nil, nil
		}
		return nil, errors.New("no")
	}
	if interactive {
		config.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Pass\x1b[31mword: ", "Token:"}, []bool{false, true})
			if err != nil {
				return nil, err
			}
			if answers[1] != "token" {
				return nil, errors.New("no")
			}
			return check(answers[0])
		}
	} else {
		config.PasswordCallback = func(_ ssh.ConnMetadata, pass []byte) (*ssh.Permissions, error) { return check(string(pass)) }
	}
	return listen(t, func(c net.Conn) {
		conn, chans, reqs, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(reqs)
		for ch := range chans {
			_ = ch.Reject(ssh.Prohibited, "only logins here")
		}
		_ = conn.Close()
	})
}

func TestPassword(t *testing.T) {
	t.Parallel()
	addr := passwordServer(t, false)
	d := client(t, t.TempDir(), "IdentityFile none")
	d.InsecureIgnoreHostKey = true
	wantError(t, refuse(t, d, addr), sshx.KindLoginRefused, "terminal")
	var asked []string
	answers := []string{"wrong", "wrong", "right"}
	d.Prompt = func(_ context.Context, p sshx.Prompt) (string, error) {
		asked = append(asked, p.Text)
		return answers[len(asked)-1], nil
	}
	dial(t, d, addr)
	if want := "root@" + addr + "'s password: "; len(asked) != 3 || asked[0] != want {
		t.Errorf("asked %q, want %q", asked, want)
	}
	n := 0
	d = client(t, t.TempDir(), "IdentityFile none")
	d.InsecureIgnoreHostKey = true
	d.Prompt = func(context.Context, sshx.Prompt) (string, error) {
		n++
		return "wrong", nil
	}
	wantError(t, refuse(t, d, addr), sshx.KindLoginRefused, "password")
	if n != 3 {
		t.Errorf("asked %d times", n)
	}
	d.Prompt = func(context.Context, sshx.Prompt) (string, error) { return "", errors.New("^D") }
	wantError(t, refuse(t, d, addr), sshx.KindLoginRefused, "password")
}

func TestKeyboardInteractive(t *testing.T) {
	t.Parallel()
	addr := passwordServer(t, true)
	d := client(t, t.TempDir(), "IdentityFile none")
	d.InsecureIgnoreHostKey = true
	var asked []sshx.Prompt
	d.Prompt = func(_ context.Context, p sshx.Prompt) (string, error) {
		asked = append(asked, p)
		return []string{"right", "token"}[len(asked)-1], nil
	}
	c := dial(t, d, addr)
	if len(asked) != 2 || asked[0].Echo || !asked[1].Echo || strings.ContainsRune(asked[0].Text, '\x1b') {
		t.Errorf("asked %+v", asked)
	}
	_, err := c.Start(within(t, testTime), "true")
	wantError(t, err, sshx.KindTooManySessions, "only logins here")
}

// An endpoint whose caller knows how to log in and whose key it is.
func TestDialEndpoint(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	signer, err := ssh.ParsePrivateKey([]byte(read(t, s.key)))
	if err != nil {
		t.Fatal(err)
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(read(t, s.hostKey+".pub")))
	if err != nil {
		t.Fatal(err)
	}
	var d sshx.Dialer
	e := sshx.Endpoint{Host: "127.0.0.1", Port: s.port, User: "root", HostKeyCallback: ssh.FixedHostKey(hostKey),
		Auth: func(context.Context) ([]ssh.AuthMethod, error) { return []ssh.AuthMethod{ssh.PublicKeys(signer)}, nil }}
	dialTwice := func(e sshx.Endpoint) {
		for range 2 {
			c, err := d.DialEndpoint(within(t, testTime), e)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
	}
	dialTwice(e)
	s.log.exactly(t, "Accepted publickey", 2)
	e.ShareName = "one"
	dialTwice(e)
	s.log.exactly(t, "Accepted publickey", 3)
	e.Auth = func(context.Context) ([]ssh.AuthMethod, error) { return nil, errors.New("no code to be had") }
	e.ShareName = ""
	if _, err := d.DialEndpoint(within(t, testTime), e); err == nil || err.Error() != "no code to be had" {
		t.Errorf("Auth's error: %v", err)
	}
	e.Auth = func(context.Context) ([]ssh.AuthMethod, error) { return []ssh.AuthMethod{ssh.Password("x")}, nil }
	_, err = d.DialEndpoint(within(t, testTime), e)
	wantError(t, err, sshx.KindLoginRefused, "the given credentials")
	e.HostKeyCallback = func(string, net.Addr, ssh.PublicKey) error { return errors.New("not this key") }
	if _, err := d.DialEndpoint(within(t, testTime), e); err == nil || err.Error() != "not this key" {
		t.Errorf("HostKeyCallback's error: %v", err)
	}
}

// bits keeps the making of RSA keys short.
func bits(kind string) []string {
	if kind == "rsa" {
		return []string{"-b", "2048"}
	}
	return nil
}
