package capture

import (
	"errors"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// helper runs the helper, with sudo when it turns out to need it and may.
func (s *stream) helper(conn *sshx.Conn) error {
	mode := s.instance.run.cfg.Sudo
	err := s.inTurn(conn, mode == SudoAlways)
	if mode == SudoAlways {
		err = s.otherRights(conn, err)
	}
	if err == errTimeUp {
		return err
	}
	var failure *remote.Failure
	if mode != SudoAuto || s.instance.settings().Fallback != "" || !errors.As(err, &failure) || failure.Kind != remote.NoPermission {
		return s.instance.explain(s.nameInterfaces(conn, err))
	}
	again := s.nameInterfaces(conn, s.otherRights(conn, s.yielding(conn, true)))
	if !sudoUnavailable(again) {
		return again
	}
	return &Error{Problem: failure.Problem + ", and " + again.Error(), Tip: hintOf(again), Err: again}
}

// sudoUnavailable reports whether it was sudo itself that did not work.
func sudoUnavailable(err error) bool {
	var failure *remote.Failure
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.Kind {
	case remote.NoSudo, remote.SudoPassword, remote.SudoTTY, remote.SudoRefused:
		return true
	}
	return false
}

// otherRights asks, where sudo does not run sh, what the user may do instead: doas may run it, which is tried then, or sudo
// the helper alone, which is told.
func (s *stream) otherRights(conn *sshx.Conn, err error) error {
	var failure *remote.Failure
	if s.doas || !errors.As(err, &failure) || !sudoUnavailable(err) || failure.Kind == remote.NoSudo || conn.Err() != nil {
		return err
	}
	r, in := s.instance.run, s.instance.settings()
	command := r.cfg.command(in, s.iface, true)
	command.Helper = s.helperOf(command, in)
	rights := remote.ReadRights(r.cfg.ask(r.active, conn, command.RightsLine(), remote.MaxRights).text)
	switch {
	case rights.Doas:
		s.doas = true
		return s.yielding(conn, true)
	case rights.Helper:
		return failure.OnlyHelper()
	}
	return err
}
