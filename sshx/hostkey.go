package sshx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys caches known_hosts files and adds lines to them, one at a time.
type hostKeys struct {
	mu     sync.Mutex
	dbs    map[string]*knownDB // by the names of the files
	latest latestDB
}

// hostKeys sets how config checks the server's key.
func (a *attempt) hostKeys(config *ssh.ClientConfig) error {
	switch {
	case a.d.InsecureIgnoreHostKey:
		config.HostKeyCallback = ssh.InsecureIgnoreHostKey()
		config.HostKeyAlgorithms = slices.DeleteFunc(slices.Clone(hostKeyAlgorithms()), isCertAlgorithm)
		return nil
	case a.e.HostKeyCallback != nil:
		config.HostKeyAlgorithms = a.e.HostKeyAlgorithms
		config.HostKeyCallback = func(name string, remote net.Addr, key ssh.PublicKey) error {
			a.hostKeyErr = foreign(KindHostKey, a.e.HostKeyCallback(name, remote, key))
			return a.hostKeyErr
		}
		return nil
	}
	db, err := a.d.state.hosts.read(a.d, a.e.KnownHosts)
	if err != nil {
		return err
	}
	known := db.known(a.e.lookupName())
	config.HostKeyAlgorithms = algorithms(known)
	config.HostKeyCallback = func(_ string, _ net.Addr, key ssh.PublicKey) error {
		if db.holds(known, key) {
			return nil
		}
		a.hostKeyErr = a.d.checkHostKey(a.e, db, key)
		return a.hostKeyErr
	}
	return nil
}

// How many key exchanges a server may have: at first, each second, and for what it has sent. Each costs a server nothing
// and us the time of a processor.
const (
	firstExchanges   = 64
	bytesPerExchange = 1 << 20
)

var errExchanges = errors.New("the server asks for new keys again and again")

// bounded is check for a bounded number of key exchanges: it is called in each.
func (a *attempt) bounded(check ssh.HostKeyCallback) ssh.HostKeyCallback {
	began, n := time.Now(), int64(0)
	return func(name string, remote net.Addr, key ssh.PublicKey) error {
		n++
		if n > firstExchanges+int64(time.Since(began)/time.Second)+a.sock.received.Load()/bytesPerExchange {
			return errExchanges
		}
		return check(name, remote, key)
	}
}

// lookupName is host:port as known_hosts is searched for it.
func (e *Endpoint) lookupName() string {
	if e.HostKeyAlias != "" {
		return net.JoinHostPort(strings.ToLower(e.HostKeyAlias), "22") // an alias has no port in ssh either
	}
	return hostPort(strings.ToLower(e.Host), e.port())
}

// checkHostKey decides about a key.
func (d *Dialer) checkHostKey(e *Endpoint, db *knownDB, key ssh.PublicKey) error {
	err := db.check(e.lookupName(), key)
	if err == nil {
		return nil
	}
	if revoked, ok := errors.AsType[*xknownhosts.RevokedError](err); ok {
		return revokedError(key, db.place(revoked.Revoked))
	}
	known, ok := errors.AsType[*xknownhosts.KeyError](err)
	if !ok {
		return certError(key, err)
	}
	if want := db.plainKeys(known.Want); len(want) > 0 {
		return changedError(e, key, want, db)
	}
	if e.StrictHostKey == StrictYes {
		return unknownError(e, key)
	}
	return d.state.hosts.add(d, e, key)
}

// algorithms puts those first of which a key is known, so that a server with several keys shows that one. The others
// stay, so that a server that has changed its key is told from one that has nothing in common with us. Certificates are
// asked for only when an authority is known; x/crypto would refuse all others, where ssh looks at the key inside. Then
// they are of every kind: an authority's own kind, which knownhosts goes by, says nothing about the keys it signs.
func algorithms(known []knownhosts.PublicKey) []string {
	all := hostKeyAlgorithms()
	var list []string
	if slices.ContainsFunc(known, func(k knownhosts.PublicKey) bool { return k.Cert }) {
		list = slices.DeleteFunc(slices.Clone(all), isPlainAlgorithm)
	}
	add := func(algo string) {
		if !slices.Contains(list, algo) {
			list = append(list, algo)
		}
	}
	for _, k := range known {
		switch {
		case k.Cert:
		case k.Type() == ssh.KeyAlgoRSA: // whose name as an algorithm means SHA-1: of an old host it is known to be its own
			add(ssh.KeyAlgoRSASHA512)
			add(ssh.KeyAlgoRSASHA256)
			add(ssh.KeyAlgoRSA)
		default:
			add(k.Type())
		}
	}
	for _, algo := range all {
		if isPlainAlgorithm(algo) {
			add(algo)
		}
	}
	return list
}

// hostKeyAlgorithms are all, in ssh's order. The list is not to be changed.
var hostKeyAlgorithms = sync.OnceValue(func() []string {
	all := ssh.SupportedAlgorithms().HostKeys
	slices.SortStableFunc(all, func(a, b string) int { return hostKeyRank(a) - hostKeyRank(b) })
	return all
})

