package cf_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/internal/cftest/api"
)

func names(all []cf.Instance) string {
	var s []string
	for _, in := range all {
		s = append(s, in.Name()+" "+in.State)
	}
	return strings.Join(s, ", ")
}

func TestInstances(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	c := b.client(nil)
	for target, want := range map[string][2]string{
		"shop":         {"shop/web/0 RUNNING, shop/web/6 RUNNING", "shop/web/1 STARTING, shop/web/2 STOPPING, shop/web/3 CRASHED, shop/web/4 DOWN, shop/web/5 UNKNOWN"},
		"shop/web":     {"shop/web/0 RUNNING, shop/web/6 RUNNING", "shop/web/1 STARTING, shop/web/2 STOPPING, shop/web/3 CRASHED, shop/web/4 DOWN, shop/web/5 UNKNOWN"},
		"shop/worker":  {"shop/worker/0 RUNNING", ""},
		"shop/6":       {"shop/web/6 RUNNING", ""},
		"shop/web/6,0": {"shop/web/0 RUNNING, shop/web/6 RUNNING", ""},
	} {
		found, err := b.find(c, target)
		if err != nil || names(found.Running) != want[0] || names(found.Skipped) != want[1] {
			t.Errorf("%s: %s; %s; %v", target, names(found.Running), names(found.Skipped), err)
		}
	}
	if n := b.Count("GET /") - b.Count("GET /v3"); n != 1 {
		t.Errorf("the root was asked for %d times", n)
	}
}

func TestInstanceFields(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) {
		s.Apps[0].Name = "my shop_ü"
		s.Apps[0].Processes[0].GUID = "another"
	})
	in := b.one(b.client(nil), "my shop_ü")
	in.GUID, in.AppGUID = "g", "a"
	want := cf.Instance{App: "my shop_ü", Process: "web", State: "RUNNING", AppGUID: "a", ProcessGUID: "another", GUID: "g", Cell: "10.0.1.10",
		InternalIP: "10.255.0.10", Uptime: 77 * time.Second,
		Ports: []cf.Port{{61001, 8080, 61003, 61001}, {61002, 2222, 61004, 61002}}}
	if fmt.Sprintf("%+v", in) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v\nwant %+v", in, want)
	}
	if in.Name() != "my shop_ü/web/0" || in.HostName() != "my-shop_--web-0" || in.SelfFilter() != "tcp port 2222 or tcp port 61002" {
		t.Errorf("%s, %s, %s", in.Name(), in.HostName(), in.SelfFilter())
	}
	if f := (cf.Instance{}).SelfFilter(); f != "tcp port 2222" {
		t.Error(f)
	}
}

func TestInstanceErrors(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) {
		s.Apps = append(s.Apps, api.App{Name: "old", State: "STOPPED", Processes: []api.Process{{Type: "web", Instances: []api.Instance{{State: api.Down}}}}},
			api.App{Name: "a,b", Processes: []api.Process{{Type: "web", Instances: []api.Instance{{}}}}})
	})
	c := b.client(nil)
	for _, test := range []struct {
		target string
		kind   cf.Kind
		words  []string
	}{
		{"x", cf.KindNoApp, []string{"App 'x' not found.", "org org, space space", "cf apps"}},
		{"a", cf.KindNoApp, []string{"App 'a' not found."}},
		{"old", cf.KindStopped, []string{"app 'old' is stopped", "cf start old"}},
		{"shop/beat", cf.KindNoProcess, []string{"Process beat not found", "ill, none, web, worker"}},
		{"shop/7", cf.KindNoInstance, []string{"Instance 7 of process web not found", "0 to 6"}},
		{"shop/web/0,9", cf.KindNoInstance, []string{"Instance 9 of process web not found"}},
		{"shop/worker/1", cf.KindNoInstance, []string{"Instance 1 of process worker not found", "instance 0 only"}},
		{"shop/none/0", cf.KindNoInstance, []string{"Instance 0 of process none not found", "'cf scale shop --process none -i N'"}},
		{"shop/none", cf.KindNotRunning, []string{"shop/none has no instances", "'cf scale shop --process none -i N'"}},
		{"shop/ill", cf.KindNotRunning, []string{"no instance of shop/ill is running (0 is CRASHED, 1 is STARTING)", "cf logs shop --recent"}},
		{"shop/1", cf.KindNotRunning, []string{"instance 1 of process web is STARTING", "wait"}},
		{"shop/2", cf.KindNotRunning, []string{"instance 2 of process web is STOPPING", "cf app shop"}},
		{"shop/0,3", cf.KindNotRunning, []string{"instance 3 of process web is CRASHED: out of memory", "cf logs shop --recent"}},
		{"shop/4", cf.KindNotRunning, []string{"instance 4 of process web is DOWN", "cf events shop"}},
		{"shop/5", cf.KindNotRunning, []string{"instance 5 of process web is UNKNOWN", "cf app shop"}},
	} {
		_, err := b.find(c, test.target)
		b.wants(err, test.kind, test.words...)
	}
	b.one(c, "a,b")
	found, err := b.find(c, "shop/0,3")
	if err == nil || names(found.Running) != "shop/web/0 RUNNING" || names(found.Skipped) != "shop/web/3 CRASHED" {
		t.Errorf("%v, %v", found, err)
	}
}

