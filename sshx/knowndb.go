package sshx

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" // what known_hosts hashes names with
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// knownDB is what known_hosts files said when they were read. It finds the lines about a name as ssh does, by the text of
// the name: "[host]:port" is another one than "host".
type knownDB struct {
	lines   []*knownLine
	named   map[string][]int      // indexes of lines by a name that stands there in full
	other   []int                 // indexes of lines with hashed names or patterns
	revoked map[string]*knownLine // by the key; sshd(8): it must not ever be accepted, whatever the host
	stamp   string                // changes when a file does
}

// knownLine is one line.
type knownLine struct {
	marker string // authority, revoked, or ""
	hosts  string
	key    ssh.PublicKey
	file   string
	number int
}

// The markers of known_hosts, see sshd(8).
const (
	markAuthority = "@cert-authority"
	markRevoked   = "@revoked"
)

func (l *knownLine) place() string { return fmt.Sprintf("%s:%d", l.file, l.number) }

// lookAgain is how long files are taken not to have changed: a thousand hosts that are connected to at once ask for them.
const lookAgain = 100 * time.Millisecond

// read gives the database of the files that exist.
func (h *hostKeys) read(d *Dialer, files []string) (*knownDB, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Equal(files, h.latest.files) && time.Since(h.latest.when) < lookAgain {
		return h.latest.db, nil
	}
	db, err := h.readLocked(d, files)
	if err == nil {
		h.latest = latestDB{slices.Clone(files), db, time.Now()}
	}
	return db, err
}

// latestDB is what was read last.
type latestDB struct {
	files []string
	db    *knownDB
	when  time.Time
}

func (h *hostKeys) readLocked(d *Dialer, files []string) (*knownDB, error) {
	files, stamp := existing(files)
	key := strings.Join(files, "\x00")
	if db := h.dbs[key]; db != nil && db.stamp == stamp {
		return db, nil
	}
	db, err := readKnownHosts(files, d.warn)
	if err != nil {
		return nil, &Error{Kind: KindKnownHosts, Problem: "cannot read known_hosts: " + plain(err), Err: err,
			Tip: "correct or remove what is wrong there, or name another file with UserKnownHostsFile in ssh_config"}
	}
	db.stamp = stamp
	if h.dbs == nil {
		h.dbs = map[string]*knownDB{}
	}
	h.dbs[key] = db
	return db, nil
}

// existing gives the files that are there, and a text that changes when one of them does.
func existing(files []string) (found []string, stamp string) {
	var b strings.Builder
	for _, name := range files {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // a device, such as /dev/null, holds no keys
		}
		found = append(found, name)
		if err == nil {
			fmt.Fprintf(&b, "%d %d\n", info.ModTime().UnixNano(), info.Size())
		}
	}
	return found, b.String()
}

// mostBadLines bounds the warnings about lines that cannot be read.
const mostBadLines = 20

// readKnownHosts leaves out lines that cannot be read, as ssh does.
func readKnownHosts(files []string, warn func(string)) (*knownDB, error) {
	db := &knownDB{named: map[string][]int{}, revoked: map[string]*knownLine{}}
	bad := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		n := 0
		for line := range bytes.Lines(text) {
			n++
			l, err := parseKnownLine(line)
			switch {
			case err != nil:
				if bad++; bad <= mostBadLines {
					warn(fmt.Sprintf("%s:%d: line left out: %s", name, n, oneLine(err.Error())))
				}
			case l != nil:
				l.file, l.number = name, n
				db.add(l)
			}
		}
	}
	if bad > mostBadLines {
		warn(fmt.Sprintf("known_hosts: %d more lines left out", bad-mostBadLines))
	}
	return db, nil
}

// parseKnownLine reads "[@marker] hosts type key [comment]"; nil is an empty line or a comment.
func parseKnownLine(line []byte) (*knownLine, error) {
	words := bytes.Fields(line)
	if len(words) == 0 || words[0][0] == '#' {
		return nil, nil
	}
	l := &knownLine{}
	if words[0][0] == '@' {
		if l.marker = string(words[0]); l.marker != markAuthority && l.marker != markRevoked {
			return nil, fmt.Errorf("unknown marker %q", l.marker)
		}
		words = words[1:]
	}
	if len(words) < 3 {
		return nil, errors.New("it does not have the form HOSTS TYPE KEY")
	}
	blob, err := base64.StdEncoding.DecodeString(string(words[2]))
	if err != nil {
		return nil, errors.New("the key is not base64")
	}
	if l.key, err = ssh.ParsePublicKey(blob); err != nil {
		return nil, errors.New(plain(err))
	}
	if kind := l.key.Type(); kind != string(words[1]) {
		return nil, fmt.Errorf("the key is of type %s, not %s", kind, words[1])
	}
	l.hosts = string(words[0])
	return l, nil
}

