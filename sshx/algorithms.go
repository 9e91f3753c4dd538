package sshx

import (
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Algorithms are those that may be used, the preferred one first; nil is the default.
type Algorithms struct {
	KeyExchanges []string
	Ciphers      []string
	MACs         []string
	PublicKeys   []string // for logging in with a key: names of signatures, those for certificates among them
	CASignatures []string // of host certificates
}

// limited reports whether not all is as by default that is agreed on before the login.
func (a *Algorithms) limited() bool {
	return a.KeyExchanges != nil || a.Ciphers != nil || a.MACs != nil
}

// choices are the algorithms of one kind: those used by default, and all that there are.
type choices struct{ preset, all []string }

// algorithmChoices has them by the keyword of ssh_config.
var algorithmChoices = sync.OnceValue(func() map[string]choices {
	var preset ssh.Config
	preset.SetDefaults()
	good, bad := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	const libssh = "curve25519-sha256@libssh.org" // x/crypto's lists leave out the other name
	keys := strings.Fields(publicKeyAlgorithms)
	plain := slices.DeleteFunc(slices.Clone(keys), isCertAlgorithm)
	return map[string]choices{
		"kexalgorithms":            {preset.KeyExchanges, slices.Concat(good.KeyExchanges, []string{libssh}, bad.KeyExchanges)},
		"ciphers":                  {ciphers(), append(good.Ciphers, bad.Ciphers...)},
		"macs":                     {preset.MACs, append(good.MACs, bad.MACs...)},
		"hostkeyalgorithms":        {hostKeyAlgorithms(), append(good.HostKeys, bad.HostKeys...)},
		"pubkeyacceptedalgorithms": {keys, append(slices.Clone(keys), ssh.KeyAlgoRSA, ssh.CertAlgoRSAv01)},
		"casignaturealgorithms":    {plain, append(slices.Clone(plain), ssh.KeyAlgoRSA)},
	}
})

// publicKeyAlgorithms are ssh's defaults for logging in with a key.
const publicKeyAlgorithms = `ssh-ed25519-cert-v01@openssh.com ecdsa-sha2-nistp256-cert-v01@openssh.com ecdsa-sha2-nistp384-cert-v01@openssh.com
	ecdsa-sha2-nistp521-cert-v01@openssh.com sk-ssh-ed25519-cert-v01@openssh.com sk-ecdsa-sha2-nistp256-cert-v01@openssh.com
	rsa-sha2-512-cert-v01@openssh.com rsa-sha2-256-cert-v01@openssh.com ssh-ed25519 ecdsa-sha2-nistp256 ecdsa-sha2-nistp384 ecdsa-sha2-nistp521
	sk-ssh-ed25519@openssh.com sk-ecdsa-sha2-nistp256@openssh.com rsa-sha2-512 rsa-sha2-256`

// assemble makes a list of a value of ssh_config, as kex_assemble_names in OpenSSH's kex.c: +LIST goes behind the
// default, ^LIST before it, -LIST is taken out of it, and another LIST stands for itself. Names may be patterns.
// missing are names that are in no list of ours.
func (c choices) assemble(value string) (list, missing []string) {
	words := strings.Split(strings.TrimLeft(value, "+-^"), ",")
	switch value[:1] {
	case "-":
		return slices.DeleteFunc(slices.Clone(c.preset), func(name string) bool { return matchList(name, words) }), nil
	case "+":
		words = append(slices.Clone(c.preset), words...)
	case "^":
		words = append(words, c.preset...)
	}
	for _, word := range words {
		found := false
		for _, name := range c.all {
			if !matchPattern(name, word) {
				continue
			}
			found = true
			if !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
		if !found && !slices.Contains(missing, word) {
			missing = append(missing, word)
		}
	}
	return list, missing
}

// signatures gives the algorithms by which key may sign a login, by the names that x/crypto has for them: without what
// they are called for certificates. RSA with SHA-1 is left out where nothing is said about it: servers have refused it
// since OpenSSH 8.8.
func (a *Algorithms) signatures(key ssh.PublicKey) []string {
	accepted := a.PublicKeys
	if accepted == nil {
		accepted = strings.Fields(publicKeyAlgorithms)
	}
	kind := key.Type()
	suffix := ""
	if cert, ok := key.(*ssh.Certificate); ok {
		kind, suffix = cert.Key.Type(), "-cert-v01@openssh.com"
	}
	kinds := []string{kind}
	if kind == ssh.KeyAlgoRSA {
		kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA}
	}
	var list []string
	for _, name := range accepted {
		for _, kind := range kinds {
			if name == strings.TrimSuffix(kind, "@openssh.com")+suffix || suffix == "" && name == kind {
				list = append(list, kind)
			}
		}
	}
	return list
}

// ciphers puts AES before chacha20 where the processor has instructions for it: it takes a third of the time.
func ciphers() []string {
	all := ssh.SupportedAlgorithms().Ciphers
	switch runtime.GOARCH {
	case "amd64", "arm64", "ppc64le", "s390x":
	default:
		return all
	}
	slices.SortStableFunc(all, func(a, b string) int { return cipherRank(a) - cipherRank(b) })
	return all
}

func cipherRank(name string) int {
	switch {
	case name == ssh.CipherAES128GCM:
		return 0
	case name == ssh.CipherAES256GCM:
		return 1
	case strings.HasSuffix(name, "-ctr"):
		return 2
	}
	return 3
}