// TestDeployment: while a rolling deployment runs there are two processes of a type, and names are different all the same.
func TestDeployment(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) {
		s.Apps[0].Processes = append(s.Apps[0].Processes, api.Process{Type: "web", GUID: "0123456789ab", Instances: []api.Instance{{}, {}}})
	})
	found, err := b.find(b.client(nil), "shop")
	if err != nil || names(found.Running) != "shop/web/0 RUNNING, shop/web/0~01234567 RUNNING, shop/web/1~01234567 RUNNING, shop/web/6 RUNNING" {
		t.Errorf("%s, %v", names(found.Running), err)
	}
	found, err = b.find(b.client(nil), "shop/1")
	if err != nil || names(found.Running) != "shop/web/1~01234567 RUNNING" {
		t.Errorf("%s, %v", names(found.Running), err)
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) {
		s.PageSize = 2
		for i := range 7 {
			s.Apps[0].Processes = append(s.Apps[0].Processes, api.Process{Type: fmt.Sprintf("p%d", i), Instances: []api.Instance{{}}})
		}
	})
	b.one(b.client(nil), "shop/p6")
	if n := b.Count("GET /v3/apps/"); n != 6 { // 11 processes
		t.Errorf("%d pages", n)
	}
}

func TestPlatformErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*api.Server)
		kind   cf.Kind
		words  []string
	}{
		"no endpoint":     {func(s *api.Server) { s.SSH = "" }, cf.KindNoEndpoint, []string{"no SSH endpoint", "operators"}},
		"bad endpoint":    {func(s *api.Server) { s.SSH = "ssh.cf.test" }, cf.KindNoEndpoint, []string{`"ssh.cf.test" is not host:port`}},
		"bad port":        {func(s *api.Server) { s.SSH = "ssh.cf.test:99999" }, cf.KindNoEndpoint, []string{"not host:port"}},
		"no fingerprint":  {func(s *api.Server) { s.Fingerprint = "" }, cf.KindNoFingerprint, []string{"no fingerprint", "--skip-host-validation"}},
		"odd fingerprint": {func(s *api.Server) { s.Fingerprint = "aa:bb" }, cf.KindNoFingerprint, []string{`"aa:bb"`, "--skip-host-validation"}},
		"rate limit": {func(s *api.Server) {
			s.Faults = []api.Fault{{Path: "/v3/", Times: 1, Status: 429, RetryAfter: "17", Body: `{"errors":[{"code":10013,"title":"CF-RateLimitExceeded","detail":"Rate Limit Exceeded"}]}`}}
		}, cf.KindRateLimit, []string{"too many requests", "Rate Limit Exceeded", "in 17 seconds"}},
		"rate limit without a time": {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/v3/", Times: 1, Status: 429}} }, cf.KindRateLimit, []string{"wait"}},
		"forbidden": {func(s *api.Server) { s.NoAccess, s.Echo, s.Org = true, true, "my org" }, cf.KindForbidden,
			[]string{"does not allow this: You are not authorized", `cf space-users "my org" space`}},
		"always 503":  {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/v3/apps", Times: -1, Status: 503}} }, cf.KindServer, []string{"status 503", "later"}},
		"no JSON":     {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/", Times: -1, Status: 200, Body: "<html>"}} }, cf.KindBadAnswer, []string{"not that of a Cloud Foundry", "cf api"}},
		"moved":       {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/", Times: -1, Status: 301}} }, cf.KindBadAnswer, []string{"status 301", "cf api"}},
		"another API": {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/", Times: -1, Status: 404}} }, cf.KindNotFound, []string{"cf api"}},
		"always cut":  {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/v3/apps", Times: -1}} }, cf.KindUnreachable, []string{"cannot be reached: connection closed"}},
		"gone": {func(s *api.Server) {
			s.Faults = []api.Fault{{Path: "/v3/processes", Times: 1, Status: 404, Body: `{"errors":[{"detail":"Process not found"}]}`}}
		}, cf.KindNoApp, []string{"app 'shop' is no longer as it was found", "try again"}},
		"endless list": {func(s *api.Server) {
			s.Faults = []api.Fault{{Path: "/v3/apps", Times: -1, Status: 200, Body: `{"pagination":{"next":{"href":"https://x/v3/apps?a"}},"resources":[]}`}}
		}, cf.KindBadAnswer, []string{"next page"}},
		"no GUID": {func(s *api.Server) { s.Apps[0].GUID = "a b" }, cf.KindBadAnswer, []string{"GUID"}},
		"too large": {func(s *api.Server) {
			s.Faults = []api.Fault{{Path: "/v3/apps", Times: -1, Status: 200, Body: strings.Repeat(" ", 16<<20+1)}}
		}, cf.KindBadAnswer, []string{"more than 16 MiB"}},
		"terminal codes": {func(s *api.Server) {
			s.Faults = []api.Fault{{Path: "/v3/apps", Times: -1, Status: 400, Body: `{"errors":[{"detail":"\u001b[31mred\nline"}]}`}}
		}, cf.KindBadAnswer, []string{": [31mred line"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, test.change)
			_, err := b.find(b.client(nil), "shop")
			b.wants(err, test.kind, test.words...)
		})
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for _, status := range []int{500, 502, 503, 504, 0} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			testRetry(t, status)
		})
	}
}

func testRetry(t *testing.T, status int) {
	b := newBed(t, func(s *api.Server) {
		s.Faults = []api.Fault{{Path: "/v3/apps", Times: 2, Status: status}, {Path: "/uaa/oauth/authorize", Times: 1, Status: status}}
	})
	c := b.client(nil)
	b.one(c, "shop")
	if _, err := c.Code(t.Context()); err != nil {
		t.Errorf("%d: %v", status, err)
	}
}

// TestRefreshIsNotRetried: whether the refresh token was used up is not known.
func TestRefreshIsNotRetried(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.Faults = []api.Fault{{Path: "/login/oauth/token", Times: 1, Status: 503}} })
	b.Revoke()
	_, err := b.find(b.client(nil), "shop")
	b.wants(err, cf.KindServer, "status 503")
	if n := b.Count("POST"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

func TestNoFingerprintIsFineWithSkip(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.Fingerprint = "" })
	b.one(b.client(func(o *cf.Options) { o.SkipHostValidation = true }), "shop")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.login(func(c *api.Config) { c.SSLDisabled = false })
	_, err := b.find(b.client(nil), "shop")
	b.wants(err, cf.KindUntrusted, "is not trusted", "cf api "+b.URL()+" --skip-ssl-validation", "SSL_CERT_FILE", "SSLDisabled")
	b.one(b.client(func(o *cf.Options) { o.RootCAs = b.Pool() }), "shop")
}

