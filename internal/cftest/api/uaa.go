package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// random is text of n letters and digits.
func random(n int) string { return (rand.Text() + rand.Text() + rand.Text())[:min(n, 78)] }

// guidOf is a GUID that is always the same for a text.
func guidOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%x-%x-4%x-8%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])[:36]
}

func (s *Server) tokenLife() time.Duration {
	if s.TokenLife == 0 {
		return 10 * time.Minute
	}
	return s.TokenLife
}

// newAccess gives an access token, a JWT. The caller holds the lock.
func (s *Server) newAccess(client bool) string {
	s.serial++
	now := time.Now()
	until := now.Add(s.tokenLife())
	claims := object{"jti": random(26) + fmt.Sprint(s.serial), "client_id": or(s.Client, "cf"), "cid": or(s.Client, "cf"), "iat": now.Unix(),
		"iss": s.URL() + "/uaa/oauth/token", "zid": "uaa", "aud": []string{"cloud_controller", "cf", "uaa"}}
	if client {
		claims["scope"], claims["grant_type"] = []string{"cloud_controller.read"}, "client_credentials"
	} else {
		claims["scope"] = []string{"cloud_controller.read", "cloud_controller.write", "openid", "uaa.user"}
		claims["sub"], claims["user_name"], claims["grant_type"] = guidOf("user "+s.user()), s.user(), "password"
	}
	if !s.HideExpiry {
		claims["exp"] = until.Unix()
	}
	access := s.sign(claims)
	s.tokens[access] = token{user: s.user(), until: until, client: client}
	s.secrets = append(s.secrets, access)
	return access
}

func (s *Server) sign(claims object) string {
	text := segment(object{"alg": "HS256", "kid": "key-1", "typ": "JWT"}) + "." + segment(claims)
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func segment(v object) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// newRefresh gives a refresh token, which is opaque. The caller holds the lock.
func (s *Server) newRefresh() string {
	refresh := strings.ToLower(random(32)) + "-r"
	s.refresh[refresh] = s.user()
	s.secrets = append(s.secrets, refresh)
	return refresh
}

// Revoke makes all access tokens useless, as a restart of the UAA with new keys does.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// whose says whose the request's access token is, if it is good.
func (s *Server) whose(r *http.Request) (token, bool) {
	kind, access, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	t, ok := s.tokens[access]
	return t, ok && strings.EqualFold(kind, "bearer") && time.Now().Before(t.until)
}

func uaaError(status int, kind, text string) *reply {
	return &reply{status: status, body: object{"error": kind, "error_description": text},
		header: map[string]string{"WWW-Authenticate": fmt.Sprintf("Bearer realm=%q, error=%q, error_description=%q", "oauth", kind, text)}}
}

// tokenRequest is POST /oauth/token.
func (s *Server) tokenRequest(r *http.Request, form url.Values) *reply {
	switch form.Get("grant_type") {
	case "refresh_token":
		client, secret, ok := r.BasicAuth()
		if !ok || client != or(s.Client, "cf") || secret != s.Secret {
			return uaaError(401, "unauthorized", "Bad credentials")
		}
		return s.refreshRequest(form.Get("refresh_token"))
	case "client_credentials":
		if form.Get("client_id") != or(s.Client, "cf") || form.Get("client_secret") != s.Secret || r.Header.Get("Authorization") != "" {
			return uaaError(401, "unauthorized", "Bad credentials")
		}
		return &reply{status: 200, body: s.given(s.newAccess(true), "")}
	}
	return uaaError(400, "unsupported_grant_type", "Unsupported grant type")
}

func (s *Server) refreshRequest(refresh string) *reply {
	text := "The token expired, was revoked, or the token ID is incorrect."
	if s.Echo {
		text += " (" + refresh + ")"
	}
	if s.RefuseRefresh != "" {
		return uaaError(401, "invalid_token", s.RefuseRefresh)
	}
	if _, ok := s.refresh[refresh]; !ok {
		return uaaError(401, "invalid_token", text)
	}
	if s.RotateRefresh {
		delete(s.refresh, refresh)
		refresh = s.newRefresh()
	}
	return &reply{status: 200, body: s.given(s.newAccess(false), refresh)}
}

func (s *Server) given(access, refresh string) object {
	o := object{"access_token": access, "token_type": "bearer", "scope": "openid uaa.user", "jti": random(26)}
	if !s.HideExpiry {
		o["expires_in"] = int(s.tokenLife().Seconds())
	}
	if refresh != "" {
		o["refresh_token"] = refresh
	}
	return o
}

// authorize is GET /oauth/authorize: it gives a one-time code.
func (s *Server) authorize(r *http.Request) *reply {
	query := r.URL.Query()
	t, ok := s.whose(r)
	switch {
	case !ok:
		return uaaError(401, "invalid_token", s.echo("Full authentication is required", r))
	case s.InsufficientScope || t.client:
		return uaaError(403, "insufficient_scope", "Insufficient scope for this resource")
	case query.Get("response_type") != "code" || query.Get("client_id") != or(s.SSHClient, "ssh-proxy"):
		return uaaError(400, "invalid_request", "No client with requested id: "+query.Get("client_id"))
	case s.Location != "":
		return redirect(s.Location)
	case s.CodeError != "" || s.CodeErrorText != "":
		return redirect("https://ssh-proxy.invalid/login?" + url.Values{"error": {s.CodeError}, "error_description": {s.CodeErrorText}}.Encode())
	}
	return redirect("https://ssh-proxy.invalid/login?code=" + s.newCode(t.user))
}

func redirect(location string) *reply {
	return &reply{status: 302, header: map[string]string{"Location": location}, body: ""}
}

func (s *Server) newCode(user string) string {
	life := s.CodeLife
	if life == 0 {
		life = 5 * time.Minute
	}
	code := random(32)
	s.codes[code] = oneTime{user: user, until: time.Now().Add(life)}
	s.secrets = append(s.secrets, code)
	return code
}
