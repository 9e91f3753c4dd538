package api

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Config is the cf CLI's config after a login to this platform, with a new pair of tokens, for tests to change. The
// order of its keys is the CLI's.
type Config struct {
	AccessToken           string
	AsyncTimeout          int
	AuthorizationEndpoint string
	CFOnK8s               struct {
		Enabled  bool
		AuthInfo string
	}
	ColorEnabled       string
	ConfigVersion      int
	DopplerEndPoint    string
	Locale             string
	LogCacheEndPoint   string
	MinCLIVersion      string
	OrganizationFields struct{ GUID, Name string }
	PluginRepos        []struct{ Name, URL string }
	RefreshToken       string
	RoutingAPIEndpoint string
	SpaceFields        struct {
		GUID, Name string
		AllowSSH   bool
	}
	SSHOAuthClient       string
	SSLDisabled          bool
	Target               string
	Trace                string
	UaaEndpoint          string
	UAAGrantType         string
	UAAOAuthClient       string
	UAAOAuthClientSecret string
	APIVersion           string `json:"APIVersion"`
}

// NewConfig logs in. TLS certificates are not checked, since nobody trusts this server.
func (s *Server) NewConfig() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Config{AccessToken: "bearer " + s.newAccess(false), RefreshToken: s.newRefresh(), AuthorizationEndpoint: s.URL() + "/login",
		UaaEndpoint: s.URL() + "/uaa", Target: s.URL(), ConfigVersion: 4, SSLDisabled: true, APIVersion: "3.190.0",
		SSHOAuthClient: or(s.SSHClient, "ssh-proxy"), UAAOAuthClient: or(s.Client, "cf"), UAAOAuthClientSecret: s.Secret}
	c.OrganizationFields.GUID, c.OrganizationFields.Name = guidOf("org "+s.org()), s.org()
	c.SpaceFields.GUID, c.SpaceFields.Name, c.SpaceFields.AllowSSH = s.SpaceGUID(), s.space(), true
	c.PluginRepos = []struct{ Name, URL string }{{"CF-Community", "https://plugins.cloudfoundry.org"}}
	return c
}

// WriteConfig logs in and writes the cf CLI's config into home, which HOME or CF_HOME is to name, as the CLI does. change
// may be nil. It gives the file's path.
func (s *Server) WriteConfig(home string, change func(*Config)) (string, error) {
	c := s.NewConfig()
	if change != nil {
		change(&c)
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", err
	}
	path := filepath.Join(home, ".cf", "config.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, raw, 0o600)
}