// TestSkipIsNotForTLS: whoever skips the check of SSH host keys has not said anything about TLS.
func TestSkipIsNotForTLS(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	b.login(func(c *api.Config) { c.SSLDisabled = false })
	_, err := b.find(b.client(func(o *cf.Options) { o.SkipHostValidation = true }), "shop")
	b.wants(err, cf.KindUntrusted, "is not trusted")
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	closed := freePort(t)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for target, words := range map[string][]string{
		"https://" + closed:                         {"connection refused", "https_proxy"},
		"https://nowhere.invalid":                   {"host name"},
		"https://" + plain.Listener.Addr().String(): {"HTTP response to HTTPS client"},
	} {
		b.login(func(c *api.Config) { c.Target = target })
		_, err := b.find(b.client(nil), "shop")
		b.wants(err, cf.KindUnreachable, append(words, target+" cannot be reached")...)
	}
}

// freePort is an address that nobody listens on: below the ports that the system gives out by itself, to whoever asks
// meanwhile.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+int(nextPort.Add(1)+uint32(os.Getpid())*101)%12_000)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

var nextPort atomic.Uint32

func TestSlowAPI(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.Delay = map[string]time.Duration{"/v3": time.Minute} })
	_, err := b.find(b.client(func(o *cf.Options) { o.Timeout = 100 * time.Millisecond }), "shop")
	b.wants(err, cf.KindUnreachable, "has not answered within 100ms")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.client(nil).Instances(ctx, cf.Target{App: "shop"}); !errors.Is(err, context.DeadlineExceeded) || cf.KindOf(err) != cf.KindOther {
		t.Errorf("%v", err)
	}
}

