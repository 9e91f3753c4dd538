package cf_test

import (
	"context"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/internal/cftest/api"
	"github.com/sshpcap/sshpcap/sshx"
)

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// fingerprints are those of key in all forms.
func fingerprints(key ssh.PublicKey) []string {
	raw := key.Marshal()
	long, old, oldest := sha256.Sum256(raw), sha1.Sum(raw), md5.Sum(raw)
	return []string{
		hex.EncodeToString(long[:]),
		base64.RawStdEncoding.EncodeToString(long[:]),
		base64.StdEncoding.EncodeToString(long[:]),
		"SHA256:" + base64.RawStdEncoding.EncodeToString(long[:]),
		strings.ReplaceAll(fmt.Sprintf("% x", old), " ", ":"),
		strings.ReplaceAll(fmt.Sprintf("% x", oldest), " ", ":"),
	}
}

func TestCheckHostKey(t *testing.T) {
	t.Parallel()
	key, other := newSigner(t).PublicKey(), newSigner(t).PublicKey()
	for i, fingerprint := range fingerprints(key) {
		if err := cf.CheckHostKey(fingerprint, key); err != nil {
			t.Error(err)
		}
		checkError(t, cf.CheckHostKey(fingerprint, other), cf.KindHostKey, "is not the one of the platform", strings.TrimSuffix(strings.TrimPrefix(fingerprint, "SHA256:"), "="), "--skip-host-validation")
		cut := fingerprint[:len(fingerprint)-2]
		checkError(t, cf.CheckHostKey(cut, key), cf.KindHostKey)
		if cf.FingerprintKind(fingerprint) == "" || cf.FingerprintKind(cut) != "" {
			t.Errorf("form %d: %q, %q", i, cf.FingerprintKind(fingerprint), cf.FingerprintKind(cut))
		}
	}
	for _, fingerprint := range []string{"", strings.Repeat("0", 64), strings.Repeat("A", 43), strings.Repeat(":", 47), strings.Repeat("x", 1000)} {
		checkError(t, cf.CheckHostKey(fingerprint, key), cf.KindHostKey)
	}
}

// sshBed is a platform with an SSH proxy.
func sshBed(t testing.TB, change func(*api.Server)) (*bed, *sshProxy) {
	t.Helper()
	b := newBed(t, change)
	signer := newSigner(t)
	p := startProxy(t, b.Server, signer)
	b.Change(func(s *api.Server) { s.SSH, s.Fingerprint = p.address, fingerprints(signer.PublicKey())[1] })
	return b, p
}

// dial connects, runs a command and explains what went wrong.
func (b *bed) dial(c *cf.Client, in cf.Instance) error {
	b.t.Helper()
	ctx := soon(b.t)
	err := func() error {
		conn, err := (&sshx.Dialer{}).DialEndpoint(ctx, c.Endpoint(in))
		if err != nil {
			return err
		}
		defer conn.Close()
		p, err := conn.Start(ctx, "true")
		if err != nil {
			return err
		}
		defer p.Close()
		return p.Wait()
	}()
	b.keep(err)
	err = c.Explain(ctx, in, err)
	b.keep(err)
	return err
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	b, p := sshBed(t, nil)
	c := b.client(nil)
	in := b.one(c, "shop/6")
	e := c.Endpoint(in)
	want := "cf:" + b.ProcessGUID("shop", "web") + "/6"
	if host, port, _ := net.SplitHostPort(p.address); e.Host != host || fmt.Sprint(e.Port) != port || e.User != want {
		t.Errorf("%+v", e)
	}
	// One interval passes until nothing has come in it, and one more for each question. The platform is then asked for 5 s.
	if most := e.KeepAlive * time.Duration(e.KeepAliveMax+2); e.KeepAlive <= 0 || e.KeepAliveMax <= 0 || most > 20*time.Second {
		t.Errorf("a dead link is given up after %v", most)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := b.dial(c, in); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := b.Count("GET /uaa/oauth/authorize"); n != 20 {
		t.Errorf("%d codes for 20 logins", n)
	}
	if len(p.users) != 20 || slices.ContainsFunc(p.users, func(user string) bool { return user != want }) {
		t.Errorf("%v", p.users)
	}
}

// TestEndpointRSA: the platform's host key is often RSA.
func TestEndpointRSA(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, b.Server, signer)
	b.Change(func(s *api.Server) { s.SSH, s.Fingerprint = p.address, fingerprints(signer.PublicKey())[5] })
	c := b.client(nil)
	if err := b.dial(c, b.one(c, "shop")); err != nil {
		t.Error(err)
	}
}

