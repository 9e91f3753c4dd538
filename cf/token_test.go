package cf_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/internal/cftest/api"
)

// sessionToken is what the cf CLI gives to its plugins.
func (b *bed) sessionToken(context.Context) (string, error) { return b.NewConfig().AccessToken, nil }

func (b *bed) session(token func(context.Context) (string, error)) func(*cf.Options) {
	return func(o *cf.Options) {
		o.Session = &cf.Session{API: b.URL(), SSLDisabled: true, Org: cf.Named{GUID: "o", Name: "org"}, Space: cf.Named{GUID: b.SpaceGUID(), Name: "space"}, Token: token}
		o.Config = nil
	}
}

// modified says when the config was written last.
func (b *bed) modified() time.Time {
	info, err := os.Stat(b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	return info.ModTime()
}

func TestRefreshBeforeExpiry(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.TokenLife = 50 * time.Second }) // below the margin of a minute
	before := b.modified()
	b.one(b.client(nil), "shop")
	if n := b.Count("POST /login/oauth/token"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
	for _, r := range b.Requests() {
		if r.Status == 401 {
			t.Errorf("a request with a token that is about to expire: %v", r)
		}
	}
	if b.modified() != before {
		t.Error("the config was written although the refresh token is the same")
	}
}

func TestRefreshAfter401(t *testing.T) {
	t.Parallel()
	for _, hide := range []bool{false, true} {
		b := newBed(t, func(s *api.Server) { s.HideExpiry = hide })
		b.Revoke()
		c := b.client(nil)
		b.one(c, "shop")
		b.one(c, "shop")
		if n := b.Count("POST /login/oauth/token"); n != 1 {
			t.Errorf("%d refreshes", n)
		}
	}
}

func TestRotatedRefreshTokenIsSaved(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.RotateRefresh = true })
	b.Revoke()
	before := b.read()
	b.one(b.client(nil), "shop")
	after := b.read()
	if after.RefreshToken == before.RefreshToken || after.AccessToken == before.AccessToken || !strings.HasPrefix(after.AccessToken, "bearer ") {
		t.Error("the new tokens are not saved")
	}
	b.Revoke()
	b.one(b.client(nil), "shop") // with what was saved
	if told := b.told(); told != "" {
		t.Error(told)
	}
}

func TestRotatedRefreshTokenCannotBeSaved(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.RotateRefresh = true })
	b.Revoke()
	c := b.client(nil)
	if err := os.Remove(b.config); err != nil {
		t.Fatal(err)
	}
	b.one(c, "shop") // all the same
	if told := b.told(); !strings.Contains(told, "cannot be saved") {
		t.Error(told)
	}
}

// TestOneRefreshForMany: 50 instances find out at the same time that the token is of no use.
func TestOneRefreshForMany(t *testing.T) {
	t.Parallel()
	for _, rotate := range []bool{false, true} {
		b := newBed(t, func(s *api.Server) {
			s.RotateRefresh = rotate
			s.Delay = map[string]time.Duration{"/login/oauth/token": 50 * time.Millisecond}
		})
		c := b.client(nil)
		b.one(c, "shop")
		b.Revoke()
		codes := b.codes(c, 50)
		if n := b.Count("POST /login/oauth/token"); n != 1 {
			t.Errorf("%d refreshes", n)
		}
		seen := map[string]bool{}
		for _, code := range codes {
			if _, ok := b.TakeCode(code); !ok || seen[code] {
				t.Errorf("a code that does not work, or was given twice")
			}
			seen[code] = true
		}
	}
}

// codes asks for n codes at the same time.
func (b *bed) codes(c *cf.Client, n int) []string {
	b.t.Helper()
	codes := make([]string, n)
	var all sync.WaitGroup
	for i := range codes {
		all.Go(func() {
			var err error
			if codes[i], err = c.Code(b.t.Context()); err != nil {
				b.keep(err)
				b.t.Error(err)
			}
		})
	}
	all.Wait()
	return codes
}

// TestRefusedForMany: then all are told, by one request.
func TestRefusedForMany(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) {
		s.RefuseRefresh = "revoked"
		s.Delay = map[string]time.Duration{"/login/oauth/token": 200 * time.Millisecond}
	})
	c := b.client(nil)
	b.one(c, "shop")
	b.Revoke()
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			_, err := c.Code(t.Context())
			b.wants(err, cf.KindLoginExpired, "the login has expired: revoked", "cf login")
		})
	}
	all.Wait()
	if n := b.Count("POST /login/oauth/token"); n < 1 || n > 10 {
		t.Errorf("%d refreshes", n)
	}
}

