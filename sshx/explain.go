package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"
)

// plain gives an error's text without the parts that only programmers need.
func plain(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			return path.Path + ": " + errno.Error()
		}
		return errno.Error()
	}
	text := err.Error()
	for _, prefix := range []string{"ssh: handshake failed: ", "ssh: ", "knownhosts: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return oneLine(text)
}

// oneLine makes foreign text safe to print: one line, no control characters, not too long.
func oneLine(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
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

// disconnectReason gives the text of the server's SSH_MSG_DISCONNECT. Its type is not exported.
func disconnectReason(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	_, text, ok := strings.Cut(err.Error(), "ssh: disconnect, reason ")
	if !ok {
		return "", false
	}
	if _, after, ok := strings.Cut(text, ": "); ok {
		text = after
	}
	return oneLine(text), true
}

// contextError says why ctx ended; progress is what the server has done so far, "" when not even connected.
func (h *handshake) contextError(ctx context.Context, progress string) error {
	if context.Cause(ctx) != errBudget {
		return contextError(ctx)
	}
	if h.jump != nil && h.jump.ended() {
		return h.jumpDied()
	}
	if progress == "" && h.jump != nil {
		return &Error{Kind: KindTimeout, Hop: h.jumpName, Problem: fmt.Sprintf("has not connected on to %s within %s", h.e.addr(), shortTime(h.timeout)),
			Tip: "check from there that the host can be reached, or allow more time with --connect-timeout", Err: errBudget}
	}
	if progress == "" {
		return &Error{Kind: KindTimeout, Problem: fmt.Sprintf("no answer from port %d within %s", h.e.port(), shortTime(h.timeout)),
			Tip: "check the address, the port and firewalls in between, or allow more time with --connect-timeout", Err: errBudget}
	}
	return &Error{Kind: KindTimeout, Problem: fmt.Sprintf("port %d %s within %s", h.e.port(), progress, shortTime(h.timeout)),
		Tip: "check that an SSH server listens on that port and is not overloaded, or allow more time with --connect-timeout", Err: errBudget}
}

func shortTime(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Second / 10)
	}
	return d.String()
}

// jumpDied is the error when the jump host's connection is gone.
func (h *handshake) jumpDied() error {
	<-h.jump.done
	return &Error{Kind: KindLost, Hop: h.jumpName, Problem: "connection lost: " + h.jump.err.Error(), Tip: (&lostError{h.jump.err}).Hint(),
		Err: &lostError{h.jump.err}}
}

// explainConnect is about the TCP connection.
func (h *handshake) explainConnect(err error) error {
	if b, ok := errors.AsType[*bindError](err); ok {
		return explainBind(b)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return h.explainName(dns)
	}
	if _, ok := errors.AsType[*net.AddrError](err); ok && h.e.AddressFamily != "" {
		return &Error{Kind: KindUnreachable, Problem: "the host has no address of the family " + h.e.AddressFamily, Err: err,
			Tip: "check AddressFamily in ssh_config; any allows both families"}
	}
	at := fmt.Sprintf("port %d", h.e.port())
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Kind: KindRefused, Problem: "connection refused on " + at, Err: err,
			Tip: "check that its SSH server runs and listens on that port; another port is given as HOST:PORT"}
	case errors.Is(err, syscall.ETIMEDOUT):
		return &Error{Kind: KindTimeout, Problem: "no answer from " + at, Err: err,
			Tip: "check the address, the port and firewalls in between"}
	case errors.Is(err, syscall.ECONNRESET):
		return &Error{Kind: KindDropped, Problem: "connection reset on " + at, Err: err, Tip: droppedTip}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return &Error{Kind: KindUnreachable, Problem: "unreachable: " + plain(err), Err: err,
			Tip: "check the address and the route to it; hosts behind another one are reached with -J, --jump"}
	}
	return &Error{Kind: KindUnreachable, Problem: "cannot connect to " + at + ": " + plain(err), Err: err,
		Tip: "check the network, firewalls and limits of this machine"}
}

func (h *handshake) explainName(dns *net.DNSError) error {
	what := "unknown host name"
	if h.e.Target != "" {
		if t, err := ParseTarget(h.e.Target); err != nil || t.Host != h.e.Host {
			what += " " + oneLine(h.e.Host) // ssh_config gave it another name
		}
	}
	if dns.IsNotFound {
		return &Error{Kind: KindUnknownHost, Problem: what, Err: dns,
			Tip: "check the spelling, or give the name a Host block with a HostName in ssh_config"}
	}
	return &Error{Kind: KindUnknownHost, Problem: "the host name cannot be looked up: " + oneLine(dns.Err), Err: dns,
		Tip: "check this machine's name servers and its network"}
}

