package cf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// maxAnswer bounds the body of an answer.
const maxAnswer = 16 << 20

// maxTries is how often a GET is sent when the server has a problem of its own.
const maxTries = 3

var errNotURL = errors.New("not a URL")

// answer is what came back to a request, whatever its status.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send makes one request and reads the answer to its end. Errors name no URL.
func (c *Client) send(ctx context.Context, r *http.Request) (*answer, error) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "sshpcap")
	resp, err := c.http.Do(r.WithContext(limited))
	if err != nil {
		return nil, c.transportError(ctx, r.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.transportError(ctx, r.URL, err)
	}
	if len(body) > maxAnswer {
		return nil, problem(KindBadAnswer, "", "%s sends more than %d MiB", site(r.URL), maxAnswer>>20)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// site names a server in messages.
func site(u *url.URL) string { return oneLine(u.Scheme + "://" + u.Host) }

// get sends a GET, again when the server has a problem of its own. token may be "".
func (c *Client) get(ctx context.Context, u *url.URL, token string) (*answer, error) {
	for try := 1; ; try++ {
		r := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		a, err := c.send(ctx, r)
		again := err == nil && isHiccup(a.status) || mayPass(err)
		if !again || try == maxTries || pause(ctx, try) != nil {
			return a, err
		}
	}
}

// mayPass reports whether it makes sense to try again after an error of the transport.
func mayPass(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return KindOf(err) == KindUnreachable && !errors.Is(err, context.DeadlineExceeded) && !(ok && dns.IsNotFound)
}

func isHiccup(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// pause waits before the next try, never twice the same.
func pause(ctx context.Context, try int) error {
	d := 100 * time.Millisecond << try
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxTokens is how many access tokens are tried: the one at hand, one that another program may have saved, a new one.
const maxTokens = 3

// getAs sends a GET with the access token, which is renewed when it is not accepted.
func (c *Client) getAs(ctx context.Context, u *url.URL) (*answer, error) {
	var a *answer
	token := ""
	for range maxTokens {
		var err error
		if token, err = c.tokens.get(ctx, token); err != nil {
			return nil, err
		}
		if a, err = c.get(ctx, u, token); err != nil || a.status != http.StatusUnauthorized {
			return a, err
		}
	}
	return nil, c.loginExpired(site(u)+" does not accept the login", a)
}

// getJSON asks the API for a resource. A status other than 200 is an error.
func (c *Client) getJSON(ctx context.Context, u *url.URL, into any) error {
	a, err := c.getAs(ctx, u)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return c.statusError(u, a)
	}
	return decode(u, a, into)
}

func decode(u *url.URL, a *answer, into any) error {
	if json.Unmarshal(a.body, into) != nil { // its words may quote the answer
		return problem(KindBadAnswer, "check the API endpoint: 'cf api' shows it", "the answer of %s is not that of a Cloud Foundry", site(u))
	}
	return nil
}

// transportError says why there was no answer. The causes are taken out of *url.Error, which has the URL in it.
func (c *Client) transportError(ctx context.Context, u *url.URL, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	text := c.secrets.redact(oneLine(plain(err)))
	if isUntrusted(err) {
		return &Error{Kind: KindUntrusted, Problem: "the certificate of " + site(u) + " is not trusted: " + text, Err: err,
			Tip: "install the platform's CA (SSL_CERT_FILE names a file); or, if you accept the risk, 'cf api " + site(c.api) +
				" --skip-ssl-validation', which sets SSLDisabled in the cf CLI's config"}
	}
	e := &Error{Kind: KindUnreachable, Problem: site(u) + " cannot be reached: " + text, Err: err,
		Tip: "check the network, the VPN and the proxy variables (https_proxy, no_proxy); 'cf api' shows the endpoint"}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Problem = fmt.Sprintf("%s has not answered within %s", site(u), c.timeout)
	}
	return e
}

func isUntrusted(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid)
}

// plain gives an error's text without the parts that only programmers need.
func plain(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "unknown host name"
		}
		return "the host name cannot be looked up: " + dns.Err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "connection closed"
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tls: failed to verify certificate: "), "x509: ")
}

// statusError says what a status other than 200 means, in the server's words where it has any.
func (c *Client) statusError(u *url.URL, a *answer) *Error {
	said := c.said(a)
	switch {
	case a.status == http.StatusTooManyRequests:
		tip := "wait a moment and try again, with fewer instances"
		if after := oneLine(a.header.Get("Retry-After")); after != "" && len(after) <= 40 && strings.Trim(after, "0123456789") == "" {
			tip = "try again in " + after + " seconds"
		}
		return problem(KindRateLimit, tip, "%s has had too many requests from this user%s", site(u), said)
	case a.status == http.StatusUnauthorized:
		return c.loginExpired(site(u)+" does not accept the login", a)
	case a.status == http.StatusForbidden:
		return problem(KindForbidden, c.rolesTip(), "%s does not allow this%s", site(u), said)
	case a.status == http.StatusNotFound:
		return problem(KindNotFound, "check the API endpoint: 'cf api' shows it", "%s does not know what it is asked for%s", site(u), said)
	case a.status >= 500:
		return problem(KindServer, "try again later; if it stays so, the platform's operators should know",
			"%s has a problem of its own: status %d%s", site(u), a.status, said)
	}
	return problem(KindBadAnswer, "check the API endpoint: 'cf api' shows it", "%s answers with status %d%s", site(u), a.status, said)
}

// rolesTip is for everything that a space developer may do and others may not.
func (c *Client) rolesTip() string {
	return fmt.Sprintf("this needs the role SpaceDeveloper: 'cf space-users %s %s' shows who has it", shellWord(c.org.Name), shellWord(c.space.Name))
}

// shellWord is s as a word for a POSIX shell, for commands in hints.
func shellWord(s string) string {
	s = oneLine(s)
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./@:,+") == "" {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
}

// said is what the API's or the UAA's error says, with ": " in front; "" when it says nothing that can be understood.
func (c *Client) said(a *answer) string {
	var v struct {
		Errors           []struct{ Title, Detail string }
		Error            string
		ErrorDescription string `json:"error_description"`
	}
	if json.Unmarshal(a.body, &v) != nil {
		return ""
	}
	text := v.ErrorDescription
	if text == "" {
		text = v.Error
	}
	if len(v.Errors) > 0 {
		text = v.Errors[0].Detail
	}
	if text = c.secrets.redact(oneLine(text)); text == "" {
		return ""
	}
	return ": " + text
}
