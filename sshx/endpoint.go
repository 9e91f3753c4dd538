package sshx

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// StrictHostKey is what to do about a host key that is not known. A changed or a revoked key is refused always.
type StrictHostKey int

const (
	StrictYes       StrictHostKey = iota // refuse; ask of ssh_config is the same, for nobody is asked
	StrictAcceptNew                      // add it to the first file of KnownHosts and say so
	StrictNo                             // as StrictAcceptNew; ssh would go on even when the key has changed, this does not
)

// Endpoint is one SSH server and all that is needed to log in to it. Resolve makes one from a target and ssh_config;
// who makes one by hand sets Host and User, and of the rest what differs from the zero value.
type Endpoint struct {
	Target string // as the user wrote it, for messages about a jump host; "" is Host
	Host   string // a DNS name or an address, without brackets
	Port   int    // 0 is 22
	User   string

	Jumps []Endpoint // hosts to go through, in the order in which they are dialled; Jumps of these are not looked at

	AddressFamily      string // "inet" for IPv4 only, "inet6" for IPv6 only, "" for both
	BindAddress        string // an address of this machine to connect from, or a name of one; "" is the system's choice
	BindInterface      string // a network interface of this machine whose address to connect from, without BindAddress
	ConnectionAttempts int    // how often to try while connections are refused, once a second; 0 is 1
	NoTCPKeepAlive     bool   // have the system not ask for signs of life; KeepAlive is about those of SSH

	ConnectTimeout time.Duration // 0 is the Dialer's, then 10 s
	KeepAlive      time.Duration // how often to ask a silent host for a sign of life; 0 is 15 s, below 0 never
	KeepAliveMax   int           // unanswered questions until the connection is given up; 0 is 3

	KnownHosts      []string      // known_hosts files; new keys are added to the first
	StrictHostKey   StrictHostKey // about keys in none of KnownHosts
	HostKeyAlias    string        // the name to look up in KnownHosts; "" is Host and Port
	HashKnownHosts  bool          // whether names are hashed in lines that are added
	RevokedHostKeys string        // a file of keys that are never accepted, see ssh_config(5); "" is none
	RequiredRSASize int           // bits of the smallest RSA key that is accepted, of hosts and for logging in; 0 is 1024
	// HostKeyCallback decides about the host key in place of all of these.
	HostKeyCallback ssh.HostKeyCallback
	// HostKeyAlgorithms are those accepted, in this order. nil is all that x/crypto has by default, those of which a key
	// is known first.
	HostKeyAlgorithms []string
	// Algorithms are the others.
	Algorithms Algorithms
	RekeyBytes uint64 // new keys are exchanged after so many bytes; 0 is x/crypto's choice

	Identities        []string // private key files, offered first
	DefaultIdentities []string // private key files offered last, after the agent's
	IdentitiesOnly    bool     // do not offer keys of the agent that are not among the identities
	Certificates      []string // certificate files, offered before all keys; then none is looked for beside the identities
	Agent             string   // the agent's socket; "" uses no agent
	Methods           []string // ways to log in, the preferred one first: DefaultMethods, or some of them; nil is all
	PasswordPrompts   int      // how often a password is asked for; 0 is 3, below 0 never
	NoPrompt          bool     // ask for no password and no passphrase
	// Auth gives the ways to log in, in place of the keys, the agent and Prompt. ctx is that of the handshake.
	Auth func(ctx context.Context) ([]ssh.AuthMethod, error)

	// DialTCP makes the TCP connection in place of a direct one: a proxy. nil is direct. It must return when ctx is done.
	// It is not used for hosts behind Jumps. An error of it that has a Hint() is given as it is.
	DialTCP func(ctx context.Context, network, address string) (net.Conn, error)

	// NoShare makes a connection of its own. An endpoint with HostKeyCallback, Auth or DialTCP is shared only under a
	// ShareName, for functions cannot be compared.
	NoShare   bool
	ShareName string

	elder    <-chan struct{} // closed when the connection ends that this is a further one beside; nil for the first
	explicit []string        // the Identities that the user named, not ssh_config: they must be readable

	hostKeyBase []string  // HostKeyAlgorithms that are to be put in the order of known keys
	unsupported []setting // what ssh_config has that is not supported, and that a login or a host key may depend on
}

// DefaultMethods are the ways to log in that there are.
var DefaultMethods = []string{"publickey", "keyboard-interactive", "password"}

func (e *Endpoint) port() int {
	if e.Port == 0 {
		return 22
	}
	return e.Port
}

func (e *Endpoint) addr() string { return hostPort(e.Host, e.port()) }

// name is how messages call the host.
func (e *Endpoint) name() string {
	if e.Target != "" {
		return e.Target
	}
	if e.Port != 0 && e.Port != 22 {
		return e.addr()
	}
	return e.Host
}

// flat gives every jump host the jumps before it, so that each can be dialled alone.
func (e Endpoint) flat() Endpoint {
	jumps := slices.Clone(e.Jumps)
	for i := range jumps {
		jumps[i].Jumps = jumps[:i:i]
	}
	e.Jumps = jumps
	return e
}

// key is the same for endpoints that may share a connection. It is empty for one that shares with nobody.
func (e *Endpoint) key() string {
	if e.NoShare || e.ShareName == "" && (e.HostKeyCallback != nil || e.Auth != nil || e.DialTCP != nil) {
		return ""
	}
	var b strings.Builder
	for i := range e.Jumps {
		k := e.Jumps[i].key()
		if k == "" {
			return ""
		}
		b.WriteString(k + "\x01")
	}
	fmt.Fprintf(&b, "%q %q %d %q %s", e.User, e.Host, e.port(), e.ShareName, e.credentials())
	fmt.Fprintf(&b, " %q %d %q %d %d %d", e.KnownHosts, e.StrictHostKey, e.HostKeyAlias, e.ConnectTimeout, e.KeepAlive, e.KeepAliveMax)
	fmt.Fprintf(&b, " %q %q %q %t", e.AddressFamily, e.BindAddress, e.BindInterface, e.NoTCPKeepAlive)
	fmt.Fprintf(&b, " %q %d %q %q %q %d", e.RevokedHostKeys, e.RequiredRSASize, e.HostKeyAlgorithms, e.hostKeyBase, e.Algorithms, e.RekeyBytes)
	return b.String()
}

// credentials is the same for those who offer the same.
func (e *Endpoint) credentials() string {
	return fmt.Sprintf("%q %q %t %q %q %q %d %t", e.Identities, e.DefaultIdentities, e.IdentitiesOnly, e.Agent, e.Certificates, e.Methods,
		e.PasswordPrompts, e.NoPrompt)
}

// login is the same for those who log in as the same user of the same server with the same keys.
func (e *Endpoint) login() string {
	return fmt.Sprintf("%s %q %s", e.path(), e.User, e.credentials())
}

// path names the server as seen through its jumps: connections with the same path land on the same sshd.
func (e *Endpoint) path() string {
	var b strings.Builder
	for i := range e.Jumps {
		b.WriteString(e.Jumps[i].addr() + " ")
	}
	return b.String() + e.addr()
}
