package capture

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/sshpcap/sshpcap/merge"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// CheckReport is whether a capture would work. Its JSON form is documented in docs/check.md; Version counts its changes.
type CheckReport struct {
	Version   int             `json:"version"`
	Program   string          `json:"program"`
	Started   time.Time       `json:"started"`
	Ended     time.Time       `json:"ended"`
	Problem   string          `json:"problem"` // why the capture as a whole would fail, whatever the instances
	Hint      string          `json:"hint"`
	Instances []InstanceCheck `json:"instances"`
}

// Works counts the instances that would be captured on.
func (r CheckReport) Works() (n int) {
	for _, in := range r.Instances {
		if in.Works && r.Problem == "" {
			n++
		}
	}
	return n
}

// InstanceCheck is one instance's part. What is empty or null is not known, or not there.
type InstanceCheck struct {
	Name     string         `json:"name"`
	Target   string         `json:"target"`
	Address  string         `json:"address"` // as in InstanceReport
	Works    bool           `json:"works"`
	Steps    []StepCheck    `json:"steps"` // all of them, in their order
	Problems []CheckProblem `json:"problems"`
	Notes    []string       `json:"notes"` // what does not hinder a capture

	Server        string           `json:"server"` // how the SSH server introduces itself
	System        string           `json:"system"` // its kernel
	Helper        string           `json:"helper"` // path on the instance
	HelperVersion string           `json:"helper_version"`
	User          *int             `json:"uid"`  // of the login
	Sudo          bool             `json:"sudo"` // the helper needs it
	Captures      []InterfaceCheck `json:"captures"`
	Interfaces    []NetInterface   `json:"interfaces"` // that it has; null = not known

	Clock      *Clock   `json:"clock"`
	Sessions   *Room    `json:"sessions"`
	RoundTrip  *float64 `json:"round_trip_ms"`
	Throughput *float64 `json:"bytes_per_second"`
}

// Step is something that must be in order for a capture. Steps are looked at in this order, and after one that fails the
// rest is not reached.
type Step string

const (
	StepReach     Step = "reach"     // an SSH server answers
	StepHostKey   Step = "host_key"  // it is the right one
	StepLogin     Step = "login"     // it lets us in and runs commands
	StepSessions  Step = "sessions"  // it allows sessions, on one connection or several
	StepHelper    Step = "helper"    // there is one that works
	StepRights    Step = "rights"    // it may capture
	StepInterface Step = "interface" // there is such a network interface, and it is up
	StepFilter    Step = "filter"    // the helper takes the filter
)

var allSteps = []Step{StepReach, StepHostKey, StepLogin, StepSessions, StepHelper, StepRights, StepInterface, StepFilter}

// StepState is how a step came out.
type StepState string

const (
	StepPassed  StepState = "ok"
	StepFailed  StepState = "failed"
	StepSkipped StepState = "skipped" // not reached, or not looked at
)

// StepCheck is one step.
type StepCheck struct {
	Step  Step      `json:"step"`
	State StepState `json:"state"`
}

// CheckProblem is why a step failed.
type CheckProblem struct {
	Step      Step   `json:"step"`      // "" = it is about the instance as a whole
	Interface string `json:"interface"` // "" = it is about all
	Problem   string `json:"problem"`
	Hint      string `json:"hint"`
}

// InterfaceCheck is one of the interfaces to capture on.
type InterfaceCheck struct {
	Interface string `json:"interface"`
	LinkType  string `json:"link_type"` // "" = it was not captured on
	Works     bool   `json:"works"`
}

// NetInterface is a network interface of an instance.
type NetInterface struct {
	Name      string         `json:"name"`
	State     string         `json:"state"` // "up", "down"; "" = not known
	Addresses []netip.Prefix `json:"addresses"`
}

// Room is how many sessions a connection has room for, when there is none on it.
type Room struct {
	Free int  `json:"free"`
	More bool `json:"more"` // that is as far as it was looked
}

// report puts together what run has found.
func (c *checkup) report() InstanceCheck {
	in := c.cfg.Instances[0]
	rep := InstanceCheck{
		Name: in.Name, Target: in.Target, Address: c.address, Problems: c.problems(), Notes: append([]string{}, c.notes...),
		Server: c.server, System: c.about.System, Helper: c.told.Helper, HelperVersion: c.about.Version,
		Interfaces: netInterfaces(c.about), Sudo: slices.ContainsFunc(c.streams, func(s *stream) bool { return s.open && s.report.Sudo }),
		RoundTrip: known(milliseconds(c.trip)), Throughput: known(c.rate),
	}
	if rep.Target == "" {
		rep.Target = in.Name
	}
	if c.room >= 0 {
		rep.Sessions = &Room{Free: c.room, More: c.room == roomCount}
	}
	if c.clock.Known {
		rep.Clock = &c.clock
	}
	if c.clock.isOff() && !c.cfg.AlignClocks {
		rep.Notes = append(rep.Notes, "its clock is "+aheadOrBehind(c.clock.Offset)+"; packets stand where it says; hint: --align-clocks")
	}
	if uid := c.told.UID; c.told.Helper != "" && uid >= 0 {
		rep.User = &uid
	}
	for _, s := range c.streams {
		rep.Captures = append(rep.Captures, c.interfaceCheck(s))
	}
	rep.Steps = c.steps()
	rep.Works = len(rep.Problems) == 0
	return rep
}

