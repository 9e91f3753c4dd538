package sshx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// refuse is about RefuseConnection.
func (h *host) refuse() error {
	line, words, err := h.first("refuseconnection")
	if err != nil || words == nil {
		return err
	}
	e := line.error("ssh_config refuses the connection: " + oneLine(strings.Join(words, " "))).(*Error)
	e.Tip = "see RefuseConnection there, or use another file with -F, --ssh-config"
	return e
}

// reach is how the host is connected to.
func (h *host) reach() (err error) {
	if h.e.AddressFamily, err = h.oneOf("addressfamily", "any", "inet", "inet6"); err != nil {
		return err
	}
	if h.e.AddressFamily == "any" {
		h.e.AddressFamily = ""
	}
	if h.e.BindAddress, err = h.text("bindaddress"); err != nil {
		return err
	}
	if h.e.BindInterface, err = h.text("bindinterface"); err != nil {
		return err
	}
	if h.e.ConnectionAttempts, err = h.number("connectionattempts", 1); err != nil {
		return err
	}
	alive, err := h.flag("tcpkeepalive", true)
	h.e.NoTCPKeepAlive = !alive
	return err
}

// hostKeys is what is asked of a host key, beside known_hosts.
func (h *host) hostKeys() (err error) {
	if h.e.RequiredRSASize, err = h.number("requiredrsasize", 0); err != nil {
		return err
	}
	line, words, err := h.first("revokedhostkeys")
	if err != nil {
		return err
	}
	if words != nil && noneIsEmpty(words[0]) != "" {
		if h.e.RevokedHostKeys, err = h.expand(words[0]); err != nil {
			return line.error(err.Error())
		}
	}
	list, spec, err := h.algorithms("hostkeyalgorithms")
	if err != nil {
		return err
	}
	if strings.HasPrefix(spec, "+") || strings.HasPrefix(spec, "-") {
		h.e.hostKeyBase = list // only other forms set the order, as in ssh
	} else {
		h.e.HostKeyAlgorithms = list
	}
	h.e.Algorithms.CASignatures, _, err = h.algorithms("casignaturealgorithms")
	h.hinted("knownhostscommand")
	return err
}

// methods are the ways to log in.
func (h *host) methods() (err error) {
	on := map[string]bool{}
	for method, key := range map[string]string{"publickey": "pubkeyauthentication", "keyboard-interactive": "kbdinteractiveauthentication",
		"password": "passwordauthentication"} {
		if on[method], err = h.flag(key, true); err != nil {
			return err
		}
	}
	preferred := DefaultMethods
	if _, words, err := h.first("preferredauthentications"); err != nil {
		return err
	} else if words != nil {
		preferred = strings.Split(words[0], ",")
	}
	h.e.Methods = []string{}
	for _, method := range preferred {
		if on[method] && !slices.Contains(h.e.Methods, method) {
			h.e.Methods = append(h.e.Methods, method)
		}
	}
	if h.e.PasswordPrompts, err = h.number("numberofpasswordprompts", passwordTries); err != nil {
		return err
	}
	if h.e.PasswordPrompts == 0 {
		h.e.PasswordPrompts = -1
	}
	if h.e.NoPrompt, err = h.flag("batchmode", false); err != nil {
		return err
	}
	h.e.Algorithms.PublicKeys, _, err = h.algorithms("pubkeyacceptedalgorithms")
	h.hinted("pkcs11provider", "securitykeyprovider", "gssapiauthentication", "hostbasedauthentication", "controlpath")
	return err
}

