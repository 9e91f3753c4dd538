package api_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sshpcap/sshpcap/internal/cftest/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type caller struct {
	t      *testing.T
	client *http.Client
	token  string
}

func start(t *testing.T, s *api.Server) *caller {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &caller{t: t, client: &http.Client{Transport: transport, CheckRedirect: noRedirect}, token: s.NewConfig().AccessToken}
}

func (c *caller) get(u string) (*http.Response, string) {
	c.t.Helper()
	r, err := http.NewRequest(http.MethodGet, u, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", c.token)
	resp, err := c.client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, string(body)
}

func (c *caller) code(s *api.Server) string {
	c.t.Helper()
	resp, body := c.get(s.URL() + "/uaa/oauth/authorize?response_type=code&client_id=ssh-proxy")
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != 302 || u.Query().Get("code") == "" {
		c.t.Fatalf("status %d, Location %q: %s", resp.StatusCode, resp.Header.Get("Location"), body)
	}
	return u.Query().Get("code")
}

func TestCodesWorkOnce(t *testing.T) {
	t.Parallel()
	s := &api.Server{User: "ann"}
	c := start(t, s)
	code := c.code(s)
	if user, ok := s.TakeCode(code); !ok || user != "ann" {
		t.Errorf("TakeCode = %q, %t", user, ok)
	}
	if _, ok := s.TakeCode(code); ok {
		t.Error("the code works twice")
	}
	s.Change(func(s *api.Server) { s.CodeLife = -time.Second })
	if _, ok := s.TakeCode(c.code(s)); ok {
		t.Error("an expired code works")
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := &api.Server{PageSize: 2, Apps: []api.App{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}}}
	c := start(t, s)
	var names []string
	for next := s.URL() + "/v3/apps"; next != ""; {
		_, body := c.get(next)
		var page struct {
			Pagination struct{ Next *struct{ Href string } }
			Resources  []struct{ Name string }
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		next = ""
		if page.Pagination.Next != nil {
			next = page.Pagination.Next.Href
		}
		for _, r := range page.Resources {
			names = append(names, r.Name)
		}
	}
	if got := strings.Join(names, ""); got != "abcde" || s.Count("GET /v3/apps") != 3 {
		t.Errorf("%s in %d requests", got, s.Count("GET /v3/apps"))
	}
}

func TestTokensAreChecked(t *testing.T) {
	t.Parallel()
	s := &api.Server{}
	c := start(t, s)
	if resp, _ := c.get(s.URL() + "/v3/apps"); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	s.Revoke()
	if resp, _ := c.get(s.URL() + "/v3/apps"); resp.StatusCode != 401 {
		t.Errorf("status %d after all tokens were revoked", resp.StatusCode)
	}
}

func TestConfigIsPrivate(t *testing.T) {
	t.Parallel()
	s := &api.Server{}
	start(t, s)
	path, err := s.WriteConfig(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestMayLogin(t *testing.T) {
	t.Parallel()
	s := &api.Server{Apps: []api.App{{Name: "shop", Processes: []api.Process{{Type: "web", Instances: []api.Instance{{}, {State: api.Crashed}}}}}}}
	start(t, s)
	guid := s.ProcessGUID("shop", "web")
	if !s.MayLogin(guid, 0) || s.MayLogin(guid, 1) || s.MayLogin(guid, 2) || s.MayLogin("x", 0) {
		t.Error("wrong")
	}
	s.Change(func(s *api.Server) { s.Apps[0].SSHDisabled = "ssh is disabled for app" })
	if s.MayLogin(guid, 0) {
		t.Error("SSH is disabled")
	}
}
