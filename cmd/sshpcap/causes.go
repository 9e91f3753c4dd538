package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// trouble is what is wrong with one instance.
type trouble struct{ name, problem, hint string }

// cause is what is wrong with some instances in the same way.
type cause struct {
	names   []string // in the order in which they were told of
	problem string   // what their problems have in common: what differs is a "…"
	hint    string   // the same of the first line of their hints
	prints  []string // fingerprints in the problems, by name, where they differ
	lines   []string // all other lines of the hints
}

// causes finds troubles that have one cause: their texts are the same but for the instances' own names, addresses and
// fingerprints. They stay in their order.
func causes(troubles []trouble) (all []cause) {
	groups := make(map[[2]string][]trouble)
	var order [][2]string
	for _, t := range troubles {
		head, _, _ := strings.Cut(t.hint, "\n")
		key := [2]string{t.masked(t.problem).key(), t.masked(head).key()}
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], t)
	}
	for _, key := range order {
		all = append(all, oneCause(groups[key]))
	}
	return all
}

func oneCause(group []trouble) cause {
	if len(group) == 1 {
		return cause{names: []string{group[0].name}, problem: group[0].problem, hint: group[0].hint}
	}
	var c cause
	var problems, heads []masked
	for _, t := range group {
		head, rest, _ := strings.Cut(t.hint, "\n")
		problems, heads = append(problems, t.masked(t.problem)), append(heads, t.masked(head))
		if !slices.Contains(c.names, t.name) {
			c.names = append(c.names, t.name)
		}
		if rest != "" && !slices.Contains(c.lines, rest) {
			c.lines = append(c.lines, rest)
		}
		if print := fingerprint.FindString(t.problem); print != "" {
			c.prints = append(c.prints, t.name+"  "+print)
		}
	}
	c.problem, c.hint = common(problems), common(heads)
	if fingerprint.MatchString(c.problem) {
		c.prints = nil // it is the same for all
	}
	return c
}

// masked is a text in which what may differ from instance to instance is taken out: texts[0] own[0] texts[1] own[1] …
type masked struct{ texts, own []string }

func (m masked) key() string { return strings.Join(m.texts, "\x00") }

var (
	fingerprint = regexp.MustCompile(`SHA256:[A-Za-z0-9+/]+=*`)
	// Addresses with or without a port, ports, and places in files. Too much does no harm: what is the same is shown.
	differing = regexp.MustCompile(`\bport \d+|SHA256:[A-Za-z0-9+/]+=*|\[[0-9A-Fa-f:.%]+\](?::\d+)?|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\b[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*|:\d+\b`)
)

// masked takes out of a text of this instance what is its own.
func (t trouble) masked(text string) masked {
	var m masked
	pattern := differing
	if names := t.ownNames(); len(names) > 0 {
		pattern = regexp.MustCompile(`\b(?:` + strings.Join(names, "|") + `)\b|` + differing.String())
	}
	end := 0
	for _, at := range pattern.FindAllStringIndex(text, -1) {
		m.texts, m.own = append(m.texts, text[end:at[0]]), append(m.own, text[at[0]:at[1]])
		end = at[1]
	}
	m.texts = append(m.texts, text[end:])
	return m
}

// ownNames are patterns of what an instance may be called in a text: all of its name, and the host and the port in it.
func (t trouble) ownNames() (patterns []string) {
	host := t.name[strings.LastIndexByte(t.name, '@')+1:]
	names := []string{t.name, host}
	if name, port, err := net.SplitHostPort(host); err == nil {
		names = append(names, name, port)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // the longest first
	for _, name := range slices.Compact(names) {
		if name != "" && utf8.ValidString(name) {
			patterns = append(patterns, regexp.QuoteMeta(name))
		}
	}
	return patterns
}

// common is what texts of one key have in common.
func common(all []masked) string {
	var b strings.Builder
	for i, text := range all[0].texts {
		b.WriteString(text)
		if i == len(all[0].own) {
			break
		}
		switch own := all[0].own[i]; {
		case !slices.ContainsFunc(all, func(m masked) bool { return m.own[i] != own }):
			b.WriteString(own)
		case strings.HasPrefix(own, "port "):
			b.WriteString("port …")
		default:
			b.WriteString("…")
		}
	}
	return b.String()
}

// Bounds of what is said of many instances at once.
const (
	mostNames      = 8
	mostNamesWidth = 72
	mostLines      = 20
)

// listNames is a list of names that a line has room for.
func listNames(names []string) string {
	width := 0
	for i, name := range names {
		if width += len(name); i == mostNames || i > 1 && width > mostNamesWidth {
			return strings.Join(names[:i], ", ") + ", …"
		}
	}
	return strings.Join(names, ", ")
}

// who names the instances of a cause: "web1", or "on 50 instances: web1, web2, …".
func (c cause) who() string {
	if len(c.names) == 1 {
		return c.names[0]
	}
	return fmt.Sprintf("on %s: %s", count(len(c.names), "instance"), listNames(c.names))
}

// hintText is the hint with all its lines, behind the fingerprints that it is about.
func (c cause) hintText() string {
	return strings.Join(slices.Concat([]string{c.hint}, bounded(c.lines)), "\n")
}

// printFingerprints lists those that differ, to be compared.
func (c cause) printFingerprints(w io.Writer) {
	for _, line := range bounded(c.prints) {
		fmt.Fprintf(w, "  %s\n", line)
	}
}

// bounded leaves out what is beyond the bound, and says so.
func bounded(lines []string) []string {
	if len(lines) <= mostLines {
		return lines
	}
	return append(slices.Clone(lines[:mostLines]), fmt.Sprintf("and %d more: sshpcap check --json has them all", len(lines)-mostLines))
}
