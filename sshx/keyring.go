package sshx

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// passphraseTries is how often a passphrase may be wrong, as in ssh.
const passphraseTries = 3

// maxKeyFile bounds what is read as a key.
const maxKeyFile = 1 << 20

// keyring remembers key files, so that one with a passphrase is asked for once however many hosts want it.
type keyring struct {
	mu    sync.Mutex
	files map[string]*keyFile
}

func (k *keyring) file(path string) *keyFile {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files == nil {
		k.files = map[string]*keyFile{}
	}
	f := k.files[path]
	if f == nil {
		f = &keyFile{path: path, asking: make(chan struct{}, 1)}
		k.files[path] = f
	}
	f.load.Do(f.read)
	return f
}

// keyFile is a private key file with what stands beside it.
type keyFile struct {
	path string
	load sync.Once

	// Set by read.
	pem       []byte
	pub       ssh.PublicKey    // nil when it cannot be known without the passphrase
	cert      *ssh.Certificate // of path-cert.pub; nil without
	err       error            // why the file is of no use
	missing   error            // why it cannot be read
	encrypted bool
	onToken   bool // only the agent can sign with it

	asking chan struct{} // holds one token; who has it may read and write what follows
	signer ssh.Signer
	failed error // asking came to nothing; it is not tried again
}

func (f *keyFile) read() {
	if f.pem, f.err = readKeyFile(f.path); f.err != nil {
		f.missing = f.err
		if pub := readPublic(f.path + ".pub"); pub != nil && errors.Is(f.err, fs.ErrNotExist) {
			f.pub = pub // the agent may have it
		}
		return
	}
	if pub, err := parsePublic(f.pem); err == nil {
		f.pub, f.err = pub, errors.New("it is a public key, and the agent does not have the private one")
		return
	}
	signer, err := ssh.ParsePrivateKey(f.pem)
	if missing, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		f.encrypted = true
		f.pub = missing.PublicKey
	} else if err != nil {
		f.err = errors.New(plain(err))
	} else {
		f.signer, f.pub = signer, signer.PublicKey()
	}
	if f.pub == nil {
		f.pub = readPublic(f.path + ".pub")
	}
	f.onToken = f.err != nil && f.pub != nil && strings.HasPrefix(f.pub.Type(), "sk-")
	f.readCert()
}

// readCert takes path-cert.pub if it is for this very key.
func (f *keyFile) readCert() {
	cert, ok := readPublic(f.path + "-cert.pub").(*ssh.Certificate)
	if ok && f.pub != nil && sameKey(cert.Key, f.pub) {
		f.cert = cert
	}
}

func readKeyFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxKeyFile))
}

func readPublic(path string) ssh.PublicKey {
	text, err := readKeyFile(path)
	if err != nil {
		return nil
	}
	pub, err := parsePublic(text)
	if err != nil {
		return nil
	}
	return pub
}

func parsePublic(text []byte) (ssh.PublicKey, error) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey(text)
	return pub, err
}

func sameKey(a, b ssh.PublicKey) bool { return string(a.Marshal()) == string(b.Marshal()) }

// errNoPrompt is the failure to ask when there is nobody to ask.
var errNoPrompt = errors.New("its passphrase cannot be asked for")

// unlock gives the signer, asking for the passphrase if need be and asks is set.
func (f *keyFile) unlock(ctx context.Context, d *Dialer, asks bool) (ssh.Signer, error) {
	if f.err != nil {
		return nil, f.err
	}
	resume := pauseBudget(ctx) // another connection may be asking for this very passphrase
	defer resume()
	select {
	case f.asking <- struct{}{}:
		defer func() { <-f.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.signer != nil || f.failed != nil {
		return f.signer, f.failed
	}
	if d.Prompt == nil || !asks {
		return nil, errNoPrompt
	}
	for range passphraseTries {
		pass, err := d.ask(ctx, Prompt{Text: fmt.Sprintf("passphrase for %s: ", oneLine(shortPath(f.path)))})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			f.failed = fmt.Errorf("no passphrase was given: %w", err)
			return nil, f.failed
		}
		f.signer, err = ssh.ParsePrivateKeyWithPassphrase(f.pem, []byte(pass))
		if err == nil {
			return f.signer, nil
		}
		f.signer = nil
		if !errors.Is(err, x509.IncorrectPasswordError) {
			f.failed = errors.New(plain(err))
			return nil, f.failed
		}
	}
	f.failed = errors.New("the passphrase was wrong three times")
	return nil, f.failed
}

// ask calls Prompt when nobody else does. The time does not count for ctx's budget.
func (d *Dialer) ask(ctx context.Context, p Prompt) (string, error) {
	resume := pauseBudget(ctx)
	defer resume()
	asking := d.init().asking
	select {
	case asking <- struct{}{}:
		defer func() { <-asking }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return d.Prompt(ctx, p)
}

// shortPath writes the home directory as ~.
func shortPath(path string) string {
	if rest, ok := strings.CutPrefix(path, homeDir()+string(filepath.Separator)); ok {
		return "~/" + rest
	}
	return path
}

// checkIdentities refuses identities that the user named and that are of no use, before anything is connected.
func (d *Dialer) checkIdentities(e *Endpoint) error {
	for _, path := range e.explicit {
		f := d.init().keys.file(path)
		if f.err == nil || f.pub != nil && e.Agent != "" {
			continue
		}
		why := f.err.Error()
		if errors.Is(f.err, fs.ErrNotExist) || errors.Is(f.err, fs.ErrPermission) {
			why = plain(errors.Unwrap(f.err))
		}
		return &Error{Kind: KindIdentity, Problem: "cannot use the identity " + oneLine(path) + ": " + why, Err: f.err,
			Tip: "check the file given with --identity: it must be a private key"}
	}
	return nil
}
