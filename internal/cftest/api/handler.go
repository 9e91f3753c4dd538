package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reply is what a handler answers.
type reply struct {
	status int
	header map[string]string
	body   any // string as it is, else JSON
}

// serve records the request and answers it: with a fault, if there is one for it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	record := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Authorized: r.Header.Get("Authorization") != ""}
	form := readForm(r)
	if !s.wait(r) {
		return
	}
	s.mu.Lock()
	answer, cut := s.fault(r)
	if answer == nil && !cut {
		answer = s.route(r, form)
	}
	if answer != nil {
		record.Status = answer.status
	}
	s.requests = append(s.requests, record)
	s.mu.Unlock()
	if cut {
		panic(http.ErrAbortHandler)
	}
	answer.write(w)
}

func readForm(r *http.Request) url.Values {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // what is missing is missed later
	form, _ := url.ParseQuery(string(body))
	return form
}

func (a *reply) write(w http.ResponseWriter) {
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	text, isText := a.body.(string)
	if !isText {
		w.Header().Set("Content-Type", "application/json")
		raw, err := json.Marshal(a.body)
		if err != nil {
			panic(err)
		}
		text = string(raw)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, text) // the client may have gone
}

// wait is for slow answers; it is false when nobody wants one any more.
func (s *Server) wait(r *http.Request) bool {
	var d time.Duration
	s.mu.Lock()
	for prefix, delay := range s.Delay {
		if strings.HasPrefix(r.URL.Path, prefix) {
			d = max(d, delay)
		}
	}
	s.mu.Unlock()
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.closing:
	}
	return false
}

func (s *Server) fault(r *http.Request) (answer *reply, cut bool) {
	for i := range s.Faults {
		f := &s.Faults[i]
		if f.Times == 0 || !strings.HasPrefix(r.URL.Path, f.Path) {
			continue
		}
		f.Times = max(f.Times-1, -1)
		if f.Status == 0 {
			return nil, true
		}
		a := &reply{status: f.Status, body: f.Body}
		if f.RetryAfter != "" {
			a.header = map[string]string{"Retry-After": f.RetryAfter}
		}
		return a, false
	}
	return nil, false
}

// route answers as the platform does. Links of the UAA have the path /uaa, those of the login server /login.
func (s *Server) route(r *http.Request, form url.Values) *reply {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/":
		return s.root()
	case r.Method == http.MethodPost && (r.URL.Path == "/login/oauth/token" || r.URL.Path == "/uaa/oauth/token"):
		return s.tokenRequest(r, form)
	case r.URL.Path == "/uaa/oauth/authorize":
		return s.authorize(r)
	case r.Method != http.MethodGet || parts[0] != "v3":
		return ccError(404, 10000, "CF-NotFound", "Unknown request")
	}
	if _, ok := s.whose(r); !ok {
		return ccError(401, 1000, "CF-InvalidAuthToken", s.echo("Invalid Auth Token", r))
	}
	if s.NoAccess {
		return ccError(403, 10003, "CF-NotAuthorized", s.echo("You are not authorized to perform the requested action", r))
	}
	switch {
	case len(parts) == 2 && parts[1] == "apps":
		return s.apps(r)
	case len(parts) == 4 && parts[1] == "apps" && parts[3] == "processes":
		return s.processes(r, parts[2])
	case len(parts) == 4 && parts[1] == "apps" && parts[3] == "ssh_enabled":
		return s.sshEnabled(parts[2])
	case len(parts) == 4 && parts[1] == "processes" && parts[3] == "stats":
		return s.stats(parts[2])
	}
	return ccError(404, 10000, "CF-NotFound", "Unknown request")
}

func ccError(status, code int, title, detail string) *reply {
	return &reply{status: status, body: map[string]any{"errors": []any{map[string]any{"code": code, "title": title, "detail": detail}}}}
}

// echo adds what was sent, as a careless server may.
func (s *Server) echo(text string, r *http.Request) string {
	if s.Echo {
		text += " (" + r.Header.Get("Authorization") + ")"
	}
	return text
}

type object = map[string]any

func (s *Server) root() *reply {
	links := object{"self": object{"href": s.URL()}, "cloud_controller_v3": object{"href": s.URL() + "/v3"}, "login": nil, "uaa": nil, "app_ssh": nil}
	if !s.HideUAA {
		links["uaa"] = object{"href": s.URL() + "/uaa"}
	}
	if !s.HideLogin {
		links["login"] = object{"href": s.URL() + "/login"}
	}
	if s.SSH != "" {
		meta := object{"host_key_fingerprint": nil}
		if s.Fingerprint != "" {
			meta["host_key_fingerprint"] = s.Fingerprint
		}
		if s.SSHClient != "" {
			meta["oauth_client"] = s.SSHClient
		}
		links["app_ssh"] = object{"href": s.SSH, "meta": meta}
	}
	return &reply{status: 200, body: object{"links": links}}
}

