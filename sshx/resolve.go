package sshx

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxHops bounds a chain of jump hosts.
const maxHops = 16

// ReadConfig reads the files of ssh_config, unless they have been read. Its error is about the files as a whole, and about
// all targets: one about a single target comes from Resolve.
func (d *Dialer) ReadConfig() error {
	_, err := d.init().config.get(d)
	return err
}

// Resolve says what a target means: ssh_config, the fields of d and the defaults applied, in the order of ssh(1).
func (d *Dialer) Resolve(target string) (Endpoint, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return Endpoint{}, err
	}
	c, err := d.init().config.get(d)
	if err != nil {
		return Endpoint{}, err
	}
	r := &resolver{d: d, config: c}
	return r.endpoint(t, target, true, d.Jump)
}

// resolver resolves one target and its jump hosts.
type resolver struct {
	d      *Dialer
	config *config
	trail  []string // the hosts whose jump hosts are being resolved
}

// host is what ssh_config says of one host.
type host struct {
	Target
	d     *Dialer
	jump  string // a ProxyJump value that goes before that of ssh_config, or ""
	found map[string][]setting
	e     Endpoint
}

// endpoint resolves t. jump is a ProxyJump value that goes before that of ssh_config, or "".
func (r *resolver) endpoint(t Target, name string, top bool, jump string) (Endpoint, error) {
	login := t.User
	if login == "" && top {
		login = r.d.Login
	}
	h := &host{Target: t, d: r.d, jump: jump, found: r.config.lookup(t.Host, login)}
	h.e = Endpoint{Target: name, User: login}
	r.d.notes(h)
	for _, step := range []func() error{h.refuse, h.address, h.reach, h.times, h.knownHosts, h.hostKeys, h.identities, h.methods, h.ciphers} {
		if err := step(); err != nil {
			return Endpoint{}, err
		}
	}
	r.overrides(&h.e)
	jumps, err := r.jumps(h, jump)
	h.e.Jumps = jumps
	return h.e, err
}

// overrides applies the fields of the Dialer.
func (r *resolver) overrides(e *Endpoint) {
	if len(r.d.Identities) > 0 {
		e.explicit = r.d.Identities
		e.Identities = append(append([]string(nil), r.d.Identities...), e.Identities...)
		e.DefaultIdentities = nil
	}
	if r.d.ConnectTimeout > 0 {
		e.ConnectTimeout = r.d.ConnectTimeout
	}
}

// first gives the words of the first line with that keyword; nil when there is none.
func (h *host) first(key string) (setting, []string, error) {
	lines := h.found[key]
	if len(lines) == 0 {
		return setting{}, nil, nil
	}
	words, err := splitWords(lines[0].value)
	if err != nil || len(words) == 0 {
		return lines[0], nil, lines[0].error(key + " has no value, or a quote that is not closed")
	}
	return lines[0], words, nil
}

func (h *host) address() error {
	h.e.Host, h.e.Port = h.Host, h.Port
	line, words, err := h.first("hostname")
	if err != nil {
		return err
	}
	if words != nil {
		name, err := expandTokens(words[0], map[byte]string{'h': h.Host})
		if err != nil {
			return line.error("HostName: " + err.Error())
		}
		h.e.Host = strings.Trim(name, "[]")
	}
	if line, words, err = h.first("port"); err != nil {
		return err
	}
	if words != nil && h.e.Port == 0 {
		if h.e.Port, err = parsePort(words[0]); err != nil {
			return line.error(err.Error())
		}
	}
	if h.e.Port == 0 {
		h.e.Port = 22
	}
	if _, words, err = h.first("user"); err != nil {
		return err
	}
	if words != nil && h.e.User == "" {
		h.e.User = words[0]
	}
	if h.e.User == "" {
		h.e.User = localUser()
	}
	return nil
}

func (h *host) times() error {
	timeout, _, err := h.duration("connecttimeout")
	if err != nil {
		return err
	}
	h.e.ConnectTimeout = timeout
	alive, set, err := h.duration("serveraliveinterval")
	if err != nil {
		return err
	}
	h.e.KeepAlive = alive
	if set && alive == 0 {
		h.e.KeepAlive = -1 // 0 in ssh_config is never
	}
	line, words, err := h.first("serveralivecountmax")
	if err != nil || words == nil {
		return err
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 0 {
		return line.error(fmt.Sprintf("ServerAliveCountMax %q is not a number", words[0]))
	}
	h.e.KeepAliveMax = max(n, 1)
	return nil
}

func (h *host) duration(key string) (d time.Duration, set bool, err error) {
	line, words, err := h.first(key)
	if err != nil || words == nil || strings.EqualFold(words[0], "none") {
		return 0, false, err
	}
	d, ok := parseTime(words[0])
	if !ok {
		return 0, false, line.error(fmt.Sprintf("%q is not a time", words[0]))
	}
	return d, true, nil
}

// parseTime reads sshd_config(5)'s time format: 90, 90s, 1m30s.
func parseTime(s string) (time.Duration, bool) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	const most = 365 * 24 * time.Hour
	var sum time.Duration
	for s != "" {
		i := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		n, err := strconv.ParseUint(s[:i], 10, 31)
		if err != nil {
			return 0, false
		}
		unit := time.Second
		if i < len(s) {
			var ok bool
			if unit, ok = units[s[i]|0x20]; !ok {
				return 0, false
			}
			i++
		}
		if time.Duration(n) > most/unit {
			return 0, false
		}
		sum, s = min(sum+time.Duration(n)*unit, most), s[i:]
	}
	return sum, true
}

