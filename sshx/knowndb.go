package sshx

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// knownDB is what known_hosts files said when they were read.
type knownDB struct {
	*knownhosts.HostKeyDB
	authorities map[string]bool   // "file:line" of @cert-authority lines
	real        map[string]string // the names of files that were read from a cleaned copy, by the copy's name
	revoked     bool              // there are @revoked lines
	lines       map[string][]byte // by the hosts they name, as long as all lines are plain; nil when not
	stamp       string            // changes when a file does
}

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

// readKnownHosts leaves out lines that x/crypto cannot read, as ssh does, where x/crypto would refuse the whole file.
func readKnownHosts(files []string, warn func(string)) (*knownDB, error) {
	const mostBad = 100
	db := &knownDB{authorities: map[string]bool{}, real: map[string]string{}, lines: map[string][]byte{}}
	defer func() {
		for copied := range db.real {
			os.Remove(copied)
		}
	}()
	names := append([]string(nil), files...)
	for range mostBad {
		inner, err := knownhosts.NewDB(names...)
		if err == nil {
			db.HostKeyDB = inner
			return db, db.look(names)
		}
		i, line, why, ok := badLine(err, names)
		if !ok {
			return nil, err
		}
		warn(fmt.Sprintf("%s:%d: line left out: %s", files[i], line, why))
		if names[i], err = db.without(names[i], line, files[i]); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("more than %d lines are wrong", mostBad)
}

// badLine finds the place in "knownhosts: FILE:LINE: why".
func badLine(err error, names []string) (i, line int, why string, ok bool) {
	for i, name := range names {
		rest, ok := strings.CutPrefix(err.Error(), "knownhosts: "+name+":")
		if !ok {
			continue
		}
		digits, why, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(digits); err == nil && line > 0 {
			return i, line, oneLine(strings.TrimPrefix(why, "knownhosts: ")), true
		}
	}
	return 0, 0, "", false
}

// without writes a copy of the file in which a line is empty, so that the others keep their numbers.
func (db *knownDB) without(name string, line int, original string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	lines := bytes.Split(text, []byte("\n"))
	if line > len(lines) {
		return "", fmt.Errorf("%s changed while it was read", original)
	}
	lines[line-1] = nil
	f, err := os.CreateTemp("", "known_hosts-*")
	if err != nil {
		return "", err
	}
	db.real[f.Name()] = original
	_, err = f.Write(bytes.Join(lines, []byte("\n")))
	return f.Name(), errors.Join(err, f.Close())
}

// look reads the files for what the library does not tell.
func (db *knownDB) look(names []string) error {
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		n := 0
		for line := range bytes.Lines(text) {
			n++
			line = bytes.TrimSpace(line)
			if bytes.HasPrefix(line, []byte("@cert-authority")) {
				db.authorities[fmt.Sprintf("%s:%d", name, n)] = true
			}
			db.revoked = db.revoked || bytes.HasPrefix(line, []byte("@revoked"))
			db.index(line)
		}
	}
	return nil
}

// index notes which hosts a line is about. The library looks at every line for every host: a million times where a
// thousand hosts are known. There is no index of names that are hashed, or have wildcards.
func (db *knownDB) index(line []byte) {
	if len(line) == 0 || line[0] == '#' || db.lines == nil {
		return
	}
	hosts := line[:max(bytes.IndexAny(line, " \t"), 0)]
	if bytes.ContainsAny(hosts, "@|*?!") {
		db.lines = nil
		return
	}
	for host := range strings.SplitSeq(string(hosts), ",") {
		name := xknownhosts.Normalize(host)
		db.lines[name] = append(append(db.lines[name], line...), '\n')
	}
}

// known gives the keys and authorities of a host.
func (db *knownDB) known(name string) (keys []knownhosts.PublicKey) {
	if db.lines == nil {
		return db.HostKeys(name)
	}
	for rest := db.lines[xknownhosts.Normalize(name)]; len(rest) > 0; {
		var key ssh.PublicKey
		var err error
		if _, _, key, _, rest, err = ssh.ParseKnownHosts(rest); err != nil {
			return db.HostKeys(name)
		}
		keys = append(keys, knownhosts.PublicKey{PublicKey: key})
	}
	return keys
}

// holds says whether key is one of those known for a host, so that there is nothing to check: looking for a name takes
// long where the file has many lines, above all hashed ones.
func (db *knownDB) holds(known []knownhosts.PublicKey, key ssh.PublicKey) bool {
	return !db.revoked && slices.ContainsFunc(known, func(k knownhosts.PublicKey) bool { return !k.Cert && sameKey(k, key) })
}

// check looks the key up by name only: the address of the connection may be a jump host's.
func (db *knownDB) check(name string, key ssh.PublicKey) error {
	return db.HostKeyCallback()(name, &net.TCPAddr{IP: net.IPv4zero}, key)
}

// plainKeys gives the keys that are not authorities: a host that shows a plain key although only an authority is known
// for its name is unknown, not changed.
func (db *knownDB) plainKeys(keys []xknownhosts.KnownKey) []xknownhosts.KnownKey {
	var plain []xknownhosts.KnownKey
	for _, k := range keys {
		if !db.authorities[fmt.Sprintf("%s:%d", k.Filename, k.Line)] {
			plain = append(plain, k)
		}
	}
	return plain
}

func (db *knownDB) file(k xknownhosts.KnownKey) string {
	if name, ok := db.real[k.Filename]; ok {
		return name
	}
	return k.Filename
}

// place is where a known key stands.
func (db *knownDB) place(k xknownhosts.KnownKey) string {
	return fmt.Sprintf("%s:%d", db.file(k), k.Line)
}
