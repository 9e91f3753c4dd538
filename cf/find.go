package cf

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxPages bounds how many pages of a list are asked for.
const maxPages = 1000

// maxResources bounds how much of a list is kept.
const maxResources = 100_000

// root is what the API says about the platform.
type root struct {
	SSH         string // host:port
	Fingerprint string
	SSHClient   string // the OAuth client for one-time codes
	UAA, Login  string // URLs
}

// platform asks the API once.
func (c *Client) platform(ctx context.Context) (*root, error) {
	if r := c.known(); r != nil {
		return r, nil
	}
	u := c.api.JoinPath("/")
	a, err := c.get(ctx, u, "")
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, c.statusError(u, a)
	}
	type link struct {
		Href string
		Meta struct {
			Fingerprint string `json:"host_key_fingerprint"`
			OAuthClient string `json:"oauth_client"`
		}
	}
	var v struct {
		Links struct {
			SSH        link `json:"app_ssh"`
			UAA, Login link
		}
	}
	if err := decode(u, a, &v); err != nil {
		return nil, err
	}
	l := v.Links
	r := &root{SSH: l.SSH.Href, Fingerprint: l.SSH.Meta.Fingerprint, UAA: l.UAA.Href, Login: l.Login.Href,
		SSHClient: cmp.Or(l.SSH.Meta.OAuthClient, c.sshClient, "ssh-proxy")}
	c.rootMu.Lock()
	defer c.rootMu.Unlock()
	c.root = r
	return r, nil
}

func (c *Client) known() *root {
	c.rootMu.Lock()
	defer c.rootMu.Unlock()
	return c.root
}

// check says what is missing for SSH.
func (r *root) check(skipHostValidation bool) error {
	if _, _, err := r.address(); err != nil {
		return err
	}
	if !skipHostValidation && fingerprintKind(r.Fingerprint) == "" {
		what := "the platform tells no fingerprint of its SSH host key"
		if r.Fingerprint != "" {
			what = "the platform tells a fingerprint of its SSH host key that is of no known kind: " + strconv.Quote(oneLine(r.Fingerprint))
		}
		return problem(KindNoFingerprint, "ask the platform's operators to configure it (app_ssh.host_key_fingerprint); "+
			"-k, --skip-host-validation goes on without: whoever is in between can then read and change what comes", "%s", what)
	}
	return nil
}

// address is that of the platform's SSH server.
func (r *root) address() (host string, port int, err error) {
	host, service, err := net.SplitHostPort(r.SSH)
	if err == nil {
		port, err = strconv.Atoi(service)
	}
	switch {
	case r.SSH == "":
		return "", 0, problem(KindNoEndpoint, "ask the platform's operators whether SSH to apps is switched on", "the platform tells no SSH endpoint")
	case err != nil || host == "" || port < 1 || port > 65535:
		return "", 0, problem(KindNoEndpoint, "ask the platform's operators", "the platform's SSH endpoint %q is not host:port", oneLine(r.SSH))
	}
	return host, port, nil
}

// list asks for all pages of a list. The host that the links to further pages name is not gone by: it would get the token.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	u := c.api.JoinPath(path)
	u.RawQuery = query.Encode()
	var all []T
	for range maxPages {
		var page struct {
			Pagination struct{ Next struct{ Href string } }
			Resources  []T
		}
		if err := c.getJSON(ctx, u, &page); err != nil {
			return nil, err
		}
		if all = append(all, page.Resources...); len(all) > maxResources {
			break
		}
		if page.Pagination.Next.Href == "" {
			return all, nil
		}
		next, err := url.Parse(page.Pagination.Next.Href)
		if err != nil || next.Path == u.Path && next.RawQuery == u.RawQuery {
			return nil, problem(KindBadAnswer, "", "%s gives a list whose next page makes no sense", site(u))
		}
		u = &url.URL{Scheme: c.api.Scheme, Host: c.api.Host, Path: next.Path, RawPath: next.RawPath, RawQuery: next.RawQuery}
	}
	return nil, problem(KindBadAnswer, "", "%s gives a list without an end", site(u))
}

type app struct{ GUID, Name, State string }

type process struct {
	GUID, Type string
	Instances  int
}

type row struct {
	Type, State, Details, Host string
	Index                      int
	InternalIP                 string `json:"instance_internal_ip"`
	GUID                       string `json:"instance_guid"`
	Uptime                     int64  // seconds
	Ports                      []struct {
		External         int
		Internal         int
		ExternalTLSProxy int `json:"external_tls_proxy_port"`
		InternalTLSProxy int `json:"internal_tls_proxy_port"`
	} `json:"instance_ports"`
}