func TestWrongHostKey(t *testing.T) {
	t.Parallel()
	b, _ := sshBed(t, nil)
	b.Change(func(s *api.Server) { s.Fingerprint = someFingerprint })
	c := b.client(nil)
	b.wants(b.dial(c, b.one(c, "shop")), cf.KindHostKey, someFingerprint)
	if n := b.Count("GET /uaa"); n != 0 {
		t.Error("a code was asked for before the host key was known to be right")
	}
	c = b.client(func(o *cf.Options) { o.SkipHostValidation = true })
	if err := b.dial(c, b.one(c, "shop")); err != nil {
		t.Error(err)
	}
}

func TestLoginErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*api.Server, *sshProxy) // once the instance was found
		kind   cf.Kind
		words  []string
	}{
		"disabled globally": {func(s *api.Server, _ *sshProxy) { s.Apps[0].SSHDisabled = "ssh is disabled globally" }, cf.KindSSHDisabled,
			[]string{"ssh is disabled globally", "operators"}},
		"disabled for space": {func(s *api.Server, _ *sshProxy) { s.Apps[0].SSHDisabled = "ssh is disabled for space 'space'" }, cf.KindSSHDisabled,
			[]string{"ssh is disabled for space 'space'", "cf allow-space-ssh space", "cf enable-ssh shop", "cf restart shop"}},
		"disabled for app": {func(s *api.Server, _ *sshProxy) { s.Apps[0].SSHDisabled = "ssh is disabled for app" }, cf.KindSSHDisabled,
			[]string{"ssh is disabled for app", "cf enable-ssh shop", "cf restart shop"}},
		"auditor": {func(s *api.Server, _ *sshProxy) { s.Auditor = true }, cf.KindLoginRefused,
			[]string{"refuses the login", "SpaceDeveloper", "cf space-users org space", "cf restart shop"}},
		"expired code":  {func(s *api.Server, _ *sshProxy) { s.CodeLife = -1 }, cf.KindLoginRefused, nil},
		"crashed":       {func(s *api.Server, _ *sshProxy) { s.Apps[0].Processes[0].Instances[0].State = api.Crashed }, cf.KindNotRunning, []string{"instance 0 of process web is now CRASHED", "cf logs shop"}},
		"scaled down":   {func(s *api.Server, _ *sshProxy) { s.Apps[0].Processes[0].Instances = nil }, cf.KindNotRunning, []string{"instance 0 of process web is gone", "cf app shop"}},
		"deployed":      {func(s *api.Server, _ *sshProxy) { s.Apps[0].Processes[0].GUID = "new" }, cf.KindNotRunning, []string{"is gone"}},
		"no scope":      {func(s *api.Server, _ *sshProxy) { s.InsufficientScope = true }, cf.KindNoScope, []string{"uaa.user"}},
		"code refused":  {func(s *api.Server, _ *sshProxy) { s.CodeErrorText = "not you" }, cf.KindCode, []string{"not you"}},
		"container":     {func(_ *api.Server, p *sshProxy) { p.mode = "hang up" }, cf.KindContainer, []string{"container cannot be reached", "cf restart-app-instance shop 0 --process web"}},
		"API is silent": {func(s *api.Server, _ *sshProxy) { s.Auditor, s.NoAccess = true, true }, cf.KindLoginRefused, []string{"SpaceDeveloper"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, p := sshBed(t, nil)
			c := b.client(nil)
			in := b.one(c, "shop/0")
			b.Change(func(s *api.Server) { test.change(s, p) })
			b.wants(b.dial(c, in), test.kind, test.words...)
		})
	}
}