func (db *knownDB) add(l *knownLine) {
	if l.marker == markRevoked {
		db.revoked[string(l.key.Marshal())] = l
		return
	}
	i := len(db.lines)
	db.lines = append(db.lines, l)
	if strings.ContainsAny(l.hosts, "|*?!") {
		db.other = append(db.other, i)
		return
	}
	for name := range strings.SplitSeq(strings.ToLower(l.hosts), ",") {
		db.named[name] = append(db.named[name], i)
	}
}

// about gives the lines about name, which is in lower case. There is no index of names that are hashed or patterns.
func (db *knownDB) about(name string) []*knownLine {
	found := slices.Clone(db.named[name])
	for _, i := range db.other {
		if db.lines[i].matches(name) {
			found = append(found, i)
		}
	}
	slices.Sort(found)
	lines := make([]*knownLine, 0, len(found))
	for _, i := range slices.Compact(found) {
		lines = append(lines, db.lines[i])
	}
	return lines
}

func (l *knownLine) matches(name string) bool {
	if strings.HasPrefix(l.hosts, "|") {
		return hashMatches(l.hosts, name)
	}
	return matchList(name, strings.Split(strings.ToLower(l.hosts), ","))
}

// hashMatches reports whether "|1|SALT|HASH" was made of name: see host_hash in OpenSSH's hostfile.c.
func hashMatches(hashed, name string) bool {
	parts := strings.Split(hashed, "|")
	if len(parts) != 4 || parts[1] != "1" {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	want, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return hmac.Equal(mac.Sum(nil), want)
}

// knownHost is what is known of one host: its lines by its names, see Endpoint.knownNames.
type knownHost [][]*knownLine

func (db *knownDB) host(e *Endpoint) knownHost {
	var known knownHost
	for _, name := range e.knownNames() {
		known = append(known, db.about(name))
	}
	return known
}

// keys gives those with a marker of all names.
func (k knownHost) keys(marker string) (keys []ssh.PublicKey) {
	for _, lines := range k {
		for _, l := range marked(lines, marker) {
			keys = append(keys, l.key)
		}
	}
	return keys
}

func marked(lines []*knownLine, marker string) (found []*knownLine) {
	for _, l := range lines {
		if l.marker == marker {
			found = append(found, l)
		}
	}
	return found
}

func holdsKey(lines []*knownLine, key ssh.PublicKey) bool {
	return slices.ContainsFunc(lines, func(l *knownLine) bool { return sameKey(l.key, key) })
}

// holds reports whether a line names key as the host's. With a port a line without it counts, too, but only where there
// is none with the port, and never as a sign that the key has changed: see check_host_key in OpenSSH's sshconnect.c.
func (k knownHost) holds(key ssh.PublicKey) (known bool, others []*knownLine) {
	for i, lines := range k {
		lines = marked(lines, "")
		if holdsKey(lines, key) {
			return true, nil
		}
		if i == 0 && len(lines) > 0 {
			return false, lines
		}
	}
	return false, nil
}

// signs reports whether an authority of the host has signed cert.
func (k knownHost) signs(cert *ssh.Certificate) bool {
	return slices.ContainsFunc(k.keys(markAuthority), func(key ssh.PublicKey) bool { return sameKey(key, cert.SignatureKey) })
}

// revokes gives the line that revokes key, the key that it certifies or the authority that signed it; nil when none does.
func (db *knownDB) revokes(key ssh.PublicKey) *knownLine {
	keys := []ssh.PublicKey{key, plainKey(key)}
	if cert, ok := key.(*ssh.Certificate); ok {
		keys = append(keys, cert.SignatureKey)
	}
	for _, k := range keys {
		if l := db.revoked[string(k.Marshal())]; l != nil {
			return l
		}
	}
	return nil
}
