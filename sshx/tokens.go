package sshx

import (
	"crypto/sha1" // what ssh makes %C of
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// expand expands ~, ${NAME} and the tokens of ssh_config(5) in a file name.
func (h *host) expand(s string) (string, error) {
	s = expandHome(s)
	if !strings.ContainsAny(s, "%$") {
		return s, nil // most have none, and there may be a thousand hosts
	}
	tokens, err := h.tokens()
	if err != nil {
		return "", err
	}
	return expandAll(s, tokens, true)
}

// tokens are those of CertificateFile, IdentityAgent, IdentityFile, RevokedHostKeys and UserKnownHostsFile. (Those that
// ssh_config(5) has beside them are for commands and forwarding.)
func (h *host) tokens() (map[byte]string, error) {
	jump, err := h.jumpName()
	if err != nil {
		return nil, err
	}
	local, _ := os.Hostname()
	short, _, _ := strings.Cut(local, ".")
	alias := h.e.HostKeyAlias
	if alias == "" {
		alias = h.Host
	}
	port := strconv.Itoa(h.e.Port)
	hash := sha1.New()
	_, _ = io.WriteString(hash, local+h.e.Host+port+h.e.User+jump) // never fails
	return map[byte]string{
		'C': hex.EncodeToString(hash.Sum(nil)), 'd': homeDir(), 'h': h.e.Host, 'i': strconv.Itoa(os.Getuid()), 'j': jump, 'k': alias,
		'L': short, 'l': local, 'n': h.Host, 'p': port, 'r': h.e.User, 'u': localUser(),
	}, nil
}

// jumpName is the last jump host as ProxyJump names it.
func (h *host) jumpName() (string, error) {
	value, _, err := h.proxyJump(h.jump)
	if err != nil || value == "" {
		return "", err
	}
	hops, err := parseJumps(value)
	if err != nil {
		return "", err
	}
	return hops[len(hops)-1].Host, nil
}

// expandHome expands a leading ~ of the own user.
func expandHome(s string) string {
	if s == "~" || strings.HasPrefix(s, "~/") {
		return homeDir() + s[1:]
	}
	return s
}

// expandTokens replaces %x by tokens['x'] and %% by %.
func expandTokens(s string, tokens map[byte]string) (string, error) {
	return expandAll(s, tokens, false)
}

// expandAll replaces ${NAME}, too, if env is set. What was put in is not looked at again.
func expandAll(s string, tokens map[byte]string, env bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case env && strings.HasPrefix(s[i:], "${"):
			n := strings.IndexByte(s[i:], '}')
			if n < 0 {
				return "", fmt.Errorf("%q lacks a closing brace", s)
			}
			value, ok := os.LookupEnv(s[i+2 : i+n])
			if !ok {
				return "", fmt.Errorf("%s is not set in the environment", s[i:i+n+1])
			}
			b.WriteString(value)
			i += n
		case s[i] != '%':
			b.WriteByte(s[i])
		case i+1 == len(s):
			return "", fmt.Errorf("%q ends in a %%", s)
		case s[i+1] == '%':
			b.WriteByte('%')
			i++
		default:
			value, ok := tokens[s[i+1]]
			if !ok {
				return "", fmt.Errorf("%%%c is not known here", s[i+1])
			}
			b.WriteString(value)
			i++
		}
	}
	return b.String(), nil
}