// Instances asks the platform for the instances of t and sorts them into those that can be captured on and those that
// cannot. It is an error when none is running, and when one that t names does not exist or is not running; what was
// found is given all the same.
func (c *Client) Instances(ctx context.Context, t Target) (Found, error) {
	r, err := c.platform(ctx)
	if err == nil {
		err = r.check(c.skipHost)
	}
	if err != nil {
		return Found{}, err
	}
	a, err := c.app(ctx, t.App)
	if err != nil {
		return Found{}, err
	}
	all, err := c.processInstances(ctx, a, t.process())
	if err != nil {
		return Found{}, err
	}
	return choose(t, all)
}

func (c *Client) app(ctx context.Context, name string) (app, error) {
	// A comma separates names in the query; the API takes %2C in one as part of it.
	query := url.Values{"names": {strings.ReplaceAll(name, ",", "%2C")}, "space_guids": {c.space.GUID}}
	found, err := list[app](ctx, c, "/v3/apps", query)
	if err != nil {
		return app{}, err
	}
	i := slices.IndexFunc(found, func(a app) bool { return a.Name == name })
	if i < 0 {
		return app{}, problem(KindNoApp, fmt.Sprintf("it is looked for in org %s, space %s: 'cf apps' lists what is there, 'cf target' changes the space",
			oneLine(c.org.Name), oneLine(c.space.Name)), "App '%s' not found.", oneLine(name))
	}
	if !isHeaderText(found[i].GUID) {
		return app{}, noGUID(c)
	}
	if found[i].State != "STARTED" {
		return app{}, problem(KindStopped, "start it with 'cf start "+shellWord(name)+"'", "app '%s' is %s", oneLine(name), cmp.Or(strings.ToLower(oneLine(found[i].State)), "not started"))
	}
	return found[i], nil
}

// processInstances gives all instances of the processes of a type: during a rolling deployment there are two of them.
func (c *Client) processInstances(ctx context.Context, a app, kind string) ([]Instance, error) {
	processes, err := list[process](ctx, c, "/v3/apps/"+url.PathEscape(a.GUID)+"/processes", nil)
	if err != nil {
		return nil, c.gone(err, a.Name)
	}
	var all []Instance
	var types []string
	found := 0
	for _, p := range processes {
		types = append(types, oneLine(p.Type))
		if p.Type != kind {
			continue
		}
		if !isHeaderText(p.GUID) {
			return nil, noGUID(c)
		}
		found++
		rows, err := c.stats(ctx, p)
		if err != nil {
			return nil, c.gone(err, a.Name)
		}
		for _, row := range rows {
			in := row.instance(a, p)
			if found > 1 {
				in.Deployment = short(p.GUID)
			}
			all = append(all, in)
		}
	}
	if found == 0 {
		slices.Sort(types)
		return nil, problem(KindNoProcess, fmt.Sprintf("app '%s' has: %s", oneLine(a.Name), oneLine(strings.Join(slices.Compact(types), ", "))),
			"Process %s not found", oneLine(kind))
	}
	return all, nil
}

func noGUID(c *Client) error {
	return problem(KindBadAnswer, "", "%s gives a resource without a GUID", site(c.api))
}

// gone explains a resource that went away between two requests.
func (c *Client) gone(err error, app string) error {
	if KindOf(err) == KindNotFound {
		return problem(KindNoApp, "it may just have been deleted or deployed anew: try again", "app '%s' is no longer as it was found", oneLine(app))
	}
	return err
}

func (c *Client) stats(ctx context.Context, p process) ([]row, error) {
	var v struct{ Resources []row }
	err := c.getJSON(ctx, c.api.JoinPath("/v3/processes/", url.PathEscape(p.GUID), "/stats"), &v)
	return v.Resources, err
}

func (r row) instance(a app, p process) Instance {
	in := Instance{App: oneLine(a.Name), Process: oneLine(p.Type), Index: r.Index, State: oneLine(r.State), Details: oneLine(r.Details), AppGUID: a.GUID,
		ProcessGUID: p.GUID, GUID: oneLine(r.GUID), Cell: oneLine(r.Host), InternalIP: oneLine(r.InternalIP), Uptime: time.Duration(r.Uptime) * time.Second}
	for _, p := range r.Ports {
		in.Ports = append(in.Ports, Port{External: p.External, Internal: p.Internal, ExternalTLSProxy: p.ExternalTLSProxy, InternalTLSProxy: p.InternalTLSProxy})
	}
	return in
}

func short(guid string) string { return oneLine(guid[:min(len(guid), 8)]) }
