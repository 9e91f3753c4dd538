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

	ConnectTimeout time.Duration // 0 is the Dialer's, then 10 s
	KeepAlive      time.Duration // how often to ask a silent host for a sign of life; 0 is 15 s, below 0 never
	KeepAliveMax   int           // unanswered questions until the connection is given up; 0 is 3

	KnownHosts     []string      // known_hosts files; new keys are added to the first
	StrictHostKey  StrictHostKey // about keys in none of KnownHosts
	HostKeyAlias   string        // the name to look up in KnownHosts; "" is Host and Port
	HashKnownHosts bool          // whether names are hashed in lines that are added
	// HostKeyCallback decides about the host key in place of KnownHosts.
	HostKeyCallback ssh.HostKeyCallback
	// HostKeyAlgorithms are those accepted when HostKeyCallback is set; nil is all that x/crypto has by default.
	HostKeyAlgorithms []string

	Identities        []string // private key files, offered first
	DefaultIdentities []string // private key files offered last, after the agent's
	IdentitiesOnly    bool     // do not offer keys of the agent that are not among the identities
	Agent             string   // the agent's socket; "" uses no agent
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
}

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
	fmt.Fprintf(&b, "%q %q %d %q %q %q %t %q", e.User, e.Host, e.port(), e.ShareName, e.Identities, e.DefaultIdentities,
		e.IdentitiesOnly, e.Agent)
	fmt.Fprintf(&b, " %q %d %q %d %d %d", e.KnownHosts, e.StrictHostKey, e.HostKeyAlias, e.ConnectTimeout, e.KeepAlive, e.KeepAliveMax)
	return b.String()
}

// login is the same for those who log in as the same user of the same server with the same keys.
func (e *Endpoint) login() string {
	return fmt.Sprintf("%s %q %q %q %t %q", e.path(), e.User, e.Identities, e.DefaultIdentities, e.IdentitiesOnly, e.Agent)
}

// path names the server as seen through its jumps: connections with the same path land on the same sshd.
func (e *Endpoint) path() string {
	var b strings.Builder
	for i := range e.Jumps {
		b.WriteString(e.Jumps[i].addr() + " ")
	}
	return b.String() + e.addr()
}
