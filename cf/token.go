package cf

import (
	"context"
	"strings"
	"sync"
	"time"
)

const clientCredentials = "client_credentials"

// expiryMargin is how long a token must still be good for.
const expiryMargin = time.Minute

// saveGrace is how long a refresh that is under way may go on when nobody wants it any more: what it brings may be the
// only refresh token that is still good.
const saveGrace = 2 * time.Second

// tokens gives access tokens, and renews them: for many at a time, by one request.
type tokens struct {
	c       *Client
	session func(context.Context) (string, error) // in place of all below, when set

	path         string // of the config file
	target       string // as it stands there
	grant        string
	client       string
	clientSecret string
	login        string // the config's URL of the login server, for when the API tells none

	mu      sync.Mutex
	access  string    // with its type in front
	good    time.Time // until when access is; zero when that is not known
	refresh string
	renewal *renewal // under way; nil when none is
}

// renewal is one attempt to get a new token, which all who need one wait for.
type renewal struct {
	done   chan struct{} // closed by the one who began it, when the rest is set
	access string
	err    error
	ended  bool // by the end of the beginner's context, which says nothing to the others
}

func newTokens(c *Client, f *Config) *tokens {
	t := &tokens{c: c, path: f.Path, target: f.Target, grant: f.UAAGrantType, client: f.UAAOAuthClient, clientSecret: f.UAAOAuthClientSecret,
		login: f.AuthorizationEndpoint, access: f.AccessToken, refresh: f.RefreshToken, good: expiry(f.AccessToken)}
	if t.login == "" {
		t.login = f.UaaEndpoint
	}
	if t.client == "" {
		t.client, t.clientSecret = "cf", ""
	}
	t.note(f.AccessToken, f.RefreshToken, f.UAAOAuthClientSecret)
	return t
}

// note takes care that tokens do not show up in messages.
func (t *tokens) note(access string, more ...string) {
	_, bare, _ := strings.Cut(access, " ")
	t.c.secrets.add(append(more, access, bare)...)
}

// get gives a token that is good and is not stale, the one that was refused; "" when none was.
func (t *tokens) get(ctx context.Context, stale string) (string, error) {
	for {
		t.mu.Lock()
		if t.access != "" && t.access != stale && (t.good.IsZero() || time.Now().Before(t.good)) {
			defer t.mu.Unlock()
			return t.access, nil
		}
		r, mine := t.renewal, t.renewal == nil
		if mine {
			r = &renewal{done: make(chan struct{})}
			t.renewal = r
		}
		t.mu.Unlock()
		if mine {
			return t.renew(ctx, r)
		}
		select {
		case <-r.done:
			if !r.ended {
				return r.access, r.err
			}
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// renew gets a new token, and tells those who wait for it.
func (t *tokens) renew(ctx context.Context, r *renewal) (string, error) {
	r.err = t.fetch(ctx)
	r.ended = r.err != nil && ctx.Err() != nil
	t.mu.Lock()
	defer t.mu.Unlock()
	t.renewal = nil
	if r.err == nil {
		r.access = t.access
	}
	close(r.done)
	return r.access, r.err
}

func (t *tokens) fetch(ctx context.Context) error {
	if t.session != nil {
		return t.askSession(ctx)
	}
	ctx, cancel := linger(ctx, saveGrace)
	defer cancel()
	err := t.refreshWith(ctx, t.refresh)
	if KindOf(err) != KindLoginExpired {
		return err
	}
	// Another program may have used the refresh token, and have saved the one that it got for it.
	if t.adopt() {
		if time.Now().Before(t.good) {
			return nil
		}
		return t.refreshWith(ctx, t.refresh)
	}
	return err
}

// linger gives a context that ends a while after ctx does.
func linger(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	lingering, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := make(chan *time.Timer, 1)
	stop := context.AfterFunc(ctx, func() { timer <- time.AfterFunc(d, cancel) })
	return lingering, func() {
		if !stop() {
			(<-timer).Stop()
		}
		cancel()
	}
}

func (t *tokens) askSession(ctx context.Context) error {
	token, err := t.session(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &Error{Kind: KindLoginExpired, Problem: "the cf CLI gives no access token: " + t.c.secrets.redact(oneLine(err.Error())), Tip: loginTip}
	}
	if token == "" {
		return problem(KindNotLoggedIn, "", "%s", notLoggedIn)
	}
	t.note(token)
	t.set(token, "", expiry(token))
	return nil
}

// set takes over a new token; refresh "" keeps the old one.
func (t *tokens) set(access, refresh string, good time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.access, t.good = access, good
	if refresh != "" {
		t.refresh = refresh
	}
}
