package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
)

// How long cf is waited for, whatever the context allows.
var (
	dialTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second  // for a question to leave
	callTimeout  = 5 * time.Second  // for what cf knows by itself
	tokenTimeout = 60 * time.Second // for what it asks the platform, through a proxy perhaps
)

// Conn is a connection to the cf that started the plugin. It is safe for concurrent use; a call that is given up disturbs
// no other.
type Conn struct {
	client *rpc.Client
	gone   chan struct{} // closed by what Dial gives to watched
}

// Ref is an org or a space.
type Ref struct{ GUID, Name string }

// Dial connects to the cf that listens on a port of 127.0.0.1, and waits no longer than ctx and 5 s.
func Dial(ctx context.Context, port string) (*Conn, error) {
	if !isPort(port) {
		return nil, &Error{Problem: fmt.Sprintf("%q is not a port of the cf CLI", port), Advice: startedByCF}
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	link, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, &Error{Problem: "cannot reach the cf CLI that started the plugin", Advice: startedByCF, Err: err}
	}
	conn := &Conn{gone: make(chan struct{})}
	conn.client = rpc.NewClient(&watched{Conn: link, end: sync.OnceFunc(func() { close(conn.gone) })})
	return conn, nil
}

const startedByCF = "run it as a command of cf: cf pcap APP"

// Close ends the connection. More than one Close is no error.
func (c *Conn) Close() error {
	err := c.client.Close()
	if errors.Is(err, rpc.ErrShutdown) {
		return nil
	}
	return err
}

// Gone is closed when cf has ended or Close was called. A cf that is killed does not tell its plugin in any other way:
// once Foreground holds the terminal, what is sent to cf's process group (by timeout(1) for example) does not reach the plugin.
func (c *Conn) Gone() <-chan struct{} { return c.gone }

// AccessToken is a fresh token with its type, "bearer …", ready for an Authorization header. cf renews it where needed.
func (c *Conn) AccessToken(ctx context.Context) (string, error) {
	token, err := ask[string](ctx, c, tokenTimeout, "AccessToken", "")
	if err == nil && token == "" {
		err = &Error{Problem: "cf has no access token", Advice: "log in with cf login"}
	}
	return token, err
}

// APIEndpoint is the URL of the platform's API; "" when none is set.
func (c *Conn) APIEndpoint(ctx context.Context) (string, error) {
	return ask[string](ctx, c, callTimeout, "ApiEndpoint", "")
}

// IsSSLDisabled reports whether cf was told not to verify the API's certificate. It says nothing about SSH host keys.
func (c *Conn) IsSSLDisabled(ctx context.Context) (bool, error) {
	return ask[bool](ctx, c, callTimeout, "IsSSLDisabled", "")
}

// IsLoggedIn reports whether cf has a token, which may have expired.
func (c *Conn) IsLoggedIn(ctx context.Context) (bool, error) {
	return ask[bool](ctx, c, callTimeout, "IsLoggedIn", "")
}

// HasOrganization reports whether an org is targeted.
func (c *Conn) HasOrganization(ctx context.Context) (bool, error) {
	return ask[bool](ctx, c, callTimeout, "HasOrganization", "")
}

// HasSpace reports whether a space is targeted.
func (c *Conn) HasSpace(ctx context.Context) (bool, error) {
	return ask[bool](ctx, c, callTimeout, "HasSpace", "")
}

// CurrentOrg is the org that is targeted; zero when there is none.
func (c *Conn) CurrentOrg(ctx context.Context) (Ref, error) {
	// What is embedded at cf's side is a field of its type's name to gob.
	reply, err := ask[struct{ OrganizationFields wireRef }](ctx, c, callTimeout, "GetCurrentOrg", "")
	return reply.OrganizationFields.ref(), err
}

// CurrentSpace is the space that is targeted; zero when there is none.
func (c *Conn) CurrentSpace(ctx context.Context) (Ref, error) {
	reply, err := ask[struct{ SpaceFields wireRef }](ctx, c, callTimeout, "GetCurrentSpace", "")
	return reply.SpaceFields.ref(), err
}

type wireRef struct{ Guid, Name string }

func (w wireRef) ref() Ref { return Ref{GUID: w.Guid, Name: w.Name} }

// ask waits for an answer until the time is up. One that comes later goes nowhere.
func ask[T any](ctx context.Context, c *Conn, limit time.Duration, method string, arg any) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var none T
	reply := new(T) // belongs to the client until the call is done
	call := c.client.Go("CliRpcCmd."+method, arg, reply, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error == nil {
			return *reply, nil
		}
		return none, explain(method, call.Error)
	case <-ctx.Done():
	}
	if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
		return none, err
	}
	return none, &Error{Problem: "cf does not answer the plugin's question " + method, Advice: startedByCF, Err: ctx.Err()}
}

// explain says what became of a question that cf has not answered.
func explain(method string, err error) error {
	var refused rpc.ServerError
	if errors.As(err, &refused) {
		return &Error{Problem: "cf cannot answer the plugin's question " + method, Advice: "cf's own words may help; if they speak of a token: cf login", Err: rpc.ServerError(printable(string(refused)))}
	}
	return &Error{Problem: "the connection to cf has broken at the question " + method, Advice: startedByCF, Err: err}
}

// secret is what looks like a token: UAA likes to quote the one that it refuses.
var secret = regexp.MustCompile(`eyJ[\w.-]+|[\w-]{30,}`)

// printable makes one line of what cf says, which may be words of the platform's, without secrets.
func printable(words string) string {
	const most = 1000
	words = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(words, "?"))
	words = secret.ReplaceAllString(strings.Join(strings.Fields(words), " "), "…")
	if len(words) > most {
		words = strings.ToValidUTF8(words[:most], "") + "…"
	}
	return words
}

// watched is a connection that tells when nothing more will come.
type watched struct {
	net.Conn
	end func() // may be called again
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.end()
	}
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

func (w *watched) Close() error {
	defer w.end()
	return w.Conn.Close()
}