func (c *checkup) interfaceCheck(s *stream) InterfaceCheck {
	header, ok := c.headers[s]
	check := InterfaceCheck{Interface: s.iface, Works: ok && s.err == nil}
	if ok {
		check.LinkType = header.LinkType.String()
	}
	return check
}

// known is nil for what was not measured.
func known(x float64) *float64 {
	if x <= 0 {
		return nil
	}
	return &x
}

func netInterfaces(a remote.About) []NetInterface {
	var all []NetInterface
	for _, i := range a.Interfaces {
		all = append(all, NetInterface{Name: i.Name, State: i.State, Addresses: append([]netip.Prefix{}, i.Addresses...)})
	}
	return all
}

// steps sums up the connection and the streams: a step that failed for one of them has failed.
func (c *checkup) steps() []StepCheck {
	state := make(map[Step]StepState)
	pass := func(until int) {
		for _, step := range allSteps[:until] {
			if state[step] != StepFailed {
				state[step] = StepPassed
			}
		}
	}
	if c.unable == nil {
		pass(slices.Index(allSteps, StepLogin) + 1)
	}
	for _, s := range c.streams {
		if _, ok := c.headers[s]; ok {
			pass(len(allSteps))
		}
	}
	for _, p := range c.problems() {
		if at := slices.Index(allSteps, p.Step); at >= 0 {
			pass(at)
			state[p.Step] = StepFailed
		}
	}
	var steps []StepCheck
	for _, step := range allSteps {
		if state[step] == "" {
			state[step] = StepSkipped
		}
		steps = append(steps, StepCheck{step, state[step]})
	}
	return steps
}

// errUnchecked is what is not known because nobody wanted to wait for it.
var errUnchecked = &Error{Problem: "the check was stopped before it came to this", Tip: "let it run to its end, or allow less with --connect-timeout"}

// problems are what hinders a capture: that there is no connection, or what the streams ended with.
func (c *checkup) problems() []CheckProblem {
	problems := []CheckProblem{}
	add := func(step Step, iface string, err error) {
		p := CheckProblem{Step: step, Problem: err.Error(), Hint: hintOf(err)}
		if same := func(q CheckProblem) bool { q.Interface = ""; return q == p }; slices.ContainsFunc(problems, same) {
			problems[slices.IndexFunc(problems, same)].Interface = "" // it is not this interface's alone
			return
		}
		p.Interface = iface
		problems = append(problems, p)
	}
	if c.problem != nil {
		add("", "", c.problem)
	}
	switch {
	case c.unable != nil && c.ended:
		add("", "", errUnchecked)
		return problems
	case c.unable != nil:
		add(stepOfConnection(c.unable), "", c.unable)
		return problems
	}
	for _, s := range c.streams {
		iface := s.iface
		if len(c.streams) == 1 {
			iface = ""
		}
		_, opened := c.headers[s]
		switch {
		case s.err != nil:
			add(stepOf(s), iface, withInterfaces(s.err, s.iface, c.about))
		case !opened:
			add("", "", errUnchecked)
		}
	}
	return problems
}

// stepOfConnection is the step at which there was no connection.
func stepOfConnection(err error) Step {
	switch sshx.KindOf(err) {
	case sshx.KindUnknownHostKey, sshx.KindChangedHostKey, sshx.KindRevokedHostKey, sshx.KindBadHostCert, sshx.KindKnownHosts, sshx.KindHostKey:
		return StepHostKey
	case sshx.KindIdentity, sshx.KindEncryptedKey, sshx.KindLoginRefused, sshx.KindAuth:
		return StepLogin
	}
	return StepReach
}

// stepOf is the step at which a stream failed.
func stepOf(s *stream) Step {
	if step := stepOfFailure(failureKind(s.err)); step != "" {
		return step
	}
	var format *merge.FormatError
	switch kind := sshx.KindOf(s.err); {
	case kind == sshx.KindTooManySessions:
		return StepSessions
	case kind == sshx.KindCommandRefused, errors.As(s.err, &format):
		return StepLogin
	case kind == sshx.KindLost, errors.Is(s.err, sshx.ErrLost):
		return StepReach
	case s.report.Started:
		return StepHelper
	}
	return StepLogin
}

func stepOfFailure(kind remote.Kind) Step {
	switch kind {
	case 0:
		return ""
	case remote.NoShell:
		return StepLogin
	case remote.NoPermission, remote.NotEnabled, remote.NoSudo, remote.SudoPassword, remote.SudoTTY, remote.SudoRefused:
		return StepRights
	case remote.NoInterface, remote.InterfaceDown, remote.InterfaceGone:
		return StepInterface
	case remote.BadFilter:
		return StepFilter
	}
	return StepHelper
}
