package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// candidate is a key that may be offered.
type candidate struct {
	name   string        // for messages
	pub    ssh.PublicKey // with certificate, if it is to be offered with one; nil when not known yet
	signer ssh.Signer    // of the agent; nil when the file is to be used
	file   *keyFile      // nil when only the agent has it
}

func (c *candidate) path() string {
	if c.file == nil {
		return ""
	}
	return c.file.path
}

// candidates puts the keys in order: named ones, those of the agent, the default ones. What the agent has needs no
// passphrase, so it signs with the agent wherever it can.
func (l *login) candidates() []*candidate {
	inAgent := l.agentSigners()
	list := l.ofCertificates(inAgent)
	for _, path := range l.e.Identities {
		list = append(list, l.ofFile(path, inAgent)...)
	}
	if !l.e.IdentitiesOnly {
		for _, s := range inAgent {
			if pub := agentKey(s); pub != nil {
				list = append(list, &candidate{name: agentName(s), pub: pub, signer: s})
			}
		}
	}
	for _, path := range l.e.DefaultIdentities {
		list = append(list, l.ofFile(path, inAgent)...)
	}
	return l.bestFirst(unique(list))
}

// bestFirst puts that key first which has let us in before, of the same candidates for the same user of the same server:
// each other one that is offered counts there as a failure.
func (l *login) bestFirst(list []*candidate) []*candidate {
	best := l.d.init().accepted.key(l.e)
	i := slices.IndexFunc(list, func(c *candidate) bool { return c.pub != nil && string(c.pub.Marshal()) == best })
	if i <= 0 {
		return list
	}
	return slices.Insert(slices.Delete(slices.Clone(list), i, i+1), 0, list[i])
}

// accepted remembers which key a server takes.
type accepted struct {
	mu   sync.Mutex
	keys map[string]string
}

func (a *accepted) key(e *Endpoint) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keys[e.login()]
}

func (a *accepted) note(e *Endpoint, key ssh.PublicKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keys == nil {
		a.keys = map[string]string{}
	}
	a.keys[e.login()] = string(key.Marshal())
}

// unique leaves out public keys that come again.
func unique(list []*candidate) []*candidate {
	seen := map[string]bool{}
	var once []*candidate
	for _, c := range list {
		if c.pub != nil {
			blob := string(c.pub.Marshal())
			if seen[blob] {
				continue
			}
			seen[blob] = true
		}
		once = append(once, c)
	}
	return once
}

// ofFile gives the candidates of a key file: with its certificate, then without.
func (l *login) ofFile(path string, inAgent []ssh.Signer) []*candidate {
	f := l.d.init().keys.file(path)
	name := oneLine(shortPath(path))
	var list []*candidate
	if signer := find(inAgent, f.cert); f.cert != nil && len(l.e.Certificates) == 0 && (signer != nil || f.err == nil) {
		list = append(list, &candidate{name: name + "-cert.pub", pub: f.cert, signer: signer, file: f})
	}
	if f.pub != nil {
		signer := find(inAgent, f.pub)
		if signer != nil || f.err == nil {
			return append(list, &candidate{name: name, pub: f.pub, signer: signer, file: f})
		}
		return list
	}
	if f.err == nil {
		list = append(list, &candidate{name: name, file: f}) // encrypted, and nothing beside it
	}
	return list
}

// ofCertificates gives those of CertificateFile, each signed for by the key that it is about: one of the agent, or of a file.
func (l *login) ofCertificates(inAgent []ssh.Signer) (list []*candidate) {
	for _, path := range l.e.Certificates {
		name := oneLine(shortPath(path))
		f := l.d.init().keys.file(path)
		cert, ok := f.pub.(*ssh.Certificate)
		switch {
		case f.missing != nil:
			l.certs = append(l.certs, "the certificate "+name+" cannot be read: "+why(f.missing))
			continue
		case !ok:
			l.certs = append(l.certs, name+", which CertificateFile names, is no certificate")
			continue
		}
		c := &candidate{name: name, pub: cert, signer: find(inAgent, cert), file: l.keyOf(cert)}
		if c.signer == nil && c.file == nil {
			l.certs = append(l.certs, fmt.Sprintf("the certificate %s was not offered: there is no private key for it; name that with IdentityFile in ssh_config or --identity, or add it to the agent", name))
			continue
		}
		list = append(list, c)
	}
	return list
}

// keyOf gives the file with the private key that a certificate is about; nil when there is none.
func (l *login) keyOf(cert *ssh.Certificate) *keyFile {
	for _, path := range slices.Concat(l.e.Identities, l.e.DefaultIdentities) {
		f := l.d.init().keys.file(path)
		if f.err == nil && f.pub != nil && sameKey(f.pub, cert.Key) {
			return f
		}
	}
	return nil
}

// find gives the agent's signer for a key, or for the key in a certificate.
func find(signers []ssh.Signer, pub ssh.PublicKey) ssh.Signer {
	if cert, ok := pub.(*ssh.Certificate); pub == nil || ok && cert == nil {
		return nil
	}
	for _, s := range signers {
		if sameKey(s.PublicKey(), pub) || sameKey(s.PublicKey(), plainKey(pub)) {
			return s
		}
	}
	return nil
}

// agentKey parses what the agent gives as plain bytes, so that a certificate is seen to be one. Kinds of keys that
// x/crypto does not know give nil.
func agentKey(s ssh.Signer) ssh.PublicKey {
	pub, err := ssh.ParsePublicKey(s.PublicKey().Marshal())
	if err != nil {
		return nil
	}
	return pub
}

// agentConn is a connection to the agent for as long as a login takes.
type agentConn struct {
	conn net.Conn
	stop func() bool
}

func (a *agentConn) close() {
	a.stop()
	a.conn.Close()
}

// agentSigners gives the agent's keys; none when there is no agent, as in ssh.
func (l *login) agentSigners() []ssh.Signer {
	if l.e.Agent == "" {
		return nil
	}
	conn, err := dialAgent(l.ctx, l.e.Agent)
	if err != nil {
		return nil
	}
	l.agent = &agentConn{conn, context.AfterFunc(l.ctx, func() { conn.Close() })}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		return nil
	}
	return signers
}

// dialAgent waits for a place where many ask the agent at once: it has a queue for them that is soon full.
func dialAgent(ctx context.Context, path string) (net.Conn, error) {
	for try := 1; ; try++ {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) && !noFileFree(err) || backOff(ctx, try) != nil {
			return conn, err
		}
	}
}

// agentName is the key's comment, which most often is the name of its file.
func agentName(s ssh.Signer) string {
	if key, ok := s.PublicKey().(*agent.Key); ok && key.Comment != "" {
		return oneLine(filepath.Base(key.Comment)) + " of the agent"
	}
	return ssh.FingerprintSHA256(s.PublicKey()) + " of the agent"
}
