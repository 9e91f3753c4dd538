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
	host  string // as the user wrote it
	login string // the user given outside of ssh_config; "" if none
	found map[string][]setting
	count int
}

// lookup gives all lines that apply to host, by keyword in lower case, in their order: the first one counts, save for
// keywords that may be given several times.
func (c *config) lookup(host, login string) map[string][]setting {
	l := &lookup{host: host, login: login, found: map[string][]setting{}}
	for _, f := range c.files {
		l.file(f)
	}
	return l.found
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
	key := strings.ToLower(kv.Key)
	if key != includeWord {
		l.count++
		l.found[key] = append(l.found[key], setting{key: key, value: rawValue(kv), file: f.name, line: kv.Pos().Line, order: l.count})
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
	if s := l.found["hostname"]; len(s) > 0 {
		if words, err := splitWords(s[0].value); err == nil && len(words) > 0 {
			return strings.ReplaceAll(words[0], "%h", l.host)
		}
	}
	return l.host
}

func (l *lookup) user() string {
	if l.login != "" {
		return l.login
	}
	if s := l.found["user"]; len(s) > 0 {
		if words, err := splitWords(s[0].value); err == nil && len(words) > 0 {
			return words[0]
		}
	}
	return localUser()
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

// parseMatch reads the words behind Match. exec is left out on purpose (it runs what the file says), canonical and final
// because the file is read once only.
func parseMatch(words []string) (match, error) {
	var m match
	for len(words) > 0 {
		c := criterion{what: strings.ToLower(words[0])}
		c.what, c.not = strings.CutPrefix(c.what, "!")
		words = words[1:]
		what, value, joined := strings.Cut(c.what, "=")
		c.what = what
		switch c.what {
		case "all":
		case "host", "originalhost", "user", "localuser":
			if !joined {
				if len(words) == 0 {
					return nil, fmt.Errorf("no value for %s of Match", c.what)
				}
				value, words = words[0], words[1:]
			}
			c.pattern = value
		case "exec", "canonical", "final", "localnetwork", "tagged", "version", "sessiontype", "command":
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
	for _, c := range m {
		if c.holds(l) == c.not {
			return false
		}
	}
	return len(m) > 0
}

func (c criterion) holds(l *lookup) bool {
	patterns := strings.Split(c.pattern, ",")
	switch c.what {
	case "host":
		return matchList(l.hostname(), patterns)
	case "originalhost":
		return matchList(l.host, patterns)
	case "user":
		return matchList(l.user(), patterns)
	case "localuser":
		return matchList(localUser(), patterns)
	}
	return true
}

// matchList says whether a pattern matches and no negated one does.
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
