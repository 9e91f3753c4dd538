package fakecf_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/rpc"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sshpcap/sshpcap/internal/cftest/fakecf"
)

// TestMain is a plugin too. PLUGIN says which: its name, its command's name and alias, and the status with which it is
// uninstalled.
func TestMain(m *testing.M) {
	if len(os.Args) >= 3 {
		if _, err := strconv.Atoi(os.Args[1]); err == nil {
			os.Exit(asPlugin(os.Args[1], os.Args[2], os.Args[3:]))
		}
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // plugins that wait a second before they end are slow tests
	goleak.VerifyTestMain(m)
}

func asPlugin(port, command string, args []string) int {
	var name, provides, alias string
	var status int
	_, _ = fmt.Sscan(os.Getenv("PLUGIN"), &name, &provides, &alias, &status)
	client, err := rpc.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return 9
	}
	defer client.Close()
	switch command {
	case "SendMetadata":
		var ok bool
		about := fakecf.PluginMetadata{Name: name, Commands: []fakecf.Command{{Name: provides, Alias: strings.Trim(alias, "-")}}}
		if name == "" || client.Call("CliRpcCmd.SetPluginMetadata", about, &ok) != nil {
			return 1
		}
	case "CLI-MESSAGE-UNINSTALL":
		return status
	default:
		var token string
		err := client.Call("CliRpcCmd.AccessToken", "", &token)
		fmt.Printf("%s %q %s %v\n", command, args, token, err)
		if len(args) > 0 {
			status, _ = strconv.Atoi(args[0])
			return status
		}
	}
	return 0
}

// home is where a cf lives.
type home struct {
	t   *testing.T
	dir string
}

func newHome(t *testing.T, config map[string]any) home {
	t.Helper()
	h := home{t, t.TempDir()}
	data, err := json.Marshal(config)
	if err == nil {
		err = os.Mkdir(filepath.Join(h.dir, ".cf"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(h.config(), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h home) config() string { return filepath.Join(h.dir, ".cf", "config.json") }

// cf runs a command in this process.
func (h home) cf(args ...string) (out string, status int) {
	h.t.Helper()
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		h.t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := os.Create(filepath.Join(h.dir, "out"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer stdout.Close()
	c := fakecf.CF{Home: h.dir, Stdin: stdin, Stdout: stdout, Stderr: stdout}
	status = c.Run(args)
	text, err := os.ReadFile(stdout.Name())
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text), status
}

func (h home) says(status int, what string, args ...string) {
	h.t.Helper()
	if out, got := h.cf(args...); got != status || !strings.Contains(out, what) {
		h.t.Errorf("cf %q: status %d, not %d, or not %q:\n%s", args, got, status, what, out)
	}
}

func TestPlugins(t *testing.T) {
	h := newHome(t, map[string]any{"AccessToken": "bearer old"})
	t.Setenv("PLUGIN", "one first f 0")
	h.says(0, "successfully installed", "install-plugin", "-f", os.Args[0])
	h.says(0, "first, f", "plugins")
	h.says(0, `first ["0" "-x" "--"] bearer old <nil>`, "first", "0", "-x", "-v", "--")
	h.says(0, `first [] bearer old <nil>`, "f")
	h.says(1, `first ["7"] bearer old <nil>`, "first", "7")
	h.says(0, "ALIAS:\n   f\n", "help", "first")
	for _, clash := range []string{"two first - 0", "two f - 0", "two x first 0", "two push - 0", "two x p 0"} {
		t.Setenv("PLUGIN", clash)
		h.says(1, "already used: ", "install-plugin", "-f", os.Args[0])
	}
	t.Setenv("PLUGIN", "")
	h.says(1, "not a valid cf CLI plugin binary", "install-plugin", "-f", os.Args[0])
	h.says(1, "not a valid cf CLI plugin binary", "install-plugin", "-f", h.config())
	h.says(1, "not found", "install-plugin", "-f", "/no/such")
	t.Setenv("PLUGIN", "two second - 0")
	h.says(0, "successfully installed", "install-plugin", "-f", os.Args[0])
	h.says(0, "second", "help")
	t.Setenv("PLUGIN", "one first f 0")
	h.says(0, "Plugin one N/A successfully uninstalled", "uninstall-plugin", "ONE")
	h.says(1, "not a registered command", "first")
	h.says(0, "second []", "second")
}

// TestCrashAtUninstall: what a plugin does wrong there breaks a new installation, and the old one is gone.
func TestCrashAtUninstall(t *testing.T) {
	h := newHome(t, nil)
	t.Setenv("PLUGIN", "one first - 3")
	h.says(0, "successfully installed", "install-plugin", "-f", os.Args[0])
	h.says(1, "unexpected error", "install-plugin", "-f", os.Args[0])
	h.says(1, "not a registered command", "first")
}

// TestRefresh: the token is renewed where there is a UAA, and the config keeps what nobody here knows of.
func TestRefresh(t *testing.T) {
	t.Setenv("PLUGIN", "one first - 0")
	answer := http.StatusOK
	uaa := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		if r.URL.Path != "/oauth/token" || r.FormValue("grant_type") != "refresh_token" || r.FormValue("refresh_token") != "r1" || user != "cf" || secret != "" {
			t.Errorf("%s %v from %s", r.URL, r.Form, user)
		}
		w.WriteHeader(answer)
		fmt.Fprint(w, `{"access_token":"new","token_type":"bearer","refresh_token":"r1"}`)
	}))
	defer uaa.Close()
	h := newHome(t, map[string]any{"AuthorizationEndpoint": uaa.URL, "AccessToken": "bearer old", "RefreshToken": "r1", "SSLDisabled": true, "Unknown": 1})
	h.says(0, "successfully installed", "install-plugin", "-f", os.Args[0])
	h.says(0, "bearer new <nil>", "first")
	data, err := os.ReadFile(h.config())
	if err != nil || !strings.Contains(string(data), `"bearer new"`) || !strings.Contains(string(data), `"Unknown": 1`) {
		t.Errorf("%s, %v", data, err)
	}
	answer = http.StatusUnauthorized
	h.says(0, "Error refreshing oauth token", "first")
}
