package cf

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// maxCode bounds a one-time code; the UAA's have 32 characters.
const maxCode = 1024

// code gets a one-time code for one login. It is good for five minutes.
func (c *Client) code(ctx context.Context) (string, error) {
	u, err := c.codeURL(ctx)
	if err != nil {
		return "", err
	}
	a, err := c.getAs(ctx, u)
	if err != nil {
		return "", err
	}
	if a.status < 300 || a.status > 399 {
		return "", c.noCode(u, a)
	}
	code, err := parseLocation(a.header.Get("Location"))
	if err != nil {
		return "", problem(KindCode, "try 'cf ssh-code', which asks for the same; "+loginTip, "no one-time code for SSH: %s",
			c.secrets.redact(oneLine(err.Error())))
	}
	c.secrets.add(code)
	return code, nil
}

func (c *Client) codeURL(ctx context.Context) (*url.URL, error) {
	r, err := c.platform(ctx)
	if err != nil {
		return nil, err
	}
	u, err := baseURL(r.UAA)
	if err != nil {
		return nil, problem(KindBadAnswer, "check the API endpoint: 'cf api' shows it", "%s tells no UAA, where one-time codes for SSH come from", site(c.api))
	}
	u = u.JoinPath("oauth", "authorize")
	u.RawQuery = url.Values{"response_type": {"code"}, "client_id": {r.SSHClient}}.Encode()
	return u, nil
}

// noCode is the error when the answer is no redirect.
func (c *Client) noCode(u *url.URL, a *answer) error {
	if a.status == http.StatusForbidden && (strings.Contains(string(a.body), "insufficient_scope") || strings.Contains(a.header.Get("WWW-Authenticate"), "insufficient_scope")) {
		return problem(KindNoScope, "log in as a user, with 'cf login' or 'cf auth USER'",
			"no one-time code for SSH: the login lacks the scope uaa.user, as that of a client (client_credentials) does (insufficient_scope)")
	}
	e := c.statusError(u, a)
	switch e.Kind {
	case KindForbidden, KindNotFound, KindBadAnswer:
		e.Kind, e.Tip = KindCode, "try 'cf ssh-code', which asks for the same; "+loginTip
	}
	e.Problem = "no one-time code for SSH: " + e.Problem
	return e
}

// parseLocation takes the code out of the address that the UAA redirects to. No part of the address is in its errors.
func parseLocation(location string) (string, error) {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return "", errors.New("the redirect makes no sense")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", errors.New("the redirect makes no sense")
	}
	if len(query["error"]) == 0 && len(query["error_description"]) == 0 { // they may stand behind the #
		if fragment, err := url.ParseQuery(u.Fragment); err == nil && len(fragment["error"]) > 0 {
			query = fragment
		}
	}
	if text := query.Get("error_description"); text != "" {
		return "", errors.New(oneLine(text))
	}
	if text := query.Get("error"); text != "" || query.Has("error") {
		return "", errors.New("the UAA says " + oneLine(text))
	}
	codes := query["code"]
	switch {
	case len(codes) == 0:
		return "", errors.New("there is none in the redirect")
	case len(codes) > 1:
		return "", errors.New("there are several in the redirect")
	case !isHeaderText(codes[0]) || len(codes[0]) > maxCode:
		return "", errors.New("what is in the redirect is not one")
	}
	return codes[0], nil
}
