package cf

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const loginTip = "log in again with 'cf login' or 'cf login --sso'"

// loginExpired is the error when the user has to log in again.
func (c *Client) loginExpired(what string, a *answer) *Error {
	return problem(KindLoginExpired, loginTip, "%s%s", what, c.said(a))
}

// refreshWith asks the login server for a new token. The config is written only when the refresh token is a new one.
func (t *tokens) refreshWith(ctx context.Context, refresh string) error {
	if refresh == "" && t.grant != clientCredentials {
		return problem(KindLoginExpired, loginTip, "the login has expired")
	}
	u, err := t.tokenURL(ctx)
	if err != nil {
		return err
	}
	a, err := t.post(ctx, u, refresh)
	if err != nil {
		return err
	}
	switch a.status {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusUnauthorized:
		return t.c.loginExpired("the login has expired", a)
	default:
		return t.c.statusError(u, a)
	}
	return t.take(u, a, refresh)
}

func (t *tokens) tokenURL(ctx context.Context) (*url.URL, error) {
	r, err := t.c.platform(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range []string{r.Login, t.login, r.UAA} {
		if u, err := baseURL(s); err == nil {
			return u.JoinPath("oauth", "token"), nil
		}
	}
	return nil, problem(KindBadAnswer, "check the API endpoint: 'cf api' shows it", "%s tells no login server", site(t.c.api))
}

// post sends the request again only if it cannot have arrived: a refresh token may be good for one use.
func (t *tokens) post(ctx context.Context, u *url.URL, refresh string) (*answer, error) {
	for try := 1; ; try++ {
		r, err := t.request(ctx, u, refresh)
		if err != nil {
			return nil, err
		}
		a, err := t.c.send(ctx, r)
		if dial, ok := errors.AsType[*net.OpError](err); !ok || dial.Op != "dial" || try == maxTries || pause(ctx, try) != nil {
			return a, err
		}
	}
}

func (t *tokens) request(ctx context.Context, u *url.URL, refresh string) (*http.Request, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	if t.grant == clientCredentials {
		form = url.Values{"grant_type": {t.grant}, "client_id": {t.client}, "client_secret": {t.clientSecret}}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, problem(KindBadAnswer, "", "%s cannot be asked for a token", site(u))
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if t.grant != clientCredentials {
		r.SetBasicAuth(t.client, t.clientSecret)
	}
	return r, nil
}

// take takes over what the login server gave for the refresh token old.
func (t *tokens) take(u *url.URL, a *answer, old string) error {
	var v struct {
		AccessToken  string  `json:"access_token"`
		RefreshToken string  `json:"refresh_token"`
		TokenType    string  `json:"token_type"`
		ExpiresIn    float64 `json:"expires_in"`
	}
	if err := decode(u, a, &v); err != nil {
		return err
	}
	t.c.secrets.add(v.AccessToken, v.RefreshToken)
	if !isHeaderText(v.AccessToken) || !isHeaderText(v.TokenType) {
		return problem(KindBadAnswer, "", "%s answers without a token", site(u))
	}
	access := v.TokenType + " " + v.AccessToken
	t.note(access)
	t.set(access, v.RefreshToken, goodUntil(v.ExpiresIn, access))
	if v.RefreshToken == "" || v.RefreshToken == old || t.grant == clientCredentials {
		return nil
	}
	if err := saveTokens(t.path, saved{target: t.target, old: old, access: access, refresh: v.RefreshToken}); err != nil {
		t.c.warn("the renewed login cannot be saved, the cf CLI will ask to log in again: " + t.c.secrets.redact(oneLine(err.Error())))
	}
	return nil
}

// adopt takes over the tokens of the config file, if they are for the same platform and differ from ours.
func (t *tokens) adopt() bool {
	f, err := ReadConfig(t.path)
	if err != nil || f.Target != t.target || f.RefreshToken == "" || f.RefreshToken == t.refresh || f.AccessToken == "" {
		return false
	}
	t.note(f.AccessToken, f.RefreshToken)
	t.set(f.AccessToken, f.RefreshToken, expiry(f.AccessToken))
	return true
}

// isHeaderText reports whether s can stand in a header, and is one word.
func isHeaderText(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// goodUntil goes by our own clock, for the server's may differ: a token that was got just now is good for what the
// server says from now on. When that is short, half of it is used.
func goodUntil(expiresIn float64, access string) time.Time {
	if expiresIn <= 0 || expiresIn > math.MaxInt32 {
		return expiry(access)
	}
	life := time.Duration(expiresIn * float64(time.Second))
	return time.Now().Add(life - min(expiryMargin, life/2))
}

// expiry is until when an access token is good, with the margin taken off. It is zero for one that does not tell.
func expiry(access string) time.Time {
	_, bare, _ := strings.Cut(access, " ")
	parts := strings.Split(bare, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}
	}
	var claims struct{ Exp float64 }
	if json.Unmarshal(payload, &claims) != nil || claims.Exp <= 0 || claims.Exp > math.MaxInt32*100 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0).Add(-expiryMargin)
}
