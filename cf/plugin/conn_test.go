package plugin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/rpc"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/cf/plugin"
)

// What follows is cf's side as code.cloudfoundry.org/cli/plugin declares it: other types than ours, that gob must match.
type (
	PluginMetadata struct {
		Name           string
		Version        VersionType
		LibraryVersion VersionType
		MinCliVersion  VersionType
		Commands       []Command
	}
	VersionType struct{ Major, Minor, Build int }
	Command     struct {
		Name, Alias, HelpText string
		UsageDetails          Usage
	}
	Usage struct {
		Usage   string
		Options map[string]string
	}
	Organization       struct{ OrganizationFields }
	OrganizationFields struct {
		Guid, Name      string
		QuotaDefinition struct {
			Guid, Name              string
			MemoryLimit             int64
			NonBasicServicesAllowed bool
		}
	}
	Space       struct{ SpaceFields }
	SpaceFields struct{ Guid, Name string }
)

const (
	jwt    = "eyJhbGciOiJSUzI1NiJ9.eyJqdGkiOiJhIn0.c2ln-_x"
	opaque = "0123456789abcdef0123456789abcdef-r"
)

// CliRpcCmd answers as a cf that is logged in and targets an org and a space; with none, as one that does neither.
type CliRpcCmd struct {
	none   bool
	refuse bool
	hold   chan struct{} // what AccessToken waits for; nil is nothing
	mu     sync.Mutex
	got    []PluginMetadata
}

func (c *CliRpcCmd) SetPluginMetadata(m PluginMetadata, reply *bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, m)
	*reply = !c.refuse
	return nil
}

func (c *CliRpcCmd) AccessToken(_ string, reply *string) error {
	if c.hold != nil {
		<-c.hold
	}
	if c.refuse {
		return errors.New("Error refreshing oauth token:\nthe token expired: " + jwt + " and " + opaque)
	}
	return c.text("bearer abc", reply)
}

func (c *CliRpcCmd) ApiEndpoint(_ string, reply *string) error {
	return c.text("https://api.example.org", reply)
}
func (c *CliRpcCmd) IsSSLDisabled(_ string, reply *bool) error   { return c.yes(reply) }
func (c *CliRpcCmd) IsLoggedIn(_ string, reply *bool) error      { return c.yes(reply) }
func (c *CliRpcCmd) HasOrganization(_ string, reply *bool) error { return c.yes(reply) }
func (c *CliRpcCmd) HasSpace(_ string, reply *bool) error        { return c.yes(reply) }

func (c *CliRpcCmd) GetCurrentOrg(_ string, reply *Organization) error {
	return errors.Join(c.text("org-guid", &reply.Guid), c.text("acme", &reply.Name))
}

func (c *CliRpcCmd) GetCurrentSpace(_ string, reply *Space) error {
	return errors.Join(c.text("space-guid", &reply.Guid), c.text("dev", &reply.Name))
}

func (c *CliRpcCmd) yes(reply *bool) error { *reply = !c.none; return nil }

func (c *CliRpcCmd) text(s string, reply *string) error {
	if !c.none {
		*reply = s
	}
	return nil
}

// serving runs a server on a port until the test ends; handle owns the connection.
func serving(t *testing.T, handle func(net.Conn)) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { handle(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		all.Wait()
	})
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

func cfServing(t *testing.T, cmd *CliRpcCmd) (port string) {
	t.Helper()
	server := rpc.NewServer()
	if err := server.Register(cmd); err != nil {
		t.Fatal(err)
	}
	return serving(t, func(conn net.Conn) { server.ServeConn(conn) })
}

