package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// passwordTries is how often a password is asked for, as in ssh.
const passwordTries = 3

// login chooses what to offer the server, one thing at a time: a server counts every offer, and most give up after six.
type login struct {
	d    *Dialer
	e    *Endpoint
	ctx  context.Context
	sock *socket

	begun   bool
	given   []ssh.AuthMethod // of Endpoint.Auth
	keys    []*candidate
	offered ssh.PublicKey // last
	several bool          // there were others
	loaded  bool
	asked   map[string]int // how often, by method
	posed   int            // questions that the server has asked
	agent   *agentConn
	allowed []string // what the server said it takes
	passed  []string // what it has taken, where it wants several
	tried   []string // for the error text
	locked  []string // keys that nobody could give the passphrase of
	certs   []string // what is wrong with certificates, for the hint
	err     error    // why there is no going on
}

// next is ssh.ClientConfig.AuthCallback.
func (l *login) next(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	first := !l.begun
	l.begun = true
	if _, _, err := l.sock.state(); err != nil {
		return nil, err // x/crypto would go on through all methods, and ask for passwords, on a dead connection
	}
	if l.err != nil {
		return nil, l.err // x/crypto goes on to the next method
	}
	l.allowed, l.passed = c.AllowedMethods, c.PartialSuccessMethods
	if l.e.Auth != nil {
		return l.nextGiven(first)
	}
	for _, method := range l.e.methods() {
		if slices.Contains(c.AllowedMethods, method) {
			if m := l.nextOf(method); m != nil {
				return m, nil
			}
		}
	}
	return nil, l.fail(l.refused(""))
}

// methods are the ways to log in, in their order.
func (e *Endpoint) methods() []string {
	if e.Methods == nil {
		return DefaultMethods
	}
	return e.Methods
}

// nextOf gives the next thing to try of one way to log in; nil when there is none left.
func (l *login) nextOf(method string) ssh.AuthMethod {
	switch method {
	case "publickey":
		return l.nextKey()
	case "keyboard-interactive", "password":
		return l.nextPassword(method)
	}
	return nil
}

func (l *login) fail(err error) error {
	if l.err == nil {
		l.err = err
	}
	return err
}

func (l *login) nextGiven(first bool) (ssh.AuthMethod, error) {
	if first {
		var err error
		again := pauseBudget(l.ctx) // whoever gives them may have to ask somebody
		l.given, err = l.e.Auth(l.ctx)
		again()
		if err != nil {
			return nil, l.fail(foreign(KindAuth, err))
		}
	}
	if len(l.given) == 0 {
		return nil, l.fail(l.refused(""))
	}
	m := l.given[0]
	l.given = l.given[1:]
	return m, nil
}

// nextKey gives the next key to offer; nil when there is none left.
func (l *login) nextKey() ssh.AuthMethod {
	if !l.loaded {
		l.loaded = true
		l.keys = l.candidates()
		l.several = len(l.keys) > 1
	}
	for len(l.keys) > 0 {
		c := l.keys[0]
		l.keys = l.keys[1:]
		if c.pub == nil && !l.reveal(c) || !l.mayOffer(c) {
			continue
		}
		l.tried, l.offered = append(l.tried, c.name), c.pub
		if cert, ok := c.pub.(*ssh.Certificate); ok {
			l.certs = append(l.certs, l.aboutCert(c.name, cert))
		}
		return ssh.PublicKeys(offer{l, c})
	}
	return nil
}

// reveal asks for the passphrase of a key of which not even the public part is known.
func (l *login) reveal(c *candidate) bool {
	signer, err := c.file.unlock(l.ctx, l.d, !l.e.NoPrompt)
	if err != nil {
		l.note(c, err)
		return false
	}
	c.pub = signer.PublicKey()
	return true
}

// mayOffer reports whether ssh_config lets a key be offered, and notes why not.
func (l *login) mayOffer(c *candidate) bool {
	bits := rsaBits(c.pub)
	switch {
	case bits > 0 && bits < l.e.RequiredRSASize:
		l.tried = append(l.tried, fmt.Sprintf("%s (has %d bits, RequiredRSASize wants %d)", c.name, bits, l.e.RequiredRSASize))
	case len(l.e.Algorithms.signatures(c.pub)) == 0:
		l.tried = append(l.tried, c.name+" (left out by PubkeyAcceptedAlgorithms)")
	default:
		return true
	}
	return false
}

// note keeps why a key could not be used.
func (l *login) note(c *candidate, err error) {
	if errors.Is(err, errNoPrompt) {
		l.locked = append(l.locked, c.path())
	}
	l.tried = append(l.tried, c.name+" ("+oneLine(err.Error())+")")
}

// offer is a key that is unlocked only when the server has said that it would take it.
type offer struct {
	l *login
	c *candidate
}