// TestPagesStayOnTheAPI: a link to another host does not get the token.
func TestPagesStayOnTheAPI(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) {
		s.Faults = []api.Fault{{Path: "/v3/apps", Times: 1, Status: 200, Body: `{"pagination":{"next":{"href":"https://evil.invalid/v3/apps?names=shop&page=2"}},"resources":[]}`}}
	})
	_, err := b.find(b.client(nil), "shop")
	b.wants(err, cf.KindNoApp)
	if !slices.ContainsFunc(b.Requests(), func(r api.Request) bool { return r.Query == "names=shop&page=2" }) {
		t.Error("the next page was not asked for")
	}
}

// findFor is a process of its own, which finds the app shop and says what went wrong: net/http reads the proxy variables once.
func findFor(config string) {
	found, err := func() (cf.Found, error) {
		config, err := cf.ReadConfig(config)
		if err != nil {
			return cf.Found{}, err
		}
		c, err := cf.NewClient(cf.Options{Config: config})
		if err != nil {
			return cf.Found{}, err
		}
		return c.Instances(context.Background(), cf.Target{App: "shop"})
	}()
	if err == nil {
		fmt.Println(names(found.Running))
		return
	}
	fmt.Println(err)
	if h, ok := err.(interface{ Hint() string }); ok {
		fmt.Println(h.Hint())
	}
}

// TestHTTPProxy: a proxy of the usual variables, for a name that only the proxy can resolve.
func TestHTTPProxy(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	connects := make(chan string, 100)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects <- r.Host
		joinTo(w, b.Addr())
	}))
	t.Cleanup(proxy.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, b.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	b.login(func(c *api.Config) { c.Target, c.SSLDisabled = "https://api.cf.test", false })
	for want, vars := range map[string][]string{
		"shop/web/0 RUNNING": {"https_proxy=http://ann:proxy-password@" + proxy.Listener.Addr().String()},
		"host name":          {"https_proxy=http://ann:proxy-password@" + proxy.Listener.Addr().String(), "no_proxy=cf.test"},
		"connection refused": {"https_proxy=http://ann:proxy-password@" + freePort(t)},
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(append(os.Environ(), vars...), "CF_TEST_FIND="+b.config, "SSL_CERT_FILE="+ca, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "proxy-password") {
			t.Errorf("%v: %s", err, out)
		}
		b.tell(string(out))
	}
	if got := <-connects; got != "api.cf.test:443" {
		t.Error(got)
	}
}
