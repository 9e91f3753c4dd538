package cf

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/net/proxy"

	"github.com/sshpcap/sshpcap/sshx"
)

// How often a silent connection is asked for a sign of life, and how many of these may stay without an answer. The
// platform cuts connections that are silent for 300 s, and a helper in a container ends 14 s after the last sign of life
// from here. A dead one is given up 16 to 20 s after the last byte that came; then the platform is asked for the reason, for 5 s at most.
const (
	keepAlive    = 4 * time.Second
	keepAliveMax = 3
)

// Endpoint is where and how to log in to an instance that Instances has found. Each login gets a one-time code of its
// own; no connection is shared. Errors of dialling it, and of starting a command on it, are for Explain.
func (c *Client) Endpoint(in Instance) sshx.Endpoint {
	e := sshx.Endpoint{
		Target:          in.Name(),
		User:            fmt.Sprintf("cf:%s/%d", in.ProcessGUID, in.Index),
		KeepAlive:       keepAlive,
		KeepAliveMax:    keepAliveMax,
		NoShare:         true,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: func(ctx context.Context) ([]ssh.AuthMethod, error) {
			code, err := c.code(ctx)
			if err != nil {
				return nil, err
			}
			return []ssh.AuthMethod{ssh.Password(code)}, nil
		},
	}
	r := c.known()
	if r == nil {
		r = &root{}
	}
	host, port, err := r.address()
	e.Host, e.Port, e.DialTCP = host, port, c.sshProxy()
	if err != nil {
		e.DialTCP = func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	if !c.skipHost {
		e.HostKeyCallback = func(_ string, _ net.Addr, key ssh.PublicKey) error { return checkHostKey(r.Fingerprint, key) }
	}
	return e
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// sshProxy dials through the SOCKS 5 proxy of ALL_PROXY, but for what NO_PROXY names, as the cf CLI does; nil without one.
func (c *Client) sshProxy() dialFunc {
	text := env("ALL_PROXY", "all_proxy")
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return failing("ALL_PROXY is not the URL of a proxy")
	}
	switch u.Scheme {
	case "socks5", "socks5h":
	case "http", "https":
		return nil // for HTTP, which goes by other variables
	default:
		return failing("ALL_PROXY names a kind of proxy that SSH cannot go through here: " + oneLine(u.Scheme))
	}
	through, err := proxy.FromURL(u, &net.Dialer{})
	if err != nil {
		return failing("ALL_PROXY is not the URL of a proxy")
	}
	perHost := proxy.NewPerHost(through, &net.Dialer{})
	for name := range strings.SplitSeq(env("NO_PROXY", "no_proxy"), ",") {
		name = strings.TrimSpace(name)
		if name == "*" {
			return nil
		}
		if strings.HasPrefix(name, ".") {
			name = "*" + name // the package does not know this common form
		}
		perHost.AddFromString(name)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := perHost.DialContext(ctx, network, address)
		if socks, ok := err.(*net.OpError); ok && socks.Op == "socks connect" && ctx.Err() == nil {
			return nil, &Error{Kind: KindProxy, Problem: "the proxy " + oneLine(u.Host) + " does not connect to " + address + ": " + plain(socks.Err),
				Tip: proxyTip, Err: socks.Err}
		}
		return conn, err
	}
}

const proxyTip = "ALL_PROXY=socks5://HOST:PORT is the proxy for SSH; NO_PROXY names hosts to reach without it"

func failing(text string) dialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, problem(KindProxy, proxyTip, "%s", text)
	}
}

func env(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}
