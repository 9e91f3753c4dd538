// Package sshx runs one command on one host over SSH, in the manner of os/exec: it dials, logs in, checks host keys and
// follows ssh_config and jump hosts. It knows nothing of what the command does, and never opens a terminal or forwards an agent.
package sshx

import (
	"context"
	"sync"
	"time"
)

// Defaults of what neither the Dialer nor ssh_config sets.
const (
	DefaultConnectTimeout    = 10 * time.Second
	DefaultKeepAliveInterval = 15 * time.Second
	DefaultKeepAliveMax      = 3
)

// Dialer opens connections. The zero value reads ~/.ssh/config and the system's ssh_config, uses the agent and the
// default keys, checks known_hosts and never asks anybody anything. All its methods may be called at the same time;
// its fields must not change after the first call. Connections are shared among the callers of one Dialer.
type Dialer struct {
	// ConfigFile is read in place of ~/.ssh/config and /etc/ssh/ssh_config; "none" reads no file at all.
	ConfigFile string
	// Login is the user of targets that name none; "" is ssh_config's User, then the local user.
	Login string
	// Identities are private key files that are offered first. One that cannot be read is an error.
	Identities []string
	// Jump is a ProxyJump value for every target; "" is ssh_config's, "none" goes directly.
	Jump string
	// ConnectTimeout bounds each hop from the first packet to the accepted login. 0 is ssh_config's ConnectTimeout,
	// then 10 s. Time spent in Prompt or waiting for a place in the queue of an endpoint does not count.
	ConnectTimeout time.Duration
	// InsecureIgnoreHostKey accepts every host key, of jump hosts too.
	InsecureIgnoreHostKey bool
	// Prompt asks for a passphrase or a password; nil never asks. Calls come one at a time. It must return when
	// ctx is done.
	Prompt func(ctx context.Context, p Prompt) (string, error)
	// Warn gets notices of one line, such as a host key that was added; nil drops them.
	Warn func(string)

	once  sync.Once
	state *state
}

// Prompt is one question.
type Prompt struct {
	Text string // ends in a colon and a space; holds no control characters
	Echo bool   // whether the answer may be shown while it is typed
}

// state is what a Dialer remembers.
type state struct {
	config   configCache
	pool     pool
	limits   limiters
	backlog  backlog
	keys     keyring
	accepted accepted
	hosts    hostKeys
	revoked  revocations
	asking   chan struct{} // holds one token; whoever has it may call Prompt
	warnedMu sync.Mutex
	warned   map[string]bool
}

func (d *Dialer) init() *state {
	d.once.Do(func() {
		d.state = &state{asking: make(chan struct{}, 1), warned: map[string]bool{}}
	})
	return d.state
}

// Dial connects to "[ssh://][user@]host[:port]" as ssh_config says. ctx bounds the whole of it and means nothing
// afterwards. Targets that resolve to the same endpoint share a connection, which is closed with its last Conn.
func (d *Dialer) Dial(ctx context.Context, target string) (*Conn, error) {
	e, err := d.Resolve(target)
	if err != nil {
		return nil, err
	}
	return d.DialEndpoint(ctx, e)
}

// DialEndpoint connects to an endpoint that the caller knows everything of; ssh_config is not read.
func (d *Dialer) DialEndpoint(ctx context.Context, e Endpoint) (*Conn, error) {
	f, err := d.acquire(ctx, e.flat())
	if err != nil {
		return nil, err
	}
	return &Conn{d: d, f: f}, nil
}

// warn tells text once in the life of the Dialer.
func (d *Dialer) warn(text string) { d.warnOnce(text, text) }

// warnOnce tells text if nothing was told about the same thing in the life of the Dialer.
func (d *Dialer) warnOnce(about, text string) {
	if d.Warn == nil {
		return
	}
	s := d.init()
	s.warnedMu.Lock()
	defer s.warnedMu.Unlock()
	if !s.warned[about] {
		s.warned[about] = true
		d.Warn(text)
	}
}