// TestImpatientOneOfMany: the one that refreshes gives up; the others must not suffer.
func TestImpatientOneOfMany(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.Delay = map[string]time.Duration{"/login/oauth/token": 300 * time.Millisecond} })
	c := b.client(nil)
	b.one(c, "shop")
	b.Revoke()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := c.Code(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	for !c.Renewing() {
		runtime.Gosched()
	}
	all.Go(func() {
		if _, err := c.Code(t.Context()); err != nil {
			t.Error(err)
		}
	})
	cancel()
	all.Wait()
	if n := b.Count("POST /login/oauth/token"); n != 1 {
		t.Errorf("%d refreshes: one that is under way may bring the only refresh token that is still good", n)
	}
}

// TestRefreshTokenUsedByAnother: another program has used the refresh token, and saved what it got.
func TestRefreshTokenUsedByAnother(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.RotateRefresh = true })
	b.Revoke()
	late, early := b.client(nil), b.client(nil)
	b.one(early, "shop")
	b.Revoke()
	b.one(late, "shop")
	b.one(early, "shop")
}

func TestLoginExpired(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.Echo = true })
	b.Revoke()
	b.login(func(c *api.Config) { c.RefreshToken = "no-longer-good"; c.AccessToken = "bearer no-longer-good-either" })
	_, err := b.find(b.client(nil), "shop")
	b.wants(err, cf.KindLoginExpired, "the login has expired", "The token expired, was revoked", "cf login")
	if strings.Contains(b.told(), "no-longer-good") {
		t.Error(b.told())
	}
	b.login(func(c *api.Config) { c.RefreshToken = "" })
	b.Revoke()
	_, err = b.find(b.client(nil), "shop")
	b.wants(err, cf.KindLoginExpired, "the login has expired", "cf login")
}

func TestTokenRefusedAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.Faults = []api.Fault{{Path: "/v3/", Times: -1, Status: 401, Body: "no"}} })
	_, err := b.find(b.client(nil), "shop")
	b.wants(err, cf.KindLoginExpired, "does not accept the login", "cf login")
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.Client = "ci" })
	b.login(func(c *api.Config) { c.UAAGrantType, c.RefreshToken, c.AccessToken = "client_credentials", "", "" })
	c := b.client(nil)
	b.one(c, "shop")
	_, err := c.Code(t.Context())
	b.wants(err, cf.KindNoScope, "uaa.user", "insufficient_scope", "cf login")
}

func TestSession(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	asked := 0
	c := b.client(b.session(func(ctx context.Context) (string, error) {
		asked++
		return b.sessionToken(ctx)
	}))
	b.one(c, "shop")
	b.Revoke()
	b.one(c, "shop")
	if asked != 2 || b.Count("POST /") != 0 {
		t.Errorf("asked %d times, %d refreshes", asked, b.Count("POST /"))
	}
	secret := b.NewConfig().AccessToken
	c = b.client(b.session(func(context.Context) (string, error) { return "", errors.New("no: " + secret) }))
	_, err := b.find(c, "shop")
	b.wants(err, cf.KindLoginExpired, "cf login")
	c = b.client(b.session(func(context.Context) (string, error) { return "", nil }))
	_, err = b.find(c, "shop")
	b.wants(err, cf.KindNotLoggedIn)
}

// TestShortLivedTokens are not renewed for each request, although they are never good for a minute.
func TestShortLivedTokens(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.TokenLife = 40 * time.Second })
	c := b.client(nil)
	b.one(c, "shop")
	b.one(c, "shop")
	if n := b.Count("POST /login/oauth/token"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
	if d := c.GoodFor(); d < 15*time.Second || d > 20*time.Second {
		t.Error(d)
	}
}

func TestLoginServerOfTheConfig(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(s *api.Server) { s.HideLogin = true })
	b.login(func(c *api.Config) { c.AuthorizationEndpoint = "" }) // then the UAA's
	b.Revoke()
	b.one(b.client(nil), "shop")
	if n := b.Count("POST /uaa/oauth/token"); n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

func TestExpiryOfNonsense(t *testing.T) {
	t.Parallel()
	for _, access := range []string{"", "bearer", "bearer x", "bearer a.b.c", "bearer a.!!!.c", "bearer a.e30.c", "bearer a.eyJleHAiOi0xfQ.c", "bearer a.eyJleHAiOjFlOTl9.c"} {
		if at := cf.Expiry(access); !at.IsZero() {
			t.Errorf("%s: %v", access, at)
		}
	}
	if at := cf.Expiry("bearer a.eyJleHAiOjE3MDAwMDAwMDB9.c"); at.Unix() != 1700000000-60 {
		t.Error(at)
	}
}
