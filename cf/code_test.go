package cf_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/internal/cftest/api"
)

func TestCodeErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*api.Server)
		kind   cf.Kind
		words  []string
	}{
		"scope": {func(s *api.Server) { s.InsufficientScope = true }, cf.KindNoScope, []string{"insufficient_scope", "uaa.user", "client_credentials", "cf login"}},
		"error": {func(s *api.Server) { s.CodeError = "access_denied" }, cf.KindCode, []string{"no one-time code for SSH", "access_denied", "cf ssh-code"}},
		"description": {func(s *api.Server) { s.CodeError, s.CodeErrorText = "invalid_scope", "ssh-proxy is not for you" }, cf.KindCode,
			[]string{"ssh-proxy is not for you"}},
		"no code":     {func(s *api.Server) { s.Location = "https://x/login" }, cf.KindCode, []string{"there is none"}},
		"two codes":   {func(s *api.Server) { s.Location = "https://x/?code=first-code&code=second-code" }, cf.KindCode, []string{"several"}},
		"fragment":    {func(s *api.Server) { s.Location = "https://x/#error=login_required" }, cf.KindCode, []string{"login_required"}},
		"no redirect": {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/uaa", Times: 1, Status: 200, Body: "<html>"}} }, cf.KindCode, []string{"status 200"}},
		"other client": {func(s *api.Server) {
			s.Faults = []api.Fault{{Path: "/uaa", Times: 1, Status: 400, Body: `{"error":"invalid_client","error_description":"No client"}`}}
		}, cf.KindCode, []string{"No client"}},
		"forbidden": {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/uaa", Times: 1, Status: 403}} }, cf.KindCode, nil},
		"no UAA":    {func(s *api.Server) { s.HideUAA = true }, cf.KindBadAnswer, []string{"no UAA"}},
		"503":       {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/uaa", Times: -1, Status: 503}} }, cf.KindServer, []string{"no one-time code for SSH", "503"}},
		"429":       {func(s *api.Server) { s.Faults = []api.Fault{{Path: "/uaa", Times: -1, Status: 429}} }, cf.KindRateLimit, []string{"too many requests"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, test.change)
			_, err := b.client(nil).Code(t.Context())
			b.wants(err, test.kind, test.words...)
			if strings.Contains(b.told(), "-code&") || strings.Contains(b.told(), "first-code") {
				t.Error(b.told())
			}
		})
	}
}

func TestCodeWithOtherClient(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.SSHClient = "ssh-other" })
	code, err := b.client(nil).Code(t.Context())
	if _, ok := b.TakeCode(code); err != nil || !ok {
		t.Error(err)
	}
}

func FuzzParseLocation(f *testing.F) {
	for _, s := range []string{"https://x/?code=abc", "?code=a&code=b", "?error=x&error_description=y", "#error=x", "?code=", "?code=%zz", "", "\x00", "?code=a;b", "https://x/?code=a&error=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, location string) {
		code, err := cf.ParseLocation(location)
		if err == nil {
			if u, perr := url.Parse(location); perr != nil || u.Query().Get("code") != code || u.Query().Has("error") || len(u.Query()["code"]) != 1 {
				t.Errorf("%q gives %q", location, code)
			}
			if code == "" || len(code) > 1024 || strings.ContainsAny(code, " \n\r\x00") {
				t.Errorf("%q gives %q", location, code)
			}
			return
		}
		if code != "" || strings.ContainsAny(err.Error(), "\n\r\x1b") {
			t.Errorf("%q gives %q and %q", location, code, err)
		}
	})
}

func TestRedact(t *testing.T) {
	t.Parallel()
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln"
	for _, text := range []string{jwt, "bearer x" + jwt, "Bearer sesame", "https://x/?code=sesame&x", "refresh_token=sesame", "a sesame b"} {
		if got := cf.Redact(text, "sesame"); strings.Contains(got, "sesame") || strings.Contains(got, "eyJ") {
			t.Errorf("%s: %s", text, got)
		}
	}
	if got := cf.Redact("status code 503, no token given", ""); got != "status code 503, no token given" {
		t.Error(got)
	}
}
