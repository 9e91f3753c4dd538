package cf_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/sshx"
)

const evil = "\x1b]0;pwned\x07\x1b[2J\u009b31m\u202etxt.exe\r\b\u2028"

// sent is what stands in an answer for the token that came with the question.
const sent = "TOKEN"

// answers is a platform that gives one answer to all questions.
type answers struct {
	status   int
	body     []byte
	location string
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	header := http.Header{"Location": {a.location}, "Www-Authenticate": {string(a.body[:min(len(a.body), 100)])}, "Retry-After": {a.location}}
	body := bytes.ReplaceAll(a.body, []byte(sent), []byte(r.Header.Get("Authorization")))
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// FuzzAnswers: whatever a platform answers, errors, hints and what is found are text, the token is in none of them, and an
// instance that is found can be named in a login.
func FuzzAnswers(f *testing.F) {
	const token = "bearer f00dfeedc0ffee0123456789"
	for _, s := range []string{
		"", "null", "[]", `{"errors":[{"code":10000,"title":"CF-` + evil + `","detail":"` + sent + evil + `"}]}`, `{"error":"invalid_token","error_description":"` + evil + sent + `"}`,
		`{"links":{"app_ssh":{"href":"h:22","meta":{"host_key_fingerprint":"` + evil + `"}},"uaa":{"href":"https://u"},"login":{"href":"https://l"}},
		"resources":[{"guid":"g","name":"shop","state":"STARTED","type":"web","index":0,"host":"` + evil + `","details":"` + evil + `","instance_guid":"` + evil + `"}]}`,
		`{"links":{"app_ssh":{"href":"[::1]:2222","meta":{"host_key_fingerprint":"` + strings.Repeat("0", 64) + `"}},"uaa":{"href":"http://u/"}},"resources":[{"guid":"g","name":"shop",
		"state":"STARTED","type":"web","index":-1,"instance_ports":null},{"index":99999999999}],"pagination":{"next":{"href":"https://evil/?page=2"}}}`,
		`{"enabled":false,"reason":"ssh is disabled for space '` + evil + `'"}`, `{"resources":[{"type":"web","state":"RUNNING","index":0}]}`,
	} {
		for _, status := range []int{200, 302, 401, 404, 429} {
			f.Add(status, []byte(strings.ReplaceAll(s, evil, "\\u001b[2J\\u202e")), "https://x/?code=abc")
			f.Add(status, []byte(s), "?error_description="+evil)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, location string) {
		if status < 100 || status >= 500 {
			status = 418 // is not tried again, which takes time; nor is what follows
		}
		if _, err := url.Parse(location); err != nil {
			location = ""
		}
		c, err := cf.NewClient(cf.Options{SkipHostValidation: len(body)%2 == 0, Session: &cf.Session{
			API: "https://api.example.com", Org: cf.Named{GUID: "o", Name: "org"}, Space: cf.Named{GUID: "s", Name: "space"},
			Token: func(context.Context) (string, error) { return token, nil },
		}})
		if err != nil {
			t.Fatal(err)
		}
		cf.SetTransport(c, answers{status, body, location})
		check := func(err error) {
			t.Helper()
			var hinter interface{ Hint() string }
			if err == nil {
				return
			}
			text := err.Error()
			if errors.As(err, &hinter) {
				text += hinter.Hint()
			}
			shown(t, text)
			if strings.Contains(text, token) || strings.Contains(text, token[7:]) {
				t.Errorf("the token is in %q", text)
			}
		}
		ctx := context.Background()
		found, err := c.Instances(ctx, cf.Target{App: "shop"})
		check(err)
		in := cf.Instance{App: "shop", Process: "web", AppGUID: "a", ProcessGUID: "p"}
		for _, in = range append(found.Running, found.Skipped...) {
			shown(t, in.Name()+in.HostName()+in.SelfFilter()+in.State+in.Details+in.Cell+in.InternalIP+in.GUID)
			shown(t, c.Endpoint(in).User)
		}
		_, err = c.Code(ctx)
		check(err)
		check(c.Explain(ctx, in, &sshx.Error{Kind: sshx.KindLoginRefused, Problem: "refused"}))
		check(c.Explain(ctx, in, &sshx.Error{Kind: sshx.KindTimeout, Problem: "late"}))
	})
}

// shown fails the test if a text would do anything to a terminal but show characters.
func shown(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if !unicode.IsPrint(r) {
			t.Fatalf("%U in %q", r, text)
		}
	}
}
