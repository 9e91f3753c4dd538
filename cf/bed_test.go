package cf_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/internal/cftest/api"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("CF_TEST_SAVE"); path != "" {
		saveForEver(path)
	}
	if path := os.Getenv("CF_TEST_FIND"); path != "" {
		findFor(path)
		os.Exit(0)
	}
	for _, name := range []string{"ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		os.Unsetenv(name)
	}
	_ = flag.Set("test.parallel", "8") // most of a test is waiting; the command line still counts
	goleak.VerifyTestMain(m)
}

// md5 of nothing in particular: a fingerprint of a known kind.
const someFingerprint = "d4:1d:8c:d9:8f:00:b2:04:e9:80:09:98:ec:f8:42:7e"

const clientSecret = "very-secret-client-secret"

// shop is an app with instances in all states.
func shop() api.App {
	return api.App{Name: "shop", Processes: []api.Process{
		{Type: "web", Instances: []api.Instance{
			{Uptime: 77, Ports: []api.Port{{External: 61001, Internal: 8080, ExternalTLSProxy: 61003, InternalTLSProxy: 61001}, {External: 61002, Internal: 2222, ExternalTLSProxy: 61004, InternalTLSProxy: 61002}}},
			{State: api.Starting}, {State: api.Stopping}, {State: api.Crashed, Details: "out of memory"}, {State: api.Down}, {State: api.Unknown}, {}}},
		{Type: "worker", Instances: []api.Instance{{}}},
		{Type: "none"},
		{Type: "ill", Instances: []api.Instance{{State: api.Crashed}, {State: api.Starting}}},
	}}
}

// bed is a platform and somebody who has logged in to it.
type bed struct {
	*api.Server
	t      testing.TB
	home   string
	config string // its path

	mu    sync.Mutex
	texts []string // all that was said to the user
}

// newBed starts a platform with the app shop; change may be nil. When the test ends, all errors that were seen are
// searched for secrets.
func newBed(t testing.TB, change func(*api.Server)) *bed {
	t.Helper()
	b := &bed{t: t, home: t.TempDir(), Server: &api.Server{Apps: []api.App{shop()}, SSH: "127.0.0.1:1", Fingerprint: someFingerprint, Secret: clientSecret}}
	if change != nil {
		change(b.Server)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		b.noSecrets()
	})
	b.login(nil)
	return b
}

func (b *bed) login(change func(*api.Config)) {
	b.t.Helper()
	var err error
	if b.config, err = b.WriteConfig(b.home, change); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) tell(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.texts = append(b.texts, text)
}

func (b *bed) told() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.texts, "\n")
}

func (b *bed) noSecrets() {
	all := b.told()
	for _, secret := range b.Secrets() {
		if strings.Contains(all, secret) {
			b.t.Errorf("the secret %s was said: %s", secret, all)
		}
	}
}

func (b *bed) read() *cf.Config {
	b.t.Helper()
	config, err := cf.ReadConfig(b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	return config
}

// client is for the config as it is now; change may be nil.
func (b *bed) client(change func(*cf.Options)) *cf.Client {
	b.t.Helper()
	o := cf.Options{Config: b.read(), Warn: b.tell, Timeout: 10 * time.Second}
	if change != nil {
		change(&o)
	}
	c, err := cf.NewClient(o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	return c
}

func (b *bed) find(c *cf.Client, target string) (cf.Found, error) {
	b.t.Helper()
	t, err := cf.ParseTarget(target)
	if err != nil {
		b.t.Fatal(err)
	}
	found, err := c.Instances(b.t.Context(), t)
	b.keep(err)
	return found, err
}

// one gives a running instance.
func (b *bed) one(c *cf.Client, target string) cf.Instance {
	b.t.Helper()
	found, err := b.find(c, target)
	if err != nil || len(found.Running) == 0 {
		b.t.Fatalf("%v, %v", found, err)
	}
	return found.Running[0]
}

// keep keeps what an error says, with its hint and its causes, for noSecrets.
func (b *bed) keep(err error) {
	if err == nil {
		return
	}
	b.tell(err.Error())
	if h, ok := err.(interface{ Hint() string }); ok {
		b.tell(h.Hint())
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		b.keep(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			b.keep(err)
		}
	}
}

// wants fails unless err is of kind, is one line, and has all words in it or in its hint.
func (b *bed) wants(err error, kind cf.Kind, words ...string) {
	b.t.Helper()
	b.keep(err)
	checkError(b.t, err, kind, words...)
}

func checkError(t testing.TB, err error, kind cf.Kind, words ...string) {
	t.Helper()
	e, ok := errors.AsType[*cf.Error](err)
	if !ok || e.Kind != kind {
		t.Errorf("error %v (%T, kind %d), want kind %d", err, err, cf.KindOf(err), kind)
		return
	}
	text := e.Problem + "\n" + e.Tip
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("no %q in: %s", word, text)
		}
	}
	if strings.ContainsAny(e.Problem+e.Tip, "\n\r\x1b") {
		t.Errorf("not one line: %q", text)
	}
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