func (h *host) knownHosts() error {
	_, words, err := h.first("hostkeyalias")
	if err != nil {
		return err
	}
	if words != nil {
		h.e.HostKeyAlias = words[0] // first: file names may have it in them
	}
	files, err := h.files("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2", h.expand)
	if err != nil {
		return err
	}
	homeOnly := func(s string) (string, error) { return expandHome(s), nil } // as in ssh: all see the same file
	global, err := h.files("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2", homeOnly)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		files = []string{os.DevNull} // new keys go to the first file, never to the system's
	}
	h.e.KnownHosts = append(files, global...)
	line, words, err := h.first("stricthostkeychecking")
	if err != nil {
		return err
	}
	if words != nil {
		if h.e.StrictHostKey, err = parseStrict(words[0]); err != nil {
			return line.error(err.Error())
		}
	}
	if _, words, err = h.first("hashknownhosts"); err != nil {
		return err
	}
	h.e.HashKnownHosts = words != nil && isYes(words[0])
	return nil
}

func isYes(s string) bool { return strings.EqualFold(s, "yes") || strings.EqualFold(s, "true") }

func isNo(s string) bool { return strings.EqualFold(s, "no") || strings.EqualFold(s, "false") }

func parseStrict(s string) (StrictHostKey, error) {
	switch strings.ToLower(s) {
	case "yes", "true", "ask":
		return StrictYes, nil
	case "accept-new":
		return StrictAcceptNew, nil
	case "no", "off", "false":
		return StrictNo, nil
	}
	return StrictYes, fmt.Errorf("StrictHostKeyChecking %q is none of yes, ask, accept-new, no", s)
}

// files gives the file names of the first line with that keyword, else those of preset.
func (h *host) files(key, preset string, expand func(string) (string, error)) ([]string, error) {
	line, words, err := h.first(key)
	if err != nil {
		return nil, err
	}
	if words == nil {
		words = strings.Fields(preset)
	}
	if len(words) == 1 && strings.EqualFold(words[0], "none") {
		return nil, nil
	}
	names := make([]string, len(words))
	for i, w := range words {
		if names[i], err = expand(w); err != nil {
			return nil, line.error(err.Error())
		}
	}
	return names, nil
}

// identities are those of ssh_config, all lines of them, else the defaults of ssh(1).
func (h *host) identities() (err error) {
	if h.e.Identities, err = h.allFiles("identityfile"); err != nil {
		return err
	}
	if h.e.Certificates, err = h.allFiles("certificatefile"); err != nil {
		return err
	}
	if len(h.found["identityfile"]) == 0 {
		for _, name := range []string{"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"} {
			h.e.DefaultIdentities = append(h.e.DefaultIdentities, filepath.Join(userSSHDir(), name))
		}
	}
	if h.e.IdentitiesOnly, err = h.flag("identitiesonly", false); err != nil {
		return err
	}
	return h.agent()
}

// allFiles gives the file names of all lines with that keyword, each once.
func (h *host) allFiles(key string) (names []string, err error) {
	for _, line := range h.found[key] {
		words, err := splitWords(line.value)
		if err != nil || len(words) != 1 {
			return nil, line.error(line.written + " wants one file name")
		}
		if strings.EqualFold(words[0], "none") {
			continue
		}
		name, err := h.expand(words[0])
		if err != nil {
			return nil, line.error(err.Error())
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

func (h *host) agent() error {
	h.e.Agent = os.Getenv("SSH_AUTH_SOCK")
	line, words, err := h.first("identityagent")
	if err != nil || words == nil {
		return err
	}
	switch name := words[0]; {
	case strings.EqualFold(name, "none"):
		h.e.Agent = ""
	case name == "SSH_AUTH_SOCK":
	case strings.HasPrefix(name, "$") && !strings.HasPrefix(name, "${"):
		h.e.Agent = os.Getenv(name[1:])
	default:
		if h.e.Agent, err = h.expand(name); err != nil {
			return line.error(err.Error())
		}
	}
	return nil
}
