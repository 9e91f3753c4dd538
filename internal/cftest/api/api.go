// Package api is the HTTP side of a Cloud Foundry for tests: the API v3 and the UAA over HTTPS, on loopback. It runs no
// apps and speaks no SSH.
package api

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"sync"
	"time"
)

// States of instances.
const (
	Running  = "RUNNING"
	Starting = "STARTING"
	Stopping = "STOPPING"
	Crashed  = "CRASHED"
	Down     = "DOWN"
	Unknown  = "UNKNOWN"
)

// App is an app of the space. Its process "web" has the app's GUID unless it says otherwise.
type App struct {
	Name, GUID  string
	State       string // "" is STARTED
	SSHDisabled string // why SSH is disabled, such as "ssh is disabled for app"; "" is enabled
	Processes   []Process
}

// Process is a process of an app.
type Process struct {
	Type, GUID string
	Instances  []Instance
}

// Instance is an instance of a process, at the index at which it stands.
type Instance struct {
	State      string // "" is RUNNING
	Details    string
	GUID       string
	Host       string // the cell
	InternalIP string
	Uptime     int // seconds
	Ports      []Port
}

// Port is one port of an instance; 0 is null.
type Port struct{ External, Internal, ExternalTLSProxy, InternalTLSProxy int }

// Fault is an answer in place of the right one.
type Fault struct {
	Path       string // of requests whose path begins like this
	Times      int    // how many of these; below 0 all
	Status     int    // 0 cuts the connection
	Body       string
	RetryAfter string // the header
}

// Request is one that came.
type Request struct {
	Method, Path, Query string
	Authorized          bool // it had an Authorization header
	Status              int  // of the answer; 0 when there was none
}

// Server is the platform. Its fields are set before Start, and changed after it only in Change. The zero value has no
// apps, accepts the login that WriteConfig gives, and tells no SSH endpoint.
type Server struct {
	Apps      []App
	Org       string // "" is "org"
	Space     string // "" is "space"
	User      string // who logs in; "" is "dev"
	Auditor   bool   // the user is no space developer: no SSH, though the API says nothing of it
	NoAccess  bool   // the API answers 403 to requests about apps
	PageSize  int    // most resources of a page; 0 is 50
	HideLogin bool   // no links.login
	HideUAA   bool   // no links.uaa

	SSH         string // links.app_ssh.href, host:port; "" leaves the link out
	Fingerprint string // of the SSH host key; "" is null
	SSHClient   string // links.app_ssh.meta.oauth_client; "" leaves it out, and is ssh-proxy
	Client      string // the OAuth client of the cf CLI; "" is cf
	Secret      string // of that client

	TokenLife         time.Duration // of access tokens; 0 is 10 min, below 0 they are expired from the start
	HideExpiry        bool          // tokens do not tell when they expire: neither exp nor expires_in
	RotateRefresh     bool          // each refresh token is good once
	RefuseRefresh     string        // error_description of a refused refresh; "" is not refused
	CodeLife          time.Duration // of one-time codes; 0 is 5 min
	InsufficientScope bool          // tokens lack uaa.user
	CodeError         string        // error in the redirect in place of a code
	CodeErrorText     string        // error_description beside it
	Location          string        // of the redirect, in place of the right one
	Echo              bool          // error texts say back what was sent, with the token

	Faults []Fault
	Delay  map[string]time.Duration // by the beginning of the path

	mu       sync.Mutex
	listener *listener
	closing  chan struct{} // closed by Close
	requests []Request
	tokens   map[string]token   // access tokens that were given
	refresh  map[string]string  // refresh tokens that are good, and whose they are
	codes    map[string]oneTime // codes that are good
	secrets  []string
	serial   int
	key      []byte // signs tokens
}

type token struct {
	user   string
	until  time.Time
	client bool // got by client_credentials
}

type oneTime struct {
	user  string
	until time.Time
}

// Start listens on a free port of 127.0.0.1.
func (s *Server) Start() error {
	s.closing = make(chan struct{})
	s.tokens, s.refresh, s.codes = map[string]token{}, map[string]string{}, map[string]oneTime{}
	s.key = []byte(random(32))
	var err error
	s.listener, err = listen(s.serve)
	return err
}

// Close ends everything and returns when nothing of the server runs any more.
func (s *Server) Close() {
	close(s.closing)
	s.listener.shut()
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is the API's.
func (s *Server) URL() string { return "https://" + s.Addr() }

// Pool has the certificate to trust.
func (s *Server) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.listener.cert)
	return pool
}

// CertificatePEM is the certificate to trust, for a file that SSL_CERT_FILE names.
func (s *Server) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.listener.cert.Raw})
}

// Change changes the fields while the server runs.
func (s *Server) Change(f func(*Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// Requests are all that came so far and were answered, in the order of the answers.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Count is how many requests came whose method and path begin like this, such as "GET /v3/apps".
func (s *Server) Count(prefix string) int {
	n := 0
	for _, r := range s.Requests() {
		if strings.HasPrefix(r.Method+" "+r.Path, prefix) {
			n++
		}
	}
	return n
}

// Secrets are all tokens and codes that were ever given, and the client's secret: what must not show up anywhere.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.secrets)
	if s.Secret != "" {
		all = append(all, s.Secret)
	}
	return all
}

// TakeCode is for the SSH proxy: it says whose the code is, and uses it up. A user who is no space developer, and an app
// for which SSH is disabled, are for MayLogin.
func (s *Server) TakeCode(code string) (user string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.codes[code]
	delete(s.codes, code)
	if !ok || time.Now().After(c.until) {
		return "", false
	}
	return c.user, true
}

// MayLogin reports whether the platform lets the owner of a code in to an instance: SSH must be enabled, the user a space
// developer, and the instance running.
func (s *Server) MayLogin(processGUID string, index int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.Apps {
		for i := range a.Processes {
			p := a.process(i)
			if p.GUID != processGUID {
				continue
			}
			return !s.Auditor && a.SSHDisabled == "" && a.state() == "STARTED" && index >= 0 && index < len(p.Instances) && p.Instances[index].state() == Running
		}
	}
	return false
}

func (a App) state() string {
	if a.State == "" {
		return "STARTED"
	}
	return a.State
}

func (a App) guid() string {
	if a.GUID == "" {
		return guidOf("app " + a.Name)
	}
	return a.GUID
}

// process gives process i with its GUID.
func (a App) process(i int) Process {
	p := a.Processes[i]
	switch {
	case p.GUID != "":
	case p.Type == "web":
		p.GUID = a.guid()
	default:
		p.GUID = guidOf("process " + a.Name + " " + p.Type)
	}
	return p
}

func (in Instance) state() string {
	if in.State == "" {
		return Running
	}
	return in.State
}

// SpaceGUID is the space's.
func (s *Server) SpaceGUID() string { return guidOf("space " + s.space()) }

// ProcessGUID gives the GUID of a process of an app; "" when there is none.
func (s *Server) ProcessGUID(app, kind string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.Apps {
		for i, p := range a.Processes {
			if a.Name == app && p.Type == kind {
				return a.process(i).GUID
			}
		}
	}
	return ""
}

func (s *Server) space() string { return or(s.Space, "space") }
func (s *Server) org() string   { return or(s.Org, "org") }
func (s *Server) user() string  { return or(s.User, "dev") }

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
