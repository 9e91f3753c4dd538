// Package cf finds the instances of Cloud Foundry apps and logs in to them: the cf CLI's config, the API, one-time codes.
// It captures nothing, and opens no connection but those to the API and to the UAA.
package cf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// DefaultTimeout is how long one request to the API may take.
const DefaultTimeout = 30 * time.Second

// Options say which platform to talk to, and as whom. One of Config and Session must be set.
type Options struct {
	Config  *Config  // the cf CLI's; the client refreshes the token, and writes the file when the refresh token has changed
	Session *Session // used in place of Config when set

	SkipHostValidation bool           // accept any SSH host key: whoever is in between can read and change what comes
	RootCAs            *x509.CertPool // for TLS; nil is the system's
	Timeout            time.Duration  // of each request; 0 is 30 s
	Warn               func(string)   // gets notices of one line, one at a time; nil drops them
}

// Session is a login that somebody else takes care of: the cf CLI, when this is its plugin.
type Session struct {
	API         string // its URL
	Org, Space  Named
	SSLDisabled bool
	// Token gives the access token with its type in front ("bearer …"), and a new one when the old one expires soon.
	// It may be called from several goroutines, though never from two at a time.
	Token func(ctx context.Context) (string, error)
}

func (s *Session) check() error {
	switch {
	case s.API == "":
		return problem(KindNoAPI, "", "%s", noAPI)
	case s.Token == nil:
		return problem(KindNotLoggedIn, "", "%s", notLoggedIn)
	case s.Org.GUID == "" && s.Org.Name == "":
		return problem(KindNoOrg, "'cf orgs' lists them", "%s", noOrg)
	case s.Space.GUID == "":
		return problem(KindNoSpace, "'cf spaces' lists them", "%s", noSpace)
	}
	return nil
}

// Client talks to one platform about one space. All its methods may be called at the same time.
type Client struct {
	api        *url.URL
	org, space Named
	sshClient  string // the config's name of the OAuth client for SSH
	skipHost   bool
	timeout    time.Duration
	http       *http.Client
	tokens     *tokens
	secrets    *secrets

	warnMu sync.Mutex
	warnTo func(string)

	rootMu sync.Mutex
	root   *root // what the API says about the platform; nil until asked

	sshMu      sync.Mutex
	sshEnabled map[string]bool // GUIDs of apps for which SSH is not disabled
}

// NewClient checks that somebody is logged in and has targeted a space. It does not connect.
func NewClient(o Options) (*Client, error) {
	c := &Client{skipHost: o.SkipHostValidation, timeout: o.Timeout, warnTo: o.Warn, secrets: &secrets{}}
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	var api string
	var insecure bool
	switch {
	case o.Session != nil:
		s := o.Session
		if err := s.check(); err != nil {
			return nil, err
		}
		api, insecure, c.org, c.space = s.API, s.SSLDisabled, s.Org, s.Space
		c.tokens = &tokens{c: c, session: s.Token}
	case o.Config != nil:
		f := o.Config
		if err := f.check(); err != nil {
			return nil, err
		}
		api, insecure, c.org, c.space, c.sshClient = f.Target, f.SSLDisabled, f.OrganizationFields, f.SpaceFields, f.SSHOAuthClient
		c.tokens = newTokens(c, f)
	default:
		return nil, problem(KindNoAPI, "", "%s", noAPI)
	}
	var err error
	if c.api, err = baseURL(api); err != nil {
		return nil, problem(KindNoAPI, "set it with 'cf api URL'", "the API endpoint is not a URL that begins with https://")
	}
	c.http = newHTTP(insecure, o.RootCAs)
	return c, nil
}

// Close closes connections to the API that are kept open for later requests. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func newHTTP(insecure bool, roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:           http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, InsecureSkipVerify: insecure},
			// Many instances ask for their codes at the same time.
			MaxConnsPerHost:        32,
			MaxIdleConnsPerHost:    32,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    20 * time.Second,
			MaxResponseHeaderBytes: 1 << 20,
		},
		// A redirect would carry the token elsewhere, and the one-time code is in one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// baseURL parses an endpoint. Its path is never empty, which JoinPath does not take for an absolute one.
func baseURL(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(s, "/"))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errNotURL
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path + "/"}, nil
}

func (c *Client) warn(text string) {
	if c.warnTo == nil {
		return
	}
	c.warnMu.Lock()
	defer c.warnMu.Unlock()
	c.warnTo(text)
}
