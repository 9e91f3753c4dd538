package sshx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"

	"github.com/kevinburke/ssh_config"
)

// maxInclude is how deep Include may go, as in OpenSSH.
const maxInclude = 16

// config is what all files of ssh_config say, the most important file first.
type config struct{ files []*configFile }

// configFile is one parsed file. The parser cannot read most Match lines and reads included files before anybody could
// say so; hence both are taken out of the text beforehand: a Match line becomes a Host line with a mark in place of its
// patterns, an Include line a keyword of ours with the number of what it includes.
type configFile struct {
	name     string
	parsed   *ssh_config.Config
	matches  []match
	includes [][]*configFile
}

const (
	matchMark   = "\u2063match"
	hashMark    = "\u2064" // for # in a value: to the parser it is a comment wherever it stands
	includeWord = "sshxinclude"
)

// setting is one line of ssh_config.
type setting struct {
	written string // the keyword as it stands there, which may be another name of it
	value   string // as it stands there, with its quotes
	file    string
	line    int
	order   int // of all lines that apply to the host
}

func (s setting) error(problem string) error {
	return configError(s.file, s.line, problem, nil)
}

func configError(file string, line int, problem string, err error) error {
	return &Error{Kind: KindConfig, Problem: fmt.Sprintf("%s:%d: %s", file, line, problem), Err: err,
		Tip: "correct that line, or use another file with -F, --ssh-config (none: no file at all)"}
}

// configCache reads the files once.
type configCache struct {
	once sync.Once
	c    *config
	err  error
}

func (c *configCache) get(d *Dialer) (*config, error) {
	c.once.Do(func() { c.c, c.err = d.readConfig() })
	return c.c, c.err
}

func (d *Dialer) readConfig() (*config, error) {
	r := configReader{warn: d.warn}
	if d.ConfigFile == "none" {
		return &config{}, nil
	}
	if d.ConfigFile != "" {
		f, err := r.read(d.ConfigFile, userSSHDir(), 0)
		if err != nil {
			return nil, err
		}
		return &config{files: []*configFile{f}}, nil
	}
	c := &config{}
	for _, dir := range []string{userSSHDir(), "/etc/ssh"} {
		r.own = dir != "/etc/ssh"
		name := filepath.Join(dir, map[bool]string{true: "ssh_config", false: "config"}[dir == "/etc/ssh"])
		f, err := r.read(name, dir, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.files = append(c.files, f)
	}
	return c, nil
}

func userSSHDir() string { return filepath.Join(homeDir(), ".ssh") }

// homeDir is $HOME, or else what the user database says, as for ssh.
func homeDir() string {
	if home, err := os.UserHomeDir(); err == nil && home != "" {
		return home
	}
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return u.HomeDir
	}
	return "/"
}

type configReader struct {
	warn func(string)
	own  bool // the user's own files are read, and what they include: nobody else may write these, as in ssh
}

// read parses the file name; relative includes are looked for in dir.
func (r *configReader) read(name, dir string, depth int) (*configFile, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, &Error{Kind: KindConfig, Problem: "cannot read the ssh_config file: " + plain(err), Err: err,
			Tip: "check the name given with -F, --ssh-config"}
	}
	if info, err := os.Stat(name); r.own && err == nil && othersWrite(info) {
		return nil, &Error{Kind: KindConfig, Problem: name + ": somebody else may write to it, and could send your logins anywhere",
			Tip: "make it your own (chown) and nobody else's to write (chmod go-w); ssh refuses it, too"}
	}
	f := &configFile{name: name}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if lines[i], err = r.line(f, dir, line, i+1, depth); err != nil {
			return nil, err
		}
	}
	f.parsed, err = ssh_config.DecodeBytes([]byte(strings.Join(lines, "\n") + "\n"))
	if err != nil {
		return nil, parserError(name, err)
	}
	return f, nil
}

