package sshx

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// tip is what to do about a login that was refused: the cause that is known comes first.
func (l *login) tip(why string) string {
	if l.e.Auth != nil {
		return "check the credentials"
	}
	if strings.Contains(strings.ToLower(why), "too many") {
		return "name the right key with --identity and set IdentitiesOnly yes in ssh_config, so that fewer keys are offered"
	}
	if len(l.passed) > 0 {
		return fmt.Sprintf("the server took %s and wants more: %s", strings.Join(l.passed, ", "), oneLine(strings.Join(l.allowed, ", ")))
	}
	if len(l.certs) > 0 {
		return strings.Join(l.certs[:min(len(l.certs), 3)], "; ")
	}
	for _, find := range []func() string{l.leftOut, l.needsLibrary, l.needsMethod} {
		if tip := find(); tip != "" {
			return tip
		}
	}
	tip := "check the user (-l, --login) and the key (--identity, or ssh-add); the public key must be in the host's authorized_keys"
	switch asks := slices.Contains(l.allowed, "password") || slices.Contains(l.allowed, "keyboard-interactive"); {
	case asks && l.e.NoPrompt:
		tip = "check the user (-l, --login) and the key (--identity, ssh-add); the server takes passwords too, which BatchMode in ssh_config forbids to ask for"
	case asks && l.d.Prompt == nil:
		tip = "check the user (-l, --login) and the key (--identity, ssh-add); the server takes passwords too, which are asked for on a terminal only"
	}
	return tip + l.otherWays()
}

// otherWays names what ssh may have logged in by with the same configuration.
func (l *login) otherWays() (text string) {
	for method, key := range map[string]string{"gssapi-with-mic": "gssapiauthentication", "hostbased": "hostbasedauthentication"} {
		if line, ok := l.e.has(key); ok && slices.Contains(l.allowed, method) {
			text += fmt.Sprintf("; the server takes %s too (%s), which is not supported", method, line.written)
		}
	}
	if _, ok := l.e.has("controlpath"); ok {
		text += "; a connection that ssh keeps (ControlPath) is not used"
	}
	return text
}

// leftOut is about ways to log in that the server has and ssh_config switches off.
func (l *login) leftOut() string {
	var off []string
	for _, method := range l.allowed {
		if slices.Contains(DefaultMethods, method) {
			if slices.Contains(l.e.methods(), method) {
				return ""
			}
			off = append(off, method)
		}
	}
	if len(off) == 0 {
		return ""
	}
	return fmt.Sprintf("the server takes %s, which ssh_config switches off: see PreferredAuthentications, PubkeyAuthentication, PasswordAuthentication and KbdInteractiveAuthentication there",
		strings.Join(off, ", "))
}

// needsLibrary is about keys on tokens.
func (l *login) needsLibrary() string {
	for _, key := range []string{"pkcs11provider", "securitykeyprovider"} {
		if line, ok := l.e.has(key); ok {
			return fmt.Sprintf("%s (%s:%d) is not supported, for it loads a library: add the keys of the token to the agent (ssh-add, or ssh-add -s LIBRARY)", line.written,
				line.file, line.line)
		}
	}
	for _, path := range append(slices.Clone(l.e.Identities), l.e.DefaultIdentities...) {
		if f := l.d.init().keys.file(path); f.onToken {
			return fmt.Sprintf("the key %s is on a security key, which only the agent can use: ssh-add %s", oneLine(shortPath(path)), oneLine(shortPath(path)))
		}
	}
	return ""
}

// needsMethod is about ways to log in that there are not.
func (l *login) needsMethod() string {
	var other []string
	for _, method := range l.allowed {
		if slices.Contains(DefaultMethods, method) {
			return ""
		}
		other = append(other, oneLine(method))
	}
	if len(other) == 0 {
		return ""
	}
	return fmt.Sprintf("the server takes %s only, which is not supported: use a key, and allow publickey in its sshd_config", strings.Join(other, ", "))
}

// aboutCert gives what may be the reason why a server refuses a certificate.
func (l *login) aboutCert(name string, cert *ssh.Certificate) string {
	now := time.Now().Unix()
	switch {
	case cert.CertType != ssh.UserCert:
		return "the certificate " + name + " is one of a host, not of a user"
	case cert.ValidBefore != ssh.CertTimeInfinity && now >= int64(cert.ValidBefore):
		return fmt.Sprintf("the certificate %s has expired on %s; have a new one made", name, time.Unix(int64(cert.ValidBefore), 0).Format(time.DateTime))
	case now < int64(cert.ValidAfter):
		return fmt.Sprintf("the certificate %s is not valid before %s; check the clock of this machine", name, time.Unix(int64(cert.ValidAfter), 0).Format(time.DateTime))
	case len(cert.ValidPrincipals) > 0 && !slices.Contains(cert.ValidPrincipals, l.e.User):
		return fmt.Sprintf("the certificate %s was not accepted: it is for %s, not for %s; check the user (-l, --login)", name, oneLine(strings.Join(cert.ValidPrincipals, ", ")), oneLine(l.e.User))
	}
	return fmt.Sprintf("the certificate %s was not accepted: the host must trust its authority (TrustedUserCAKeys in sshd_config), and the certificate must be for the user %s (ssh-keygen -L shows whom)",
		name, oneLine(l.e.User))
}