func (o offer) PublicKey() ssh.PublicKey { return o.c.pub }

func (o offer) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return o.SignWithAlgorithm(rand, data, "")
}

func (o offer) Algorithms() []string { return o.l.e.Algorithms.signatures(o.c.pub) }

func (o offer) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := o.signer()
	if err != nil {
		o.l.tried = o.l.tried[:len(o.l.tried)-1] // the note says more
		o.l.note(o.c, err)
		return nil, err
	}
	if s, ok := signer.(ssh.AlgorithmSigner); ok && algorithm != "" {
		return s.SignWithAlgorithm(rand, data, algorithm)
	}
	return signer.Sign(rand, data)
}

func (o offer) signer() (ssh.Signer, error) {
	if o.c.signer != nil {
		return o.c.signer, nil
	}
	return o.c.file.unlock(o.l.ctx, o.l.d, !o.l.e.NoPrompt)
}

// nextPassword gives a way to ask the user; nil when there is none, or when it was tried often enough.
func (l *login) nextPassword(method string) ssh.AuthMethod {
	tries := l.e.PasswordPrompts
	if tries == 0 {
		tries = passwordTries
	}
	if !l.prompts() || l.asked[method] >= tries {
		return nil
	}
	if method == "keyboard-interactive" && l.asked[method] > 0 && l.posed == 0 {
		return nil // the server has nothing to ask
	}
	if l.asked == nil {
		l.asked = map[string]int{}
	}
	l.asked[method]++
	l.offered = nil
	l.tried = append(l.tried, method)
	who := fmt.Sprintf("%s@%s", oneLine(l.e.User), oneLine(l.e.name()))
	if _, host, ok := strings.Cut(l.e.name(), "@"); ok {
		who = fmt.Sprintf("%s@%s", oneLine(l.e.User), oneLine(host))
	}
	if method == "password" {
		return ssh.PasswordCallback(func() (string, error) {
			return l.askUser(Prompt{Text: who + "'s password: "})
		})
	}
	return ssh.KeyboardInteractive(func(name, instruction string, questions []string, echos []bool) ([]string, error) {
		return l.answer(who, questions, echos)
	})
}

// prompts reports whether the user may be asked.
func (l *login) prompts() bool { return l.d.Prompt != nil && !l.e.NoPrompt }

// answer puts the server's questions to the user.
func (l *login) answer(who string, questions []string, echos []bool) ([]string, error) {
	const most = 32
	if l.posed += len(questions); l.posed > most {
		return nil, l.fail(l.refused("the server asks too many questions"))
	}
	answers := make([]string, len(questions))
	for i, q := range questions {
		text := strings.TrimRight(oneLine(q), ": ")
		var err error
		if answers[i], err = l.askUser(Prompt{Text: fmt.Sprintf("(%s) %s: ", who, text), Echo: echos[i]}); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// askUser ends the login when the user does not want to answer.
func (l *login) askUser(p Prompt) (string, error) {
	answer, err := l.d.ask(l.ctx, p)
	if err != nil {
		l.asked["password"], l.asked["keyboard-interactive"] = math.MaxInt, math.MaxInt
	}
	return answer, err
}

func (l *login) close() {
	if l.agent != nil {
		l.agent.close()
	}
}

// refused is the error when nothing was accepted; why is what the server said at the end, if anything.
func (l *login) refused(why string) error {
	if len(l.locked) > 0 {
		key := oneLine(shortPath(l.locked[0]))
		e := &Error{Kind: KindEncryptedKey, Problem: "the key " + key + " is encrypted, and there is no terminal to ask for its passphrase",
			Tip: "add it to the agent with ssh-add " + key + ", or run this on a terminal"}
		if l.e.NoPrompt {
			e.Problem = "the key " + key + " is encrypted, and BatchMode in ssh_config forbids to ask for its passphrase"
			e.Tip = "add it to the agent with ssh-add " + key + ", or set BatchMode no"
		}
		return e
	}
	e := &Error{Kind: KindLoginRefused, Problem: fmt.Sprintf("login refused for user %s (tried: %s)", oneLine(l.e.User), l.triedText())}
	if why != "" {
		e.Problem = fmt.Sprintf("login refused for user %s: %s (tried: %s)", oneLine(l.e.User), why, l.triedText())
	}
	e.Tip = l.tip(why)
	return e
}

func (l *login) triedText() string {
	const most = 8
	switch {
	case l.e.Auth != nil:
		return "the given credentials"
	case len(l.tried) == 0:
		return "nothing, there is no key to offer"
	case len(l.tried) > most:
		return strings.Join(l.tried[:most], ", ") + fmt.Sprintf(" and %d more", len(l.tried)-most)
	}
	return strings.Join(l.tried, ", ")
}
