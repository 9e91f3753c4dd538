package sshx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// jumps resolves the jump hosts of h. With several, ssh dials the last one with "-J" the others: so only the first one's
// own ProxyJump counts.
func (r *resolver) jumps(h *host, override string) ([]Endpoint, error) {
	value, line, err := h.proxyJump(override)
	if err != nil || value == "" {
		return nil, err
	}
	hops, err := parseJumps(value)
	if err != nil {
		if line.file != "" {
			err = line.error("ProxyJump: " + err.Error())
		}
		return nil, err
	}
	if h.isSelf(hops[len(hops)-1]) {
		return nil, nil // "Host *" with a ProxyJump matches the jump host too
	}
	me := h.e.User + "@" + h.e.addr()
	if slices.Contains(r.trail, me) {
		return nil, &Error{Kind: KindConfig, Problem: "ProxyJump goes in a circle: " + strings.Join(append(r.trail, me), " -> "),
			Tip: "give the first jump host a Host block of its own with ProxyJump none"}
	}
	r.trail = append(r.trail, me)
	defer func() { r.trail = r.trail[:len(r.trail)-1] }()
	return r.chain(hops)
}

func (r *resolver) chain(hops []Target) ([]Endpoint, error) {
	var chain []Endpoint
	for i, hop := range hops {
		jump := ""
		if i > 0 {
			jump = "none"
		}
		e, err := r.endpoint(hop, hop.Host, false, jump)
		if err != nil {
			return nil, atHop(err, hop.Host)
		}
		chain = append(chain, e.Jumps...)
		e.Jumps = nil
		chain = append(chain, e)
	}
	if len(chain) > maxHops {
		return nil, &Error{Kind: KindConfig, Problem: fmt.Sprintf("more than %d jump hosts in a row", maxHops), Tip: "shorten ProxyJump"}
	}
	return chain, nil
}

// isSelf reports whether the jump host is the host itself.
func (h *host) isSelf(hop Target) bool {
	return strings.EqualFold(hop.Host, h.Host) && (hop.Port == 0 || hop.Port == h.e.Port) && (hop.User == "" || hop.User == h.e.User)
}

// proxyJump gives the value to use; "" is none. Of ProxyJump and ProxyCommand in ssh_config the first one counts.
func (h *host) proxyJump(override string) (string, setting, error) {
	if override != "" {
		return noneIsEmpty(override), setting{}, nil
	}
	jump, command := h.found["proxyjump"], h.found["proxycommand"]
	if len(command) > 0 && (len(jump) == 0 || command[0].order < jump[0].order) && !isNone(command[0]) {
		err := command[0].error("ProxyCommand is not supported").(*Error)
		err.Tip = "use ProxyJump in its place, or give the jump host with -J, --jump (none: no jump host)"
		return "", setting{}, err
	}
	line, words, err := h.first("proxyjump")
	if err != nil || words == nil {
		return "", setting{}, err
	}
	value, err := expandTokens(words[0], map[byte]string{'h': h.e.Host, 'n': h.Host, 'p': strconv.Itoa(h.e.Port), 'r': h.e.User})
	if err != nil {
		return "", setting{}, line.error("ProxyJump: " + err.Error())
	}
	return noneIsEmpty(value), line, nil
}

func noneIsEmpty(s string) string {
	if strings.EqualFold(s, "none") {
		return ""
	}
	return s
}

func isNone(s setting) bool {
	words, err := splitWords(s.value)
	return err == nil && len(words) > 0 && noneIsEmpty(words[0]) == ""
}

func parseJumps(value string) ([]Target, error) {
	var hops []Target
	for hop := range strings.SplitSeq(value, ",") {
		t, err := ParseTarget(strings.TrimSpace(hop))
		if err != nil {
			return nil, err
		}
		hops = append(hops, t)
	}
	return hops, nil
}