// TestCheckSSH: the platform is asked about an app until SSH is enabled for it; that it does not answer is no obstacle.
func TestCheckSSH(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	c := b.client(nil)
	in := b.one(c, "shop")
	b.Change(func(s *api.Server) { s.Apps[0].SSHDisabled = "ssh is disabled for space 'space'" })
	for range 2 {
		b.wants(c.CheckSSH(t.Context(), in), cf.KindSSHDisabled, "app 'shop': ssh is disabled for space 'space'", "cf allow-space-ssh space")
	}
	b.Change(func(s *api.Server) { s.Apps[0].SSHDisabled = "" })
	for range 2 {
		if err := c.CheckSSH(t.Context(), in); err != nil {
			t.Error(err)
		}
	}
	if n := b.Count("GET /v3/apps/" + in.AppGUID + "/ssh_enabled"); n != 3 {
		t.Errorf("%d questions, want 3", n)
	}
	b.Change(func(s *api.Server) { s.NoAccess = true })
	if err := b.client(nil).CheckSSH(t.Context(), in); err != nil {
		t.Error(err)
	}
}

func TestExplainLeavesTheRest(t *testing.T) {
	t.Parallel()
	b, p := sshBed(t, nil)
	c := b.client(nil)
	in := b.one(c, "shop")
	other := errors.New("something else")
	if err := c.Explain(t.Context(), in, nil); err != nil {
		t.Error(err)
	}
	if err := c.Explain(t.Context(), in, other); err != other {
		t.Error(err)
	}
	p.mode = "refuse"
	err := b.dial(c, in)
	if sshx.KindOf(err) != sshx.KindCommandRefused {
		t.Errorf("%v hides what it is", err)
	}
	b.wants(err, cf.KindContainer, "does not run commands", "cf ssh shop -c true")
}

// TestExplainEveryKind: whatever SSH says, live or when nothing may be waited for any more, its hint, which is about hosts,
// is not given.
func TestExplainEveryKind(t *testing.T) {
	t.Parallel()
	b, _ := sshBed(t, nil)
	c := b.client(nil)
	in := b.one(c, "shop")
	over, end := context.WithCancel(t.Context())
	end()
	errs := []error{sshx.ErrLost, fmt.Errorf("%w: %w", sshx.ErrLost, sshx.ErrKeepAlive)}
	for kind := sshx.KindOther; kind <= sshx.KindAuth; kind++ {
		errs = append(errs, &sshx.Error{Kind: kind, Problem: "problem", Tip: "tip for hosts"}, &sshx.Error{Kind: kind, Problem: "problem", Tip: "tip for hosts", Err: sshx.ErrLost})
	}
	for _, err := range errs {
		if kind := sshx.KindOf(err); kind == sshx.KindHostKey || kind == sshx.KindAuth {
			continue // the words are of this package
		}
		for _, ctx := range []context.Context{t.Context(), over} {
			got, ok := errors.AsType[*cf.Error](c.Explain(ctx, in, err))
			if !ok || got.Tip == "" || strings.Contains(got.Problem+got.Tip, "for hosts") || !errors.Is(got, err) && got.Kind != cf.KindNotRunning {
				t.Errorf("%#v becomes %#v", err, got)
			}
		}
	}
}

