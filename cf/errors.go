package cf

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Kind tells errors apart.
type Kind int

// The kinds of Error.
const (
	KindOther          Kind = iota
	KindTarget              // the target is not of the form APP[/PROCESS][/INDEX…]
	KindConfig              // the cf CLI's config cannot be read, or is of a kind that is not supported
	KindNoAPI               // no API endpoint is set
	KindNotLoggedIn         // nobody is logged in
	KindNoOrg               // no org is targeted
	KindNoSpace             // no space is targeted
	KindLoginExpired        // the login has expired or was revoked: the user has to log in again
	KindUnreachable         // the API or the UAA cannot be reached, or does not answer in time
	KindUntrusted           // the certificate of the API or the UAA is not trusted
	KindServer              // the API or the UAA has a problem of its own
	KindRateLimit           // too many requests
	KindForbidden           // the user may not do this
	KindBadAnswer           // the answer makes no sense
	KindNotFound            // what was there a moment ago is gone
	KindNoApp               // no such app in the space
	KindStopped             // the app is not started
	KindNoProcess           // the app has no such process
	KindNoInstance          // the process has no instance with that index
	KindNotRunning          // the instance is there, but is not running; or none is
	KindNoEndpoint          // the platform tells no SSH endpoint
	KindNoFingerprint       // the platform tells no fingerprint of its SSH host key
	KindHostKey             // the SSH host key is not the one of the fingerprint
	KindNoScope             // the login is of a kind that gets no one-time codes
	KindCode                // no one-time code was given
	KindSSHDisabled         // SSH is disabled for the app, its space or the platform
	KindLoginRefused        // the one-time code was refused although SSH is enabled
	KindContainer           // logged in, but the instance's container does not answer
	KindSSHUnreachable      // the SSH endpoint cannot be reached
	KindProxy               // the proxy for SSH cannot be used
	KindLost                // the connection to the instance broke off
)

// Error is a problem in plain words and what to do about it. No token, code or secret is ever in it.
type Error struct {
	Kind    Kind
	Problem string // one line; what the cf CLI has a text for has that text
	Tip     string // what to do; may be empty
	Err     error  // the cause; may be nil
}

func (e *Error) Error() string { return e.Problem }

// Hint says what to do; it may be empty.
func (e *Error) Hint() string { return e.Tip }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf gives the kind of the first *Error in err's chain, else KindOther.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindOther
}

func problem(kind Kind, tip, format string, args ...any) *Error {
	return &Error{Kind: kind, Tip: tip, Problem: fmt.Sprintf(format, args...)}
}

// oneLine makes foreign text safe to print: one line, no control characters, not too long.
func oneLine(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return s
}