func isPlainAlgorithm(name string) bool { return !isCertAlgorithm(name) }

func isCertAlgorithm(name string) bool { return strings.Contains(name, "-cert-v01@") }

// hostKeyRank has ssh's order: a key added for an unknown host is to be of the kind that ssh would have added.
func hostKeyRank(algo string) int {
	switch {
	case strings.HasPrefix(algo, "ssh-ed25519"):
		return 0
	case strings.HasPrefix(algo, "ecdsa-"):
		return 1
	case strings.HasPrefix(algo, "rsa-sha2-"):
		return 2
	}
	return 3
}

// plainKey is the key that a certificate certifies, or the key itself.
func plainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

func unknownError(e *Endpoint, key ssh.PublicKey) error {
	key = plainKey(key)
	file := "known_hosts"
	if len(e.KnownHosts) > 0 {
		file = e.KnownHosts[0]
	}
	return &Error{Kind: KindUnknownHostKey,
		Problem: fmt.Sprintf("unknown host key: %s %s", keyName(key), ssh.FingerprintSHA256(key)),
		Tip: "compare the fingerprint with the host's own, then connect once with ssh or add this line to " + file +
			" (-k, --skip-host-validation goes without):\n" + xknownhosts.Line([]string{e.lookupName()}, key),
		Err: &xknownhosts.KeyError{}}
}

func changedError(e *Endpoint, key ssh.PublicKey, want []xknownhosts.KnownKey, db *knownDB) error {
	var places []string
	for _, k := range want {
		places = append(places, db.place(k))
	}
	name := xknownhosts.Normalize(e.lookupName())
	return &Error{Kind: KindChangedHostKey,
		Problem: fmt.Sprintf("HOST KEY HAS CHANGED, somebody may be listening in: it is %s %s, but %s has another",
			keyName(key), ssh.FingerprintSHA256(plainKey(key)), strings.Join(places, " and ")),
		Tip: fmt.Sprintf("ask who runs the host; only if the new key is right: ssh-keygen -R '%s' -f %s", name, db.file(want[0])),
		Err: &xknownhosts.KeyError{Want: want}}
}

func revokedError(key ssh.PublicKey, place string) error {
	return &Error{Kind: KindRevokedHostKey,
		Problem: fmt.Sprintf("HOST KEY IS REVOKED: %s %s must not be used, says %s", keyName(key), ssh.FingerprintSHA256(plainKey(key)), place),
		Tip:     "do not connect; ask who runs the host for its new key"}
}

// certError is about host certificates; x/crypto has no types for what is wrong with them.
func certError(key ssh.PublicKey, err error) error {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return &Error{Kind: KindOther, Problem: "host key: " + plain(err), Err: err}
	}
	if strings.HasSuffix(err.Error(), "revoked") {
		e := revokedError(key, "a @revoked line of known_hosts, for it or its authority").(*Error)
		e.Err = err
		return e
	}
	return &Error{Kind: KindBadHostCert, Problem: fmt.Sprintf("host certificate %q is not valid here: %s", oneLine(cert.KeyId), plain(err)), Err: err,
		Tip: "ask who runs the host for a new certificate; ssh-keygen -L shows what one is valid for"}
}

// keyName is what people call a kind of key.
func keyName(key ssh.PublicKey) string {
	key = plainKey(key)
	switch t := key.Type(); {
	case t == ssh.KeyAlgoED25519:
		return "ED25519"
	case t == ssh.KeyAlgoRSA:
		return "RSA"
	case strings.HasPrefix(t, "ecdsa-"):
		return "ECDSA"
	default:
		return t
	}
}

// add appends the key to the first known_hosts file. Another connection may have done so since db was read.
func (h *hostKeys) add(d *Dialer, e *Endpoint, key ssh.PublicKey) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(e.KnownHosts) == 0 {
		return unknownError(e, key)
	}
	db, err := h.readLocked(d, e.KnownHosts)
	if err != nil {
		return err
	}
	if db.check(e.lookupName(), key) == nil {
		return nil
	}
	file := e.KnownHosts[0]
	key = plainKey(key)
	name := xknownhosts.Normalize(e.lookupName())
	listed := name
	if e.HashKnownHosts {
		listed = xknownhosts.HashHostname(name)
	}
	// Line would take a hashed name for one with a port.
	line := listed + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + "\n"
	h.latest = latestDB{}
	if err := appendLine(file, line); err != nil {
		return &Error{Kind: KindKnownHosts, Problem: "cannot add the host key: " + plain(err), Err: err,
			Tip: "make " + file + " writable, or name another file with UserKnownHostsFile in ssh_config"}
	}
	d.warn(fmt.Sprintf("%s: new host key %s %s added to %s", name, keyName(key), ssh.FingerprintSHA256(key), file))
	return nil
}

// appendLine writes line in one go, so that lines of several programs do not mix.
func appendLine(file, line string) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var last [1]byte
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 0 {
		if _, err := f.ReadAt(last[:], end-1); err == nil && !bytes.Equal(last[:], []byte("\n")) {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line)
	return err
}