// TestDeadLink: a link on which nothing passes any more is given up, and told in words for apps. A soak takes the times of
// life.
func TestDeadLink(t *testing.T) {
	t.Parallel()
	b, p := sshBed(t, nil)
	c := b.client(nil)
	in := b.one(c, "shop")
	e := c.Endpoint(in)
	limit := 30 * time.Second
	if os.Getenv("SSHPCAP_SOAK") == "" {
		e.KeepAlive /= 20
	}
	var link *valve
	e.DialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		link = &valve{Conn: conn}
		return link, err
	}
	conn, err := (&sshx.Dialer{}).DialEndpoint(soon(t), e)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	link.shut.Store(true)
	cut := time.Now()
	select {
	case <-conn.Done():
	case <-time.After(limit):
		t.Fatal("it was not given up in 30 s")
	}
	t.Logf("given up after %v", time.Since(cut))
	b.wants(c.Explain(t.Context(), in, fmt.Errorf("%w: %w", sshx.ErrLost, conn.Err())), cf.KindLost, "connection lost: nothing has come for 16s", "platform's SSH endpoint "+p.address, "--follow")
}

// valve is a connection on which nothing passes once it is shut, and nothing tells of that.
type valve struct {
	net.Conn
	shut atomic.Bool
}

func (v *valve) Read(p []byte) (int, error) {
	for {
		n, err := v.Conn.Read(p)
		if err != nil || !v.shut.Load() {
			return n, err
		}
	}
}

func (v *valve) Write(p []byte) (int, error) {
	if v.shut.Load() {
		return len(p), nil
	}
	return v.Conn.Write(p)
}

func TestSSHUnreachable(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	for address, words := range map[string][]string{freePort(t): {"connection refused"}, "ssh.nowhere.invalid:2222": {"host name"}} {
		b.Change(func(s *api.Server) { s.SSH = address })
		c := b.client(nil)
		b.wants(b.dial(c, b.one(c, "shop")), cf.KindSSHUnreachable, append(words, "SSH endpoint "+address, "ALL_PROXY")...)
	}
}

func TestEndpointOfNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.wants(b.dial(b.client(nil), cf.Instance{}), cf.KindNoEndpoint) // nobody has asked for instances
}

func TestSOCKS(t *testing.T) {
	b, p := sshBed(t, nil)
	asked := make(chan string, 10)
	proxy := socks(t, p.address, asked)
	b.Change(func(s *api.Server) { s.SSH = "ssh.cf.test:2222" })
	for _, scheme := range []string{"socks5", "socks5h"} {
		t.Setenv("ALL_PROXY", scheme+"://ann:sesame@"+proxy)
		c := b.client(nil)
		if err := b.dial(c, b.one(c, "shop")); err != nil {
			t.Fatal(err)
		}
		if got := <-asked; got != "ssh.cf.test:2222" {
			t.Error(got)
		}
	}
	c := b.client(nil)
	in := b.one(c, "shop")
	for _, hosts := range []string{"127.0.0.1, .cf.test", "*.cf.test", "ssh.cf.test", "*"} {
		t.Setenv("NO_PROXY", hosts)
		b.wants(b.dial(c, in), cf.KindSSHUnreachable, "host name")
	}
	t.Setenv("NO_PROXY", "")
	for value, words := range map[string][]string{
		"socks5://ann:wrong-password@" + proxy: {"the proxy " + proxy + " does not connect to ssh.cf.test:2222"},
		"socks5://ann:sesame@" + freePort(t):   {"connection refused"},
		"ssh+socks5://ann:sesame@" + proxy:     {"ALL_PROXY", "ssh+socks5"},
		"%zz":                                  {"ALL_PROXY is not the URL"},
		"socks5://ann:sesame@" + socks(t, "127.0.0.1:1", asked): {"refused"},
	} {
		t.Setenv("ALL_PROXY", value)
		b.wants(b.dial(c, in), cf.KindProxy, append(words, "NO_PROXY")...)
	}
	if strings.Contains(b.told(), "sesame") || strings.Contains(b.told(), "wrong-password") {
		t.Error(b.told())
	}
	t.Setenv("ALL_PROXY", "http://proxy.invalid:8080") // for HTTP
	if c.Endpoint(in).DialTCP != nil {
		t.Error("SSH would go through an HTTP proxy")
	}
}
