package cf

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxConfig bounds the config file; what the cf CLI writes has some ten kilobytes.
const maxConfig = 16 << 20

// Config is what this package uses of the cf CLI's config file. It holds secrets; printed, it shows only its path.
type Config struct {
	Path string `json:"-"`

	ConfigVersion         int
	Target                string // the API's URL
	AuthorizationEndpoint string
	UaaEndpoint           string
	AccessToken           string // with its type in front: "bearer …"
	RefreshToken          string
	OrganizationFields    Named
	SpaceFields           Named
	SSLDisabled           bool // whether TLS certificates are not checked; says nothing about SSH host keys
	SSHOAuthClient        string
	UAAOAuthClient        string
	UAAOAuthClientSecret  string
	UAAGrantType          string
	Trace                 string // where the CLI writes what it sends and gets: a file's path, or a boolean for its standard output
	CFOnK8s               struct{ Enabled bool }
}

// Named is an org or a space.
type Named struct{ GUID, Name string }

// String gives the path; the rest is nobody's business.
func (c Config) String() string { return "cf config " + c.Path }

// GoString is String.
func (c Config) GoString() string { return c.String() }

// ConfigPath is where the cf CLI keeps its config: $CF_HOME/.cf/config.json, else in the user's home.
func ConfigPath() (string, error) {
	home := os.Getenv("CF_HOME")
	if home == "" {
		home = userHome(runtime.GOOS, os.Getenv)
	}
	if home == "" {
		return "", problem(KindConfig, "set CF_HOME to the folder that has .cf in it", "no home directory, so no config of the cf CLI")
	}
	return filepath.Join(home, ".cf", "config.json"), nil
}

// userHome goes by the same variables as the cf CLI does.
func userHome(system string, env func(string) string) string {
	if system != "windows" {
		return env("HOME")
	}
	if home := env("HOMEDRIVE") + env("HOMEPATH"); home != "" {
		return home
	}
	return env("USERPROFILE")
}

// ReadConfig reads a config file of the cf CLI v7 or newer. It does not check that anybody is logged in.
func ReadConfig(path string) (*Config, error) {
	raw, err := readConfigFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Kind: KindNoAPI, Problem: noAPI, Err: err,
			Tip: "there is no config of the cf CLI at " + path + "; CF_HOME names another folder"}
	}
	if err != nil {
		return nil, &Error{Kind: KindConfig, Problem: "the cf CLI's config cannot be read: " + oneLine(err.Error()), Err: err}
	}
	return parseConfig(path, raw)
}

func readConfigFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(raw) > maxConfig {
		err = errors.New(path + " is too large")
	}
	return raw, err
}

func parseConfig(path string, raw []byte) (*Config, error) {
	c := &Config{Path: path}
	if err := json.Unmarshal(raw, c); err != nil {
		// The decoder's own words may quote the file.
		return nil, problem(KindConfig, "run 'cf login' to write it anew", "the cf CLI's config %s is damaged", path)
	}
	c.Path = path
	switch {
	case c.CFOnK8s.Enabled:
		return nil, problem(KindConfig, "target a Cloud Foundry on VMs with 'cf api'",
			"the targeted platform is Cloud Foundry on Kubernetes, which has no SSH to instances")
	case c.ConfigVersion != 3 && c.ConfigVersion != 4:
		return nil, problem(KindConfig, "versions 3 and 4 are known, which cf v7 to v9 write; run 'cf login' with one of these",
			"the cf CLI's config %s is of version %d", path, c.ConfigVersion)
	}
	return c, nil
}

// The cf CLI's own words.
const (
	noAPI       = "No API endpoint set. Use 'cf login' or 'cf api' to target an endpoint."
	notLoggedIn = "Not logged in. Use 'cf login' or 'cf login --sso' to log in."
	noOrg       = "No org targeted, use 'cf target -o ORG' to target an org."
	noSpace     = "No space targeted, use 'cf target -s SPACE' to target a space."
)

// check says what is missing, in the order in which the cf CLI does.
func (c *Config) check() error {
	from := "the login is read from " + c.Path + "; CF_HOME names another folder"
	switch {
	case c.Target == "":
		return problem(KindNoAPI, from, "%s", noAPI)
	case c.AccessToken == "" && c.RefreshToken == "" && c.UAAGrantType != clientCredentials:
		return problem(KindNotLoggedIn, from, "%s", notLoggedIn)
	case c.OrganizationFields.GUID == "":
		return problem(KindNoOrg, "'cf orgs' lists them", "%s", noOrg)
	case c.SpaceFields.GUID == "":
		return problem(KindNoSpace, "'cf spaces' lists them", "%s", noSpace)
	}
	return nil
}
