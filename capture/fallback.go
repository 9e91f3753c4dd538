package capture

import (
	"fmt"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// choice is which helper a stream's next attempt takes. The stream's mu guards it.
type choice struct {
	fallback   bool   // the instance's, in place of the one that is found there
	passedOver string // why the one that is found there is not taken; "" = it is taken
	opened     bool   // the latest attempt
}

// inTurn starts the helper that is found on the instance and, where it turns out not to capture there, the instance's
// fallback.
func (s *stream) inTurn(conn *sshx.Conn, sudo bool) error {
	s.choose("")
	first := s.yielding(conn, sudo)
	if sudo || !s.mayFallBack(first) {
		return first
	}
	s.choose(first.Error())
	second := s.yielding(conn, false)
	if failureKind(second) == remote.NoHelper { // the first one's failure says more
		return &Error{Problem: first.Error() + ", and " + second.Error(), Tip: hintOf(second), Err: second}
	}
	return second
}

// choose takes the fallback where there is a reason.
func (s *stream) choose(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fallback, s.passedOver = reason != "", reason
}

// mayFallBack reports whether an attempt failed because of its helper, and there is another one to try.
func (s *stream) mayFallBack(err error) bool {
	fallback := s.instance.settings().Fallback
	if fallback == "" || !chosenThere(s.instance.run.cfg.Helper) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.choice.opened || !s.report.Counts() { // it captured, or it was the fallback
		return false
	}
	switch failureKind(err) {
	case remote.NoPermission, remote.OldHelper, remote.HelperFailed, remote.NoHelper, remote.Killed:
		return true
	}
	return false
}

// chosenThere reports whether a helper is chosen on the instance.
func chosenThere(helper string) bool { return helper == "" || helper == "auto" }

// helperOf is the helper of the next attempt, where it is not to be the one of the configuration.
func (s *stream) helperOf(c remote.Command, in Instance) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fallback {
		return in.Fallback
	}
	return c.Helper
}

// notes are what is to be known of an instance's helper.
func (s *stream) notes() (notes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passedOver != "" && s.open {
		notes = append(notes, fmt.Sprintf("%s captured in place of another helper: %s", s.report.Helper, s.passedOver))
	}
	if s.open && !s.report.Counts() {
		notes = append(notes, s.report.Helper+NotCounted)
	}
	return notes
}

// NotCounted ends the note of an instance whose helper never reports what it drops, behind the helper's path.
const NotCounted = ": packets that it drops are not counted there; they are lost when the container is short of CPU"
