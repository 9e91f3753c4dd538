package capture

import (
	"errors"
	"slices"
	"strings"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// yielding makes attempts, and each time the helper fails for something that we ask for and the user did not, one more
// without it.
func (s *stream) yielding(conn *sshx.Conn, sudo bool) error {
	for {
		err := s.attempt(conn, sudo)
		if !s.yield(err) || conn.Err() != nil || s.instance.run.active.Err() != nil {
			return err
		}
	}
}

// yield takes back what a helper has failed for, and reports whether there was anything. Nothing is taken back from a
// stream that has captured: the interface is the same.
func (s *stream) yield(err error) bool {
	var failure *remote.Failure
	if s.forgetNames(err) {
		return true
	}
	if s.hasOpened() || !errors.As(err, &failure) || failure.Refused == 0 {
		return false
	}
	command := s.instance.run.cfg.command(s.instance.settings(), s.iface, false)
	lacks := s.lacks()
	for _, extra := range lacks {
		command, _ = command.Without(extra)
	}
	if _, had := command.Without(failure.Refused); !had {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.without = append(lacks, failure.Refused)
	return true
}

// forgetNames leaves names of hosts behind a jump host out of what it excludes, and reports whether there were any: it may be
// that it does not know them.
func (s *stream) forgetNames(err error) bool {
	if s.nameless || failureKind(err) != remote.BadFilter || !s.instance.namesRelays() {
		return false
	}
	s.nameless = true
	return true
}

// lacks are the extras that its interface does not take.
func (s *stream) lacks() []remote.Extra {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.without)
}

// tellLacks tells, when it captures for the first time, what may be missing for want of an extra, or too much.
func (s *stream) tellLacks() {
	for _, extra := range s.lacks() {
		text := ""
		switch extra {
		case remote.ExtraSelfFilter:
			text = "takes no filter that leaves our own SSH connection out: where that passes there, it is captured, too"
		case remote.ExtraImmediate:
			text = "gives packets late: those of the last second before the stop may be missing"
		default:
			continue
		}
		s.instance.run.emit(Event{Kind: Note, Instance: s.instance.Name, Text: s.iface + " " + text})
	}
}

func names(extras []remote.Extra) []string {
	list := make([]string, len(extras))
	for i, x := range extras {
		list[i] = x.String()
	}
	return list
}

// nameInterfaces makes the hint of an error name the network interfaces that there are, in place of the one that is not.
func (s *stream) nameInterfaces(conn *sshx.Conn, err error) error {
	r, in := s.instance.run, s.instance
	if failureKind(err) != remote.NoInterface || s.hasOpened() || r.out == nil { // a check asks anyway
		return err
	}
	in.asking.Do(func() { in.about, _ = r.cfg.about(r.active, conn, r.cfg.command(in.settings(), s.iface, false)) })
	return withInterfaces(err, s.iface, in.about)
}

// withInterfaces adds to an error about an interface which there are.
func withInterfaces(err error, iface string, about remote.About) error {
	if failureKind(err) != remote.NoInterface || len(about.Interfaces) == 0 {
		return err
	}
	const most = 20
	var has []string
	for _, i := range about.Interfaces[:min(len(about.Interfaces), most)] {
		has = append(has, i.Name)
	}
	if len(about.Interfaces) > most {
		has = append(has, "…")
	}
	tip := "it has " + strings.Join(has, ", ") + ": pass one of them to --interface"
	if iface != "any" && about.HasAny() {
		tip += ", or use --interface any"
	} else {
		tip += ", or several; only Linux and recent versions of macOS have an interface any"
	}
	return &Error{Problem: err.Error(), Tip: tip, Err: err}
}
