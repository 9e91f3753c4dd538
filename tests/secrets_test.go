package tests

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/tests/bed"
)

// What a user types, and what is typed wrongly.
const (
	passphrase = "Correct-Horse-7261"
	password   = "Hunter-Two-9182"
	oneTime    = "Code-445566-Once"
	wrongOne   = "Mistyped-5309"
)

// secretive is a home with an encrypted key, and servers that want that, a password and a one-time code.
func secretive(t *testing.T) (l *loopback, secrets []string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "tester", []byte(passphrase))
	must(t, err)
	open, err := ssh.MarshalPrivateKey(private, "tester")
	must(t, err)
	l = newLoopback(t)
	l.write(".ssh/id_ed25519", string(pem.EncodeToMemory(block)))
	l.server("keyed", &sshserver.Server{Handler: new(goodHelper).run, AuthorizedKeys: []ssh.PublicKey{signer.PublicKey()}})
	l.server("worded", &sshserver.Server{Handler: new(goodHelper).run, Password: password})
	l.server("asked", &sshserver.Server{Handler: new(goodHelper).run, Questions: []sshserver.Question{{Text: "One-time code: ", Answer: oneTime}}})
	secrets = []string{passphrase, password, oneTime, wrongOne, string(private.Seed()), fmt.Sprintf("%x", private.Seed())}
	for _, b := range []*pem.Block{block, open} { // the middle of it, in which the key is
		lines := strings.Split(string(pem.EncodeToMemory(b)), "\n")
		secrets = append(secrets, lines[3], lines[4])
	}
	return l, secrets
}

// answers types what is asked for, until all instances capture or the client has ended.
func (term *terminal) answers(how map[string]string) {
	term.t.Helper()
	answered := map[string]int{}
	bed.WaitFor(term.t, patience, "all questions are answered", func() bool {
		said := term.screen.String()
		for question, answer := range how {
			if n := strings.Count(said, question); n > answered[question] && term.modes().Lflag&unix.ECHO == 0 {
				answered[question] = n // it is shown again below what is said of another instance
				term.typed(answer + "\r")
			}
		}
		return strings.Contains(said, "Capturing on") || term.ended()
	})
}

// without checks that no secret is in any of the texts.
func without(t *testing.T, secrets []string, texts map[string][]byte) {
	t.Helper()
	for what, text := range texts {
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("a secret is in %s: %q", what, secret)
			}
		}
	}
}

// traces is all that a run leaves: on the screen, in its files, in what others can see of the process.
func traces(t *testing.T, term *terminal, files ...string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{"the terminal": []byte(term.screen.String())}
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil {
			all[name] = text
		}
	}
	return all
}

// TestSecrets: passphrases, passwords, one-time codes and keys are in nothing that is printed or written, nor to be seen of
// the process: not when all goes well, not when a login is refused, and not in the dump of a crash.
func TestSecrets(t *testing.T) {
	t.Parallel()
	right := map[string]string{"passphrase for": passphrase, "worded's password": password, "One-time code": oneTime}
	t.Run("right", func(t *testing.T) {
		t.Parallel()
		l, secrets := secretive(t)
		file := output(t, "a.pcapng")
		c := l.command("keyed", "worded", "asked", "-o", file)
		term := startOnTerminal(t, c)
		term.answers(right)
		term.shows("Capturing on 3 instances")
		seen := map[string][]byte{}
		for _, name := range []string{"cmdline", "environ", "comm"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.cmd.Process.Pid, name))
			must(t, err)
			seen[name] = text
		}
		without(t, secrets, seen)
		if children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.cmd.Process.Pid, c.cmd.Process.Pid)); len(children) > 0 {
			t.Errorf("it has children: %s", children)
		}
		term.typed("\x03")
		term.exit(patience, 0)
		without(t, secrets, traces(t, term, file, c.report))
	})
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		l, secrets := secretive(t)
		c := l.command("keyed", "worded", "asked", "-o", output(t, "a.pcapng"))
		c.cmd.Env = append(c.cmd.Env, "GOTRACEBACK=system")
		term := startOnTerminal(t, c)
		term.answers(right)
		term.shows("Capturing on 3 instances")
		term.signal(syscall.SIGQUIT)
		term.wait(patience)
		term.shows("goroutine [0-9]+")
		without(t, secrets, traces(t, term))
	})
	// One at a time: a question that is shown again behind what is said of another instance looks like a new one.
	for target, question := range map[string]string{"keyed": "passphrase for", "worded": "password", "asked": "One-time code"} {
		t.Run("wrong "+target, func(t *testing.T) {
			t.Parallel()
			l, secrets := secretive(t)
			c := l.command(target, "-o", output(t, "a.pcapng"))
			term := startOnTerminal(t, c)
			term.answers(map[string]string{question: wrongOne})
			term.exit(patience, 1)
			term.shows("login refused")
			without(t, secrets, traces(t, term, c.report))
		})
	}
}

// TestCloudFoundrySecrets: tokens and one-time codes are in no dump of a crash, and not to be seen of the process.
func TestCloudFoundrySecrets(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, 2)
	c := p.start("cf:shop", "-o", output(t, "x.pcapng"), "-f", flowFilter).ready()
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.cmd.Process.Pid))
	must(t, err)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", c.cmd.Process.Pid))
	must(t, err)
	c.signal(syscall.SIGQUIT)
	c.wait(patience)
	if !strings.Contains(c.stderr.String(), "goroutine ") {
		t.Errorf("no dump: %s", c.stderr.String())
	}
	p.secretsIn(nil, c.stderr.String(), string(cmdline), string(environ))
}
