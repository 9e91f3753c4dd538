package fakecf

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// config is what a plugin can ask for of cf's config file, and what it takes to renew a token.
type config struct {
	Target                string
	AuthorizationEndpoint string
	UaaEndpoint           string
	AccessToken           string
	RefreshToken          string
	OrganizationFields    struct{ GUID, Name string }
	SpaceFields           struct{ GUID, Name string }
	SSLDisabled           bool
	UAAOAuthClient        string
	UAAOAuthClientSecret  string
	UAAGrantType          string
	Trace                 string
}

func (c *CF) configPath() string { return filepath.Join(c.Home, ".cf", "config.json") }

// readConfig reads the config; one that is not there is empty. The second result has all that is in the file.
func readConfig(path string) (config, map[string]any, error) {
	var c config
	raw := map[string]any{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, raw, nil
	}
	if err == nil {
		err = errors.Join(json.Unmarshal(data, &c), json.Unmarshal(data, &raw))
	}
	return c, raw, err
}

// trace writes what cf sends to where CF_TRACE and the config have it.
func (c *CF) trace(text string) {
	config, _, _ := readConfig(c.configPath()) // empty where it cannot be read
	for _, setting := range []string{c.Trace, config.Trace} {
		on, err := strconv.ParseBool(setting)
		switch {
		case setting == "" || err == nil && !on:
		case err == nil:
			fmt.Fprint(c.Stdout, text)
		default:
			if f, err := os.OpenFile(setting, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
				fmt.Fprint(f, text)
				f.Close()
			}
		}
	}
}

// refresh gives the access token, a new one if there is a UAA to be asked, and writes that to the config.
func refresh(path string) (string, error) {
	c, raw, err := readConfig(path)
	if err != nil {
		return "", err
	}
	uaa := cmp.Or(c.AuthorizationEndpoint, c.UaaEndpoint)
	if uaa == "" || c.RefreshToken == "" && c.UAAGrantType != "client_credentials" {
		return c.AccessToken, nil
	}
	fresh, err := c.ask(uaa)
	if err != nil {
		return "", words("Error refreshing oauth token: %w", err)
	}
	raw["AccessToken"] = fresh.TokenType + " " + fresh.AccessToken
	if fresh.RefreshToken != "" {
		raw["RefreshToken"] = fresh.RefreshToken
	}
	return raw["AccessToken"].(string), replace(path, raw)
}

// tokens is UAA's answer.
type tokens struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	RefreshToken string `json:"refresh_token"`
}

func (c config) ask(uaa string) (tokens, error) {
	client := cmp.Or(c.UAAOAuthClient, "cf")
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {c.RefreshToken}}
	if c.UAAGrantType == "client_credentials" {
		form = url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {c.UAAOAuthClientSecret}}
	}
	request, err := http.NewRequest(http.MethodPost, strings.TrimSuffix(uaa, "/")+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return tokens{}, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	if c.UAAGrantType != "client_credentials" {
		request.SetBasicAuth(client, c.UAAOAuthClientSecret)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{InsecureSkipVerify: c.SSLDisabled}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(request)
	if err != nil {
		return tokens{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return tokens{}, err
	}
	if response.StatusCode != http.StatusOK {
		return tokens{}, fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	var t tokens
	return t, json.Unmarshal(body, &t)
}

// replace writes the config in one step, with all that we do not know of.
func replace(path string, raw map[string]any) error {
	data, err := json.MarshalIndent(raw, "", "  ")
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "temp-config")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if _, err := temp.Write(data); err != nil {
		return errors.Join(err, temp.Close())
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
