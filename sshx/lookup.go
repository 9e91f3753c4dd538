package sshx

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"github.com/kevinburke/ssh_config"
)

// lookup is one walk through ssh_config for one host.
type lookup struct {
	host     string // what Host lines are about: as the user wrote it; in the final pass, what HostName made of it
	original string // as the user wrote it
	login    string // the user given outside of ssh_config; "" if none
	found    map[string][]setting
	count    int

	wantsFinal bool // a Match line asks for a final pass
	final      bool // this is it
}

// lookup gives all lines that apply to host, by keyword in lower case, in their order: the first one counts, save for
// keywords that may be given several times.
func (c *config) lookup(host, login string) map[string][]setting {
	l := &lookup{host: host, original: host, login: login, found: map[string][]setting{}}
	l.files(c)
	if l.wantsFinal {
		l.host, l.final = l.hostname(), true
		l.files(c)
	}
	return l.found
}

func (l *lookup) files(c *config) {
	for _, f := range c.files {
		l.file(f)
	}
}

func (l *lookup) file(f *configFile) {
	for _, block := range f.parsed.Hosts {
		if !l.applies(f, block) {
			continue
		}
		for _, node := range block.Nodes {
			if kv, ok := node.(*ssh_config.KV); ok {
				l.line(f, kv)
			}
		}
	}
}

func (l *lookup) applies(f *configFile, block *ssh_config.Host) bool {
	patterns := make([]string, len(block.Patterns))
	for i, p := range block.Patterns {
		patterns[i] = strings.ReplaceAll(p.String(), hashMark, "#")
	}
	if len(patterns) == 1 {
		if digits, ok := strings.CutPrefix(patterns[0], matchMark); ok {
			n, err := strconv.Atoi(digits)
			return err == nil && n < len(f.matches) && f.matches[n].applies(l)
		}
	}
	return matchList(l.host, patterns)
}

func (l *lookup) line(f *configFile, kv *ssh_config.KV) {
	key := canonicalKeyword(kv.Key)
	if l.final && key == "hostname" {
		return // the name has been settled by then
	}
	if key != includeWord {
		l.count++
		l.found[key] = append(l.found[key], setting{written: kv.Key, value: rawValue(kv), file: f.name, line: kv.Pos().Line, order: l.count})
		return
	}
	if n, err := strconv.Atoi(kv.Value); err == nil && n < len(f.includes) {
		for _, inner := range f.includes[n] {
			l.file(inner)
		}
	}
}

// rawValue is the value with its quotes and comment: KV.Value lacks the outer quotes, and then `"a b" "c"` cannot be
// told apart.
func rawValue(kv *ssh_config.KV) string {
	raw, _ := strings.CutPrefix(strings.TrimSpace(kv.String()), kv.Key)
	return strings.ReplaceAll(strings.TrimSpace(raw), hashMark, "#")
}

// hostname is the host's real name as far as the walk has come.
func (l *lookup) hostname() string {
	name, err := expandTokens(l.word("hostname"), map[byte]string{'h': l.original})
	if err != nil || name == "" {
		return l.original
	}
	return name
}

func (l *lookup) user() string {
	if l.login != "" {
		return l.login
	}
	if name := l.word("user"); name != "" {
		return name
	}
	return localUser()
}

// word is the first word of the first line with that keyword, as far as the walk has come.
func (l *lookup) word(key string) string {
	if s := l.found[key]; len(s) > 0 {
		if words, err := splitWords(s[0].value); err == nil && len(words) > 0 {
			return words[0]
		}
	}
	return ""
}

func localUser() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// match is the conditions of a Match line; none of them means never.
type match []criterion

type criterion struct {
	not     bool
	what    string
	pattern string
}

// unsupportedMatch is a criterion that cannot be checked here.
type unsupportedMatch string

func (u unsupportedMatch) Error() string { return "Match " + string(u) }

// parseMatch reads the words behind Match. exec is left out on purpose: it runs what the file says.
func parseMatch(words []string) (match, error) {
	var m match
	for len(words) > 0 {
		c := criterion{what: strings.ToLower(words[0])}
		c.what, c.not = strings.CutPrefix(c.what, "!")
		words = words[1:]
		what, value, joined := strings.Cut(c.what, "=")
		c.what = what
		switch c.what {
		case "all", "canonical", "final":
		case "host", "originalhost", "user", "localuser", "tagged", "sessiontype":
			if !joined {
				if len(words) == 0 {
					return nil, fmt.Errorf("no value for %s of Match", c.what)
				}
				value, words = words[0], words[1:]
			}
			c.pattern = value
		case "exec", "localnetwork", "version", "command":
			return nil, unsupportedMatch(c.what)
		default:
			return nil, fmt.Errorf("unknown criterion %q of Match", c.what)
		}
		m = append(m, c)
	}
	if len(m) == 0 {
		return nil, errors.New("no criterion for Match")
	}
	return m, nil
}

func (m match) applies(l *lookup) bool {
	all := len(m) > 0
	for _, c := range m {
		all = c.holds(l) != c.not && all // each is looked at: one may ask for a final pass
	}
	return all
}

func (c criterion) holds(l *lookup) bool {
	patterns := strings.Split(c.pattern, ",")
	switch c.what {
	case "host":
		return matchList(l.hostname(), patterns)
	case "originalhost":
		return matchList(l.original, patterns)
	case "final":
		l.wantsFinal = true
		return l.final
	case "canonical": // also so in ssh when names are not made canonical
		return l.final
	case "tagged":
		return matchList(l.word("tag"), patterns)
	case "sessiontype":
		return matchList("exec", patterns)
	case "user":
		return matchList(l.user(), patterns)
	case "localuser":
		return matchList(localUser(), patterns)
	}
	return true
}

// matchList reports whether a pattern matches and no negated one does.
func matchList(s string, patterns []string) bool {
	found := false
	for _, p := range patterns {
		p, negated := strings.CutPrefix(p, "!")
		if !matchPattern(s, p) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// matchPattern knows * and ?, in which ? is exactly one character. (The parser's own matching lets it be none.)
// It goes back to the last star only, so that no pattern takes more than len(s)*len(p) steps.
func matchPattern(s, p string) bool {
	star, from := -1, 0
	i, j := 0, 0
	for i < len(s) {
		switch {
		case j < len(p) && p[j] == '*':
			star, from = j, i
			j++
		case j < len(p) && (p[j] == '?' || p[j] == s[i]):
			i, j = i+1, j+1
		case star >= 0:
			from++
			i, j = from, star+1
		default:
			return false
		}
	}
	return strings.Trim(p[j:], "*") == ""
}
