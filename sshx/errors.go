package sshx

import (
	"errors"
	"fmt"
)

// Kind tells errors apart.
type Kind int

// The kinds of Error.
const (
	KindOther           Kind = iota
	KindTarget               // the target is not of the form [ssh://][user@]host[:port]
	KindConfig               // ssh_config cannot be read or says something impossible
	KindUnknownHost          // the name does not resolve
	KindRefused              // nobody listens on that port
	KindUnreachable          // no way to the host
	KindTimeout              // no answer in time
	KindDropped              // the server hung up before it said who it is, again and again
	KindNotSSH               // something else than an SSH server answered
	KindNoCommonCrypto       // client and server have no algorithm in common
	KindUnknownHostKey       // the host key is in no known_hosts file
	KindChangedHostKey       // known_hosts has another key
	KindRevokedHostKey       // known_hosts says that the key must not be used
	KindBadHostCert          // the host certificate is expired or is for another host
	KindKnownHosts           // a known_hosts file cannot be read or written
	KindIdentity             // an identity file cannot be used
	KindEncryptedKey         // a key needs a passphrase that nobody can be asked for
	KindLoginRefused         // no key and no password was accepted
	KindJump                 // the jump host cannot or will not go on to the target
	KindTooManySessions      // the server allows no further session on this connection
	KindCommandRefused       // the server will not run a command
	KindLost                 // the connection died
	KindHostKey              // the endpoint's own HostKeyCallback refused the key
	KindAuth                 // the endpoint's own Auth gave no way to log in
)

// Error is a problem in plain words and what to do about it. It does not name the target (the caller knows that),
// but it does name another host that is at fault.
type Error struct {
	Kind    Kind
	Problem string // one line, lower case
	Tip     string // what to do; may have further lines, such as a known_hosts entry
	Hop     string // the jump host at fault; "" is the target itself
	Err     error  // the cause; may be nil
}

func (e *Error) Error() string {
	if e.Hop != "" {
		return "jump host " + e.Hop + ": " + e.Problem
	}
	return e.Problem
}

// Hint says what to do; it may be empty.
func (e *Error) Hint() string { return e.Tip }

// foreign gives an error of a func of the endpoint's a kind; its words and hint stay.
func foreign(kind Kind, err error) error {
	if err == nil || KindOf(err) != KindOther {
		return err
	}
	e := &Error{Kind: kind, Problem: err.Error(), Err: err}
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		e.Tip = h.Hint()
	}
	return e
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf gives the kind of the first *Error in err's chain, else KindOther.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindOther
}

// atHop gives err with the jump host's name, unless a host is named already.
func atHop(err error, hop string) error {
	e, ok := err.(*Error)
	if !ok || e.Hop != "" || hop == "" {
		return err
	}
	named := *e
	named.Hop = hop
	return &named
}

// Reasons for which a transport ends.
var (
	// ErrKeepAlive is why a connection was given up: the host did not answer for the whole keep-alive time.
	ErrKeepAlive = errors.New("the host stopped answering")
	// ErrLost is the end of a process of which no exit status came: the connection died, or the server lost it.
	ErrLost = errors.New("connection lost")
	// ErrClosed is why a connection that was closed on our side ended.
	ErrClosed = errors.New("connection closed")
)

// ExitError is a command that ended with a status other than 0, or by a signal.
type ExitError struct {
	Status int    // as the shell has it: 128 + n when ended by signal n and the server sent none itself
	Signal string // without SIG, such as INT; "" when it exited by itself
	Text   string // what the server says about it; often empty
}

func (e *ExitError) Error() string {
	if e.Signal != "" {
		return "ended by signal " + e.Signal
	}
	return fmt.Sprintf("exit status %d", e.Status)
}

// lostError says why a connection was lost; it matches ErrLost and the reason.
type lostError struct{ reason error }

func (e *lostError) Error() string {
	if e.reason == nil {
		return "the server closed the session without an exit status"
	}
	return "connection lost: " + e.reason.Error()
}

func (e *lostError) Unwrap() []error {
	if e.reason == nil {
		return []error{ErrLost}
	}
	return []error{ErrLost, e.reason}
}

func (e *lostError) Hint() string {
	if errors.Is(e.reason, ErrKeepAlive) {
		return "check the network to the host; ServerAliveInterval and ServerAliveCountMax in ssh_config set how long to wait"
	}
	return "check whether the host or its SSH server was restarted"
}
