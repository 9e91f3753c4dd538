package cf

import (
	"context"
	"net/http"
	"time"
)

// For tests.
var (
	ParseLocation   = parseLocation
	ParseConfig     = parseConfig
	Patch           = patch
	UserHome        = userHome
	CheckHostKey    = checkHostKey
	FingerprintKind = fingerprintKind
	Expiry          = expiry
)

// SaveTokens is saveTokens.
func SaveTokens(path, target, old, access, refresh string) error {
	return saveTokens(path, saved{target: target, old: old, access: access, refresh: refresh})
}

// Code is code.
func (c *Client) Code(ctx context.Context) (string, error) { return c.code(ctx) }

// GoodFor is how much longer the access token counts as good.
func (c *Client) GoodFor() time.Duration {
	c.tokens.mu.Lock()
	defer c.tokens.mu.Unlock()
	return time.Until(c.tokens.good)
}

// Renewing reports whether a new token is being asked for.
func (c *Client) Renewing() bool {
	c.tokens.mu.Lock()
	defer c.tokens.mu.Unlock()
	return c.tokens.renewal != nil
}

// SetTransport makes something else of requests than traffic.
func SetTransport(c *Client, f http.RoundTripper) { c.http.Transport = f }

// Redact is redact, with secrets to look for.
func Redact(text string, all ...string) string {
	var s secrets
	s.add(all...)
	return s.redact(text)
}
