package sshx

import (
	"bytes"
	"crypto/rsa"
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

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
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
		config.HostKeyAlgorithms = slices.DeleteFunc(slices.Clone(a.e.hostKeyChoice()), isCertAlgorithm)
		if a.e.HostKeyAlgorithms != nil {
			config.HostKeyAlgorithms = a.e.HostKeyAlgorithms
		}
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
	known := db.host(a.e)
	config.HostKeyAlgorithms = a.e.algorithms(known)
	config.HostKeyCallback = func(_ string, _ net.Addr, key ssh.PublicKey) error {
		a.hostKeyErr = a.d.checkHostKey(a.e, db, known, key)
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

// knownNames are the host's names in known_hosts, in lower case: with a port that is not 22, both with it and without.
func (e *Endpoint) knownNames() []string {
	switch host := strings.ToLower(e.Host); {
	case e.HostKeyAlias != "":
		return []string{strings.ToLower(e.HostKeyAlias)} // an alias has no port in ssh either
	case e.port() == 22:
		return []string{host}
	default:
		return []string{fmt.Sprintf("[%s]:%d", host, e.port()), host}
	}
}

// knownName is the one that new lines are written for.
func (e *Endpoint) knownName() string { return e.knownNames()[0] }

// checkHostKey decides about a key. A certificate that is no good here leaves the key in it, as in ssh.
func (d *Dialer) checkHostKey(e *Endpoint, db *knownDB, known knownHost, key ssh.PublicKey) error {
	if err := d.checkRevoked(e, db, key); err != nil {
		return err
	}
	var certErr error
	if cert, ok := key.(*ssh.Certificate); ok && known.signs(cert) {
		if certErr = e.checkHostCert(cert); certErr == nil {
			return nil
		}
	}
	ok, others := known.holds(plainKey(key))
	switch {
	case ok:
		return nil
	case certErr != nil:
		return certErr
	case len(others) > 0:
		return changedError(e, key, others)
	}
	if command, ok := e.has("knownhostscommand"); ok { // also where new keys are taken: it may know another one
		return commandError(command, key)
	}
	if e.StrictHostKey == StrictYes {
		return unknownError(e, key)
	}
	return d.state.hosts.add(d, e, key)
}

// checkRevoked refuses keys that are not to be accepted whatever known_hosts says otherwise.
func (d *Dialer) checkRevoked(e *Endpoint, db *knownDB, key ssh.PublicKey) error {
	if line := db.revokes(key); line != nil {
		return revokedError(key, line.place())
	}
	if e.RevokedHostKeys != "" {
		if err := d.state.revoked.check(e.RevokedHostKeys, key); err != nil {
			return err
		}
	}
	if bits := rsaBits(key); bits > 0 && bits < e.RequiredRSASize {
		return &Error{Kind: KindNoCommonCrypto, Problem: fmt.Sprintf("the host key is an RSA key of %d bits, and RequiredRSASize wants %d", bits, e.RequiredRSASize),
			Tip: "give the host a longer key, or lower RequiredRSASize in ssh_config"}
	}
	return nil
}

// rsaBits is the length of an RSA key; 0 for others.
func rsaBits(key ssh.PublicKey) int {
	if c, ok := plainKey(key).(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
			return k.N.BitLen()
		}
	}
	return 0
}

// checkHostCert checks a certificate whose authority is known.
func (e *Endpoint) checkHostCert(cert *ssh.Certificate) error {
	name := strings.ToLower(e.Host)
	if e.HostKeyAlias != "" {
		name = e.knownName()
	}
	if cert.CertType != ssh.HostCert {
		return certError(cert, errors.New("it is no host certificate"))
	}
	if err := new(ssh.CertChecker).CheckCert(name, cert); err != nil {
		return certError(cert, err)
	}
	if list := e.Algorithms.CASignatures; list != nil && !slices.Contains(list, cert.Signature.Format) {
		return certError(cert, fmt.Errorf("its signature is %s, which CASignatureAlgorithms leaves out", oneLine(cert.Signature.Format)))
	}
	return nil
}

// algorithms puts those first of which a key is known, so that a server with several keys shows that one. The others
// stay, so that a server that has changed its key is told from one that has nothing in common with us. Certificates are
// asked for only when an authority is known. Then they are of every kind: an authority's own kind says nothing about the
// keys it signs.
func (e *Endpoint) algorithms(known knownHost) []string {
	if e.HostKeyAlgorithms != nil {
		return e.HostKeyAlgorithms
	}
	all := e.hostKeyChoice()
	var list []string
	if len(known.keys(markAuthority)) > 0 {
		list = slices.DeleteFunc(slices.Clone(all), isPlainAlgorithm)
	}
	add := func(algo string) {
		if !slices.Contains(list, algo) && (e.hostKeyBase == nil || slices.Contains(all, algo)) {
			list = append(list, algo)
		}
	}
	for _, k := range known.keys("") {
		switch {
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

// hostKeyChoice are those that may be put in another order.
func (e *Endpoint) hostKeyChoice() []string {
	if e.hostKeyBase != nil {
		return e.hostKeyBase
	}
	return hostKeyAlgorithms()
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
			" (-k, --skip-host-validation goes without):\n" + e.knownName() + " " + keyText(key),
		Err: &knownhosts.KeyError{}}
}

// commandError is about a key that only a command could know.
func commandError(command setting, key ssh.PublicKey) error {
	e := command.error(fmt.Sprintf("unknown host key: %s %s, and KnownHostsCommand is not supported, for it runs a program", keyName(key),
		ssh.FingerprintSHA256(plainKey(key)))).(*Error)
	e.Kind = KindUnknownHostKey
	e.Tip = "add what the command prints to known_hosts (-k, --skip-host-validation goes without)"
	return e
}

func changedError(e *Endpoint, key ssh.PublicKey, others []*knownLine) error {
	var places []string
	var want []knownhosts.KnownKey
	for _, l := range others {
		places = append(places, l.place())
		want = append(want, knownhosts.KnownKey{Key: l.key, Filename: l.file, Line: l.number})
	}
	return &Error{Kind: KindChangedHostKey,
		Problem: fmt.Sprintf("HOST KEY HAS CHANGED, somebody may be listening in: it is %s %s, but %s has another",
			keyName(key), ssh.FingerprintSHA256(plainKey(key)), strings.Join(places, " and ")),
		Tip: fmt.Sprintf("ask who runs the host; only if the new key is right: ssh-keygen -R '%s' -f %s", e.knownName(), others[0].file),
		Err: &knownhosts.KeyError{Want: want}}
}

func revokedError(key ssh.PublicKey, place string) error {
	return &Error{Kind: KindRevokedHostKey,
		Problem: fmt.Sprintf("HOST KEY IS REVOKED: %s %s must not be used, says %s", keyName(key), ssh.FingerprintSHA256(plainKey(key)), place),
		Tip:     "do not connect; ask who runs the host for its new key"}
}

// certError is about host certificates; x/crypto has no types for what is wrong with them.
func certError(cert *ssh.Certificate, err error) error {
	return &Error{Kind: KindBadHostCert, Problem: fmt.Sprintf("host certificate %q is not valid here: %s", oneLine(cert.KeyId), plain(err)), Err: err,
		Tip: "ask who runs the host for a new certificate; ssh-keygen -L shows what one is valid for"}
}

// keyText is the key as it stands in known_hosts.
func keyText(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
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
	key = plainKey(key)
	switch ok, others := db.host(e).holds(key); {
	case ok:
		return nil
	case len(others) > 0:
		return changedError(e, key, others)
	}
	file := e.KnownHosts[0]
	name := e.knownName()
	listed := name
	if e.HashKnownHosts {
		listed = knownhosts.HashHostname(name)
	}
	line := listed + " " + keyText(key) + "\n"
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