// explainSlowName is about a look-up that had not ended when the time was up.
func (h *handshake) explainSlowName(dns *net.DNSError) error {
	return &Error{Kind: KindUnknownHost, Problem: "the host name cannot be looked up: no answer within " + shortTime(h.timeout), Err: dns,
		Tip: "check this machine's name servers and its network, or allow more time with --connect-timeout"}
}

const droppedTip = "the server may be busy (MaxStartups in its sshd_config) or may block this machine (hosts.deny, fail2ban); try again later"

// explainJump is about the jump host's refusal to connect on.
func (h *handshake) explainJump(err error) error {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	if !ok {
		if h.jump.diesNow() {
			return h.jumpDied()
		}
		return &Error{Kind: KindJump, Hop: h.jumpName, Problem: "cannot open a connection to " + h.e.addr() + ": " + plain(err), Err: err}
	}
	e := &Error{Kind: KindJump, Hop: h.jumpName, Err: err, Problem: "cannot reach " + h.e.addr() + ": " + oneLine(refused.Message),
		Tip: "the jump host itself must be able to resolve the name and to reach the port; check both there"}
	if refused.Reason == ssh.Prohibited {
		e.Problem = "will not connect on to " + h.e.addr() + ": " + oneLine(refused.Message)
		e.Tip = "AllowTcpForwarding and PermitOpen in the jump host's sshd_config must allow it"
	}
	return e
}

// diesNow waits a moment for the reason of a failure that may be the connection's death.
func (t *transport) diesNow() bool {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-t.done:
		return true
	case <-timer.C:
		return false
	}
}

// explain says why the handshake failed.
func (a *attempt) explain(err error) error {
	if a.ctx.Err() != nil {
		return a.contextError(a.ctx, a.sock.progress())
	}
	switch {
	case a.hostKeyErr != nil:
		return a.hostKeyErr
	case a.login.err != nil:
		return a.login.err
	}
	if a.jump != nil && a.jump.ended() {
		return a.jumpDied()
	}
	if why, ok := disconnectReason(err); ok {
		if a.login.begun {
			return a.login.refused(why)
		}
		return &Error{Kind: KindDropped, Problem: "the server hung up: " + why, Err: err, Tip: droppedTip}
	}
	if common, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok {
		return a.explainNegotiation(common)
	}
	return a.explainSilence(err)
}

// explainNegotiation is about algorithms that are not the server's.
func (a *attempt) explainNegotiation(err *ssh.AlgorithmNegotiationError) error {
	e := &Error{Kind: KindNoCommonCrypto, Problem: plain(err), Err: err,
		Tip: "the server allows none of the algorithms that are held to be safe today; update it or its sshd_config, or add what it has in ssh_config (KexAlgorithms +NAME)"}
	if a.e.Algorithms.limited() || a.e.HostKeyAlgorithms != nil || a.e.hostKeyBase != nil {
		e.Tip = "ssh_config limits the algorithms (Ciphers, MACs, KexAlgorithms, HostKeyAlgorithms); allow one that the server has"
	}
	return e
}

// explainSilence is about connections that ended without a word of SSH.
func (a *attempt) explainSilence(err error) error {
	introduced, said, ioErr := a.sock.state()
	switch {
	case !introduced && isDropNotice(said):
		return &Error{Kind: KindDropped, Problem: "the server hung up at once: " + firstLine(said), Err: err, Tip: droppedTip}
	case !introduced && firstLine(said) != "":
		return &Error{Kind: KindNotSSH, Problem: fmt.Sprintf("port %d is no SSH server: it said %q", a.e.port(), firstLine(said)), Err: err,
			Tip: "check the port; another one is given as HOST:PORT"}
	case !introduced && ioErr != nil:
		return &Error{Kind: KindDropped, Problem: "the server hung up at once: " + hangUp(ioErr), Err: err, Tip: droppedTip}
	case a.login.begun:
		return a.login.refused(plain(err))
	case ioErr != nil:
		return &Error{Kind: KindDropped, Problem: "the server hung up during the handshake: " + hangUp(ioErr), Err: err, Tip: droppedTip}
	}
	return &Error{Kind: KindOther, Problem: "SSH handshake: " + plain(err), Err: err}
}

// isDropNotice knows what sshd says, in plain text, to connections that it drops.
func isDropNotice(said string) bool {
	return strings.Contains(said, "Exceeded MaxStartups") || strings.Contains(said, "Not allowed at this time")
}

func hangUp(err error) string {
	if errors.Is(err, io.EOF) {
		return "connection closed"
	}
	return plain(err)
}