// ciphers is what protects the connection.
func (h *host) ciphers() (err error) {
	for key, list := range map[string]*[]string{"kexalgorithms": &h.e.Algorithms.KeyExchanges, "ciphers": &h.e.Algorithms.Ciphers, "macs": &h.e.Algorithms.MACs} {
		if *list, _, err = h.algorithms(key); err != nil {
			return err
		}
	}
	line, words, err := h.first("rekeylimit")
	if err != nil || words == nil {
		return err
	}
	var ok bool
	if h.e.RekeyBytes, ok = parseSize(words[0]); !ok {
		return line.error(fmt.Sprintf("RekeyLimit %q is no size", words[0]))
	}
	if len(words) > 1 && noneIsEmpty(words[1]) != "" {
		if _, ok := parseTime(words[1]); !ok {
			return line.error(fmt.Sprintf("RekeyLimit %q is not a time", words[1]))
		}
		h.d.warnOnce("rekeylimit", fmt.Sprintf("%s:%d: the time in %s is not supported: new keys are exchanged after so many bytes only", line.file, line.line, line.written))
	}
	return nil
}

// parseSize reads the size in RekeyLimit: a number with K, M or G behind it. default is 0.
func parseSize(s string) (uint64, bool) {
	if strings.EqualFold(s, "default") {
		return 0, true
	}
	shift := 0
	if i := strings.IndexByte("KMG", s[len(s)-1]&^0x20); i >= 0 {
		s, shift = s[:len(s)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return n << shift, err == nil && n<<shift >= 16 // as in ssh
}

// hinted remembers lines that are not supported, for the hint when something fails that may depend on them.
func (h *host) hinted(keys ...string) {
	for _, key := range keys {
		line, words, err := h.first(key)
		if err != nil || words == nil || noneIsEmpty(words[0]) == "" || isNo(words[0]) || key == "securitykeyprovider" && strings.EqualFold(words[0], "internal") {
			continue
		}
		h.e.unsupported = append(h.e.unsupported, line)
	}
}

// has gives the line with an unsupported keyword.
func (e *Endpoint) has(key string) (setting, bool) {
	for _, line := range e.unsupported {
		if canonicalKeyword(line.written) == key {
			return line, true
		}
	}
	return setting{}, false
}

// text is the first word of the first line with that keyword.
func (h *host) text(key string) (string, error) {
	_, words, err := h.first(key)
	if err != nil || words == nil {
		return "", err
	}
	return words[0], nil
}

func (h *host) flag(key string, preset bool) (bool, error) {
	line, words, err := h.first(key)
	switch {
	case err != nil || words == nil:
		return preset, err
	case isYes(words[0]):
		return true, nil
	case isNo(words[0]):
		return false, nil
	case key == "pubkeyauthentication" && (words[0] == "unbound" || words[0] == "host-bound"):
		return true, nil // about agents that are forwarded
	}
	return preset, line.error(fmt.Sprintf("%s %q is neither yes nor no", line.written, words[0]))
}

func (h *host) oneOf(key string, values ...string) (string, error) {
	line, words, err := h.first(key)
	if err != nil || words == nil {
		return values[0], err
	}
	if word := strings.ToLower(words[0]); slices.Contains(values, word) {
		return word, nil
	}
	return "", line.error(fmt.Sprintf("%s %q is none of %s", line.written, words[0], strings.Join(values, ", ")))
}

func (h *host) number(key string, preset int) (int, error) {
	line, words, err := h.first(key)
	if err != nil || words == nil {
		return preset, err
	}
	n, err := strconv.ParseUint(words[0], 10, 31)
	if err != nil {
		return 0, line.error(fmt.Sprintf("%s %q is not a number", line.written, words[0]))
	}
	return int(n), nil
}

// algorithms gives the list of a keyword and the value that it was made of; nil when it is not set.
func (h *host) algorithms(key string) (list []string, spec string, err error) {
	line, words, err := h.first(key)
	if err != nil || words == nil {
		return nil, "", err
	}
	spec = words[0]
	list, missing := algorithmChoices()[key].assemble(spec)
	if len(list) == 0 {
		return nil, "", line.error(fmt.Sprintf("%s %q leaves no algorithm that is supported here", line.written, spec))
	}
	if len(missing) > 0 {
		h.d.warnOnce(key, fmt.Sprintf("%s:%d: %s: not supported here, and left out: %s", line.file, line.line, line.written, oneLine(strings.Join(missing, ","))))
	}
	return list, spec, nil
}
