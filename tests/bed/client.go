package bed

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

type key struct {
	private string // in OpenSSH's format
	public  string // "ssh-ed25519 AAAA…"
}

func newKey(t testing.TB) key {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(private, "bed")
	must(t, err)
	public, err := ssh.NewPublicKey(pub)
	must(t, err)
	return key{
		private: string(pem.EncodeToMemory(block)),
		public:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
	}
}

// Home is the client's home directory: an SSH configuration that knows every instance by name, its key and known_hosts.
func (b *Bed) Home() string { return filepath.Join(b.Dir, "client") }

// SSHConfig is the path of the client's SSH configuration.
func (b *Bed) SSHConfig() string { return filepath.Join(b.Home(), ".ssh", "config") }

func (b *Bed) authorized() string { return filepath.Join(b.Dir, "authorized_keys") }

// home makes the client's home, and a key in it that is authorized and one ("stranger") that is not.
func (b *Bed) home() {
	b.t.Helper()
	mine := newKey(b.t)
	b.WriteFile("client/.ssh/id_ed25519", 0o600, mine.private)
	b.WriteFile("client/.ssh/id_ed25519.pub", 0o644, mine.public+"\n")
	b.WriteFile("client/stranger", 0o600, newKey(b.t).private)
	b.WriteFile("authorized_keys", 0o644, mine.public+"\n")
	must(b.t, os.Chmod(b.Home(), 0o700))
	must(b.t, os.Chmod(filepath.Join(b.Home(), ".ssh"), 0o700))
	b.configure()
}

// configure writes the client's configuration for the instances there are.
func (b *Bed) configure() {
	b.t.Helper()
	var config, known strings.Builder
	for _, h := range b.hosts {
		if h.server == nil {
			continue
		}
		fmt.Fprintf(&config, "Host %s\n  HostName %s\n  User %s\n  Port %d\n", h.Name, h.Addr, h.options.User, h.Port)
		if h.options.Jump != "" {
			fmt.Fprintf(&config, "  ProxyJump %s\n", h.options.Jump)
		}
		name, key := h.Addr, h.hostKey
		if h.Port != 22 {
			name = fmt.Sprintf("[%s]:%d", h.Addr, h.Port)
		}
		if h.options.Impostor {
			key = newKey(b.t).public
		}
		if !h.options.Unknown {
			fmt.Fprintf(&known, "%s %s\n", name, key)
		}
	}
	fmt.Fprintf(&config, "Host *\n  UserKnownHostsFile %s\n", filepath.Join(b.Home(), ".ssh", "known_hosts"))
	b.WriteFile("client/.ssh/config", 0o600, config.String())
	b.WriteFile("client/.ssh/known_hosts", 0o600, known.String())
}