// parserError turns the parser's "(3, 1): text" into ours.
func parserError(name string, err error) error {
	var line, col int
	text := err.Error()
	if n, _ := fmt.Sscanf(text, "(%d, %d):", &line, &col); n == 2 {
		_, text, _ = strings.Cut(text, ": ")
	}
	return configError(name, line, strings.TrimPrefix(text, "ssh_config: "), err)
}

// line gives what the parser is to see of a line.
func (r *configReader) line(f *configFile, dir, line string, n, depth int) (string, error) {
	key, value, says := splitLine(line)
	if !says {
		return "", nil
	}
	if key == "" || strings.ContainsFunc(key, notInKeyword) {
		return "", configError(f.name, n, fmt.Sprintf("%q is not a keyword", key), nil)
	}
	if strings.ContainsFunc(value, isControl) {
		return "", configError(f.name, n, "a control character", nil)
	}
	words, err := splitWords(value)
	if err != nil {
		return "", configError(f.name, n, err.Error(), nil)
	}
	if len(words) == 0 {
		return "", configError(f.name, n, key+" has no value", nil)
	}
	switch strings.ToLower(key) {
	case "match":
		return r.match(f, words, n)
	case "include":
		return r.include(f, dir, words, n, depth)
	case includeWord:
		return "", configError(f.name, n, fmt.Sprintf("%q is not a keyword", key), nil)
	case "host":
		value = strings.Join(words, " ")
	}
	return key + " " + strings.ReplaceAll(value, "#", hashMark), nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func notInKeyword(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
}

func (r *configReader) match(f *configFile, words []string, n int) (string, error) {
	m, err := parseMatch(words)
	if unsupported, ok := errors.AsType[unsupportedMatch](err); ok {
		r.warn(fmt.Sprintf("%s:%d: this Match block is left out: %s is not supported", f.name, n, string(unsupported)))
	} else if err != nil {
		return "", configError(f.name, n, err.Error(), nil)
	}
	f.matches = append(f.matches, m)
	return fmt.Sprintf("Host %s%d", matchMark, len(f.matches)-1), nil
}

func (r *configReader) include(f *configFile, dir string, patterns []string, n, depth int) (string, error) {
	if depth == maxInclude {
		return "", configError(f.name, n, "Include goes too deep: does a file include itself?", nil)
	}
	var files []*configFile
	for _, p := range patterns {
		p = expandHome(p)
		if !filepath.IsAbs(p) {
			p = filepath.Join(dir, p)
		}
		names, err := filepath.Glob(p)
		if err != nil {
			return "", configError(f.name, n, "bad pattern "+p, err)
		}
		for _, name := range names {
			inner, err := r.read(name, dir, depth+1)
			if err != nil {
				return "", err
			}
			files = append(files, inner)
		}
	}
	f.includes = append(f.includes, files)
	return fmt.Sprintf("%s %d", includeWord, len(f.includes)-1), nil
}

// splitLine cuts a line in its keyword and the rest; says is false for an empty line and a comment.
func splitLine(line string) (key, value string, says bool) {
	line = strings.Trim(line, " \t\r\f")
	if line == "" || line[0] == '#' {
		return "", "", false
	}
	i := strings.IndexAny(line, " \t=")
	if i < 0 {
		return line, "", true
	}
	key, value = line[:i], strings.TrimLeft(line[i:], " \t")
	return key, strings.TrimLeft(strings.TrimPrefix(value, "="), " \t"), true
}

// splitWords splits at blanks outside quotes and leaves out a comment, as OpenSSH's argv_split does.
func splitWords(s string) ([]string, error) {
	var words []string
	for {
		s = strings.TrimLeft(s, " \t\r\f")
		if s == "" || s[0] == '#' {
			return words, nil
		}
		word, rest, err := firstWord(s)
		if err != nil {
			return nil, err
		}
		words, s = append(words, word), rest
	}
}

func firstWord(s string) (word, rest string, err error) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\'' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && strings.IndexByte(" \t\r\f", c) >= 0:
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", "", errors.New("a quote is not closed")
	}
	return b.String(), "", nil
}