// page gives the part of a list that the request asks for, with the link to the next.
func (s *Server) page(r *http.Request, all []any) *reply {
	query := r.URL.Query()
	size := s.PageSize
	if size == 0 {
		size = 50
	}
	n := 1
	if p, err := strconv.Atoi(query.Get("page")); err == nil && p > 0 {
		n = p
	}
	from, to := min((n-1)*size, len(all)), min(n*size, len(all))
	pages := (len(all) + size - 1) / size
	pagination := object{"total_results": len(all), "total_pages": pages, "next": nil, "previous": nil}
	if n < pages {
		query.Set("page", strconv.Itoa(n+1))
		query.Set("per_page", strconv.Itoa(size))
		pagination["next"] = object{"href": s.URL() + r.URL.Path + "?" + query.Encode()}
	}
	return &reply{status: 200, body: object{"pagination": pagination, "resources": append([]any{}, all[from:to]...)}}
}

func (s *Server) apps(r *http.Request) *reply {
	query := r.URL.Query()
	var names []string
	for name := range strings.SplitSeq(query.Get("names"), ",") {
		names = append(names, strings.ReplaceAll(name, "%2C", ","))
	}
	if guids := query.Get("space_guids"); guids != "" && guids != s.SpaceGUID() {
		return s.page(r, nil)
	}
	var found []any
	for _, a := range s.Apps {
		if !query.Has("names") || slices.Contains(names, a.Name) {
			found = append(found, object{"guid": a.guid(), "name": a.Name, "state": a.state(), "lifecycle": object{"type": "buildpack"}})
		}
	}
	return s.page(r, found)
}

func (s *Server) app(guid string) (App, bool) {
	i := slices.IndexFunc(s.Apps, func(a App) bool { return a.guid() == guid })
	if i < 0 {
		return App{}, false
	}
	return s.Apps[i], true
}

func (s *Server) processes(r *http.Request, guid string) *reply {
	a, ok := s.app(guid)
	if !ok {
		return ccError(404, 10010, "CF-ResourceNotFound", "App not found")
	}
	var found []any
	for i := range a.Processes {
		p := a.process(i)
		found = append(found, object{"guid": p.GUID, "type": p.Type, "instances": len(p.Instances), "command": "[PRIVATE DATA HIDDEN IN LISTS]"})
	}
	return s.page(r, found)
}

func (s *Server) sshEnabled(guid string) *reply {
	a, ok := s.app(guid)
	if !ok {
		return ccError(404, 10010, "CF-ResourceNotFound", "App not found")
	}
	return &reply{status: 200, body: object{"enabled": a.SSHDisabled == "", "reason": a.SSHDisabled}}
}

func (s *Server) stats(guid string) *reply {
	for _, a := range s.Apps {
		for i := range a.Processes {
			if p := a.process(i); p.GUID == guid {
				return &reply{status: 200, body: object{"resources": p.rows()}}
			}
		}
	}
	return ccError(404, 10010, "CF-ResourceNotFound", "Process not found")
}

// rows are as the API gives them: those that are down have no host and no GUID.
func (p Process) rows() []any {
	rows := []any{}
	for i, in := range p.Instances {
		row := object{"type": p.Type, "index": i, "state": in.state(), "uptime": in.Uptime}
		if in.Details != "" {
			row["details"] = in.Details
		}
		if in.state() != Down {
			row["host"] = or(in.Host, fmt.Sprintf("10.0.1.%d", i+10))
			row["instance_internal_ip"] = or(in.InternalIP, fmt.Sprintf("10.255.0.%d", i+10))
			row["instance_guid"] = or(in.GUID, guidOf(fmt.Sprintf("instance %s %d", p.GUID, i)))
			row["instance_ports"] = nil
			if len(in.Ports) > 0 {
				row["instance_ports"] = in.ports()
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (in Instance) ports() []any {
	var ports []any
	for _, p := range in.Ports {
		ports = append(ports, object{"external": orNull(p.External), "internal": orNull(p.Internal),
			"external_tls_proxy_port": orNull(p.ExternalTLSProxy), "internal_tls_proxy_port": orNull(p.InternalTLSProxy)})
	}
	return ports
}

func orNull(n int) any {
	if n == 0 {
		return nil
	}
	return n
}