func dial(t *testing.T, port string) *plugin.Conn {
	t.Helper()
	conn, err := plugin.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

var about = plugin.Metadata{
	Name:    "sshpcap",
	Version: plugin.Version{Major: 1, Minor: 2, Build: 3},
	MinCLI:  plugin.Version{Major: 8},
	Commands: []plugin.Command{{
		Name: "pcap", Help: "Capture the packets of an app", Usage: "cf pcap APP [-i N]\n\nEXAMPLES:\n   cf pcap shop",
		Options: map[string]string{"i": "the instance", "output, -o": "the file", "overwrite": "…"},
	}},
}

func TestSendMetadata(t *testing.T) {
	t.Parallel()
	cf := &CliRpcCmd{}
	if err := plugin.SendMetadata(t.Context(), cfServing(t, cf), about); err != nil {
		t.Fatal(err)
	}
	want := PluginMetadata{
		Name: "sshpcap", Version: VersionType{1, 2, 3}, MinCliVersion: VersionType{8, 0, 0},
		Commands: []Command{{"pcap", "", "Capture the packets of an app", Usage{"cf pcap APP [-i N]\n\nEXAMPLES:\n   cf pcap shop", about.Commands[0].Options}}},
	}
	if len(cf.got) != 1 || !reflect.DeepEqual(cf.got[0], want) {
		t.Errorf("cf was told\n%+v\nwant\n%+v", cf.got, want)
	}
	if err := plugin.SendMetadata(t.Context(), cfServing(t, &CliRpcCmd{refuse: true}), about); err == nil || !strings.Contains(err.Error(), "accepted") {
		t.Errorf("refused: %v", err)
	}
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	for _, none := range []bool{false, true} {
		conn, ctx := dial(t, cfServing(t, &CliRpcCmd{none: none})), t.Context()
		for name, ask := range map[string]func(context.Context) (bool, error){
			"IsLoggedIn": conn.IsLoggedIn, "HasOrganization": conn.HasOrganization, "HasSpace": conn.HasSpace, "IsSSLDisabled": conn.IsSSLDisabled,
		} {
			if got, err := ask(ctx); err != nil || got == none {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		want := func(s string) string {
			if none {
				return ""
			}
			return s
		}
		if got, err := conn.APIEndpoint(ctx); err != nil || got != want("https://api.example.org") {
			t.Errorf("APIEndpoint: %q, %v", got, err)
		}
		if got, err := conn.CurrentOrg(ctx); err != nil || got != (plugin.Ref{GUID: want("org-guid"), Name: want("acme")}) {
			t.Errorf("CurrentOrg: %q, %v", got, err)
		}
		if got, err := conn.CurrentSpace(ctx); err != nil || got != (plugin.Ref{GUID: want("space-guid"), Name: want("dev")}) {
			t.Errorf("CurrentSpace: %q, %v", got, err)
		}
		if got, err := conn.AccessToken(ctx); got != want("bearer abc") || (err != nil) != none {
			t.Errorf("AccessToken: %q, %v", got, err)
		}
	}
}

// TestRefused: what cf answers in its own words arrives, with a hint, and the connection goes on.
func TestRefused(t *testing.T) {
	t.Parallel()
	conn := dial(t, cfServing(t, &CliRpcCmd{refuse: true}))
	_, err := conn.AccessToken(t.Context())
	trouble(t, err, "Error refreshing oauth token: the token expired: … and …", "cf login")
	if _, err := conn.HasSpace(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	conn := dial(t, cfServing(t, &CliRpcCmd{}))
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if token, err := conn.AccessToken(t.Context()); token != "bearer abc" {
				t.Error(err)
			}
			if space, err := conn.CurrentSpace(t.Context()); space.Name != "dev" {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// trouble checks an error for people.
func trouble(t *testing.T, err error, problem, hint string) {
	t.Helper()
	var e *plugin.Error
	if !errors.As(err, &e) || !strings.Contains(e.Error(), problem) || !strings.Contains(e.Hint(), hint) || strings.Contains(e.Error(), "\n") {
		t.Errorf("%v; want an error with %q and a hint with %q", err, problem, hint)
	}
}

func TestBadPorts(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"", "0", "x", "-1", "65536", "80 ", "localhost:80", "http"} {
		_, err := plugin.Dial(t.Context(), port)
		trouble(t, err, "is not a port", "cf pcap")
		trouble(t, plugin.SendMetadata(t.Context(), port, about), "is not a port", "cf pcap")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	listener.Close()
	_, err = plugin.Dial(t.Context(), closed)
	trouble(t, err, "cannot reach the cf CLI", "cf pcap")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := plugin.Dial(ctx, closed); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestNotCF: somebody else listens on the port, and says something else, or nothing and hangs up.
func TestNotCF(t *testing.T) {
	t.Parallel()
	for _, says := range []string{"", "\x00", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", strings.Repeat("\xff", 64), "\x01\x00"} {
		port := serving(t, func(conn net.Conn) {
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 1))
			_, _ = io.WriteString(conn, says)
		})
		conn := dial(t, port)
		_, err := conn.HasSpace(t.Context())
		trouble(t, err, "the connection to cf has broken", "cf pcap")
		_, err = conn.AccessToken(t.Context())
		trouble(t, err, "the connection to cf has broken", "cf pcap")
		conn.Close()
		isGone(t, conn)
	}
}

// silent takes all that comes and answers nothing, until the other side goes.
func silent(conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(io.Discard, conn)
}

// TestSilent: every call has its limit, whatever the context allows.
func TestSilent(t *testing.T) {
	defer plugin.SetTimeouts(30*time.Millisecond, 60*time.Millisecond)()
	port := serving(t, silent)
	for name, call := range map[string]func(*plugin.Conn) error{
		"AccessToken":  func(c *plugin.Conn) error { _, err := c.AccessToken(t.Context()); return err },
		"APIEndpoint":  func(c *plugin.Conn) error { _, err := c.APIEndpoint(t.Context()); return err },
		"IsLoggedIn":   func(c *plugin.Conn) error { _, err := c.IsLoggedIn(t.Context()); return err },
		"CurrentSpace": func(c *plugin.Conn) error { _, err := c.CurrentSpace(t.Context()); return err },
		"CurrentOrg":   func(c *plugin.Conn) error { _, err := c.CurrentOrg(t.Context()); return err },
		"SendMetadata": func(*plugin.Conn) error { return plugin.SendMetadata(t.Context(), port, about) },
	} {
		start := time.Now()
		trouble(t, call(dial(t, port)), "does not answer", "cf pcap")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// TestCancelled: a call ends with its context, and neither that nor its late answer harms another.
func TestCancelled(t *testing.T) {
	t.Parallel()
	cf := &CliRpcCmd{hold: make(chan struct{})}
	conn := dial(t, cfServing(t, cf))
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if token, err := conn.AccessToken(ctx); !errors.Is(err, context.Canceled) || token != "" {
			t.Errorf("%q, %v", token, err)
		}
		if has, err := conn.HasSpace(t.Context()); err != nil || !has {
			t.Errorf("meanwhile: %v, %v", has, err)
		}
	}
	close(cf.hold)
	if token, err := conn.AccessToken(t.Context()); err != nil || token != "bearer abc" {
		t.Errorf("%q, %v", token, err)
	}
	select {
	case <-conn.Gone():
		t.Error("cf is gone")
	default:
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	conns := make(chan net.Conn, 1)
	conn := dial(t, serving(t, func(c net.Conn) { conns <- c }))
	select {
	case <-conn.Gone():
		t.Fatal("gone before its time")
	default:
	}
	(<-conns).Close()
	isGone(t, conn)

	conn = dial(t, serving(t, silent))
	if err := errors.Join(conn.Close(), conn.Close()); err != nil {
		t.Error(err)
	}
	isGone(t, conn)
}

func isGone(t *testing.T, conn *plugin.Conn) {
	t.Helper()
	select {
	case <-conn.Gone():
	case <-time.After(5 * time.Second):
		t.Fatal("cf is not gone")
	}
}
