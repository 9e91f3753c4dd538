package capture

import (
	"context"
	"fmt"
	"sync"

	"github.com/sshpcap/sshpcap/remote"
)

// Listing is what is known of an instance without capturing on it. Its JSON form is documented in docs/check.md.
type Listing struct {
	Name       string         `json:"name"`
	Target     string         `json:"target"`
	State      string         `json:"state"`      // StateUp, StateFailed, or as its platform has it
	Address    string         `json:"address"`    // as in InstanceReport
	Interfaces []NetInterface `json:"interfaces"` // null = not known
	Details    string         `json:"details"`    // more, for people
	Problem    string         `json:"problem"`
	Hint       string         `json:"hint"`
}

// The states of an SSH host.
const (
	StateUp     = "up"
	StateFailed = "failed" // what is asked for could not be found out
)

// List connects to the instances of a configuration and asks them what they are and have. It returns when all have told
// or ctx has ended; a problem with one is in its listing. ConnectTimeout bounds each answer. Nothing is captured, and
// what is only about that does not count.
func List(ctx context.Context, cfg Config) []Listing {
	cfg = cfg.withDefaults()
	listings := make([]Listing, len(cfg.Instances))
	var all sync.WaitGroup
	for i, in := range cfg.Instances {
		one := cfg
		one.Instances = []Instance{in}
		all.Go(func() { listings[i] = list(ctx, one) })
	}
	all.Wait()
	return listings
}

func list(ctx context.Context, cfg Config) Listing {
	t := newTrial(ctx, cfg)
	defer t.abandon()
	l := Listing{Name: t.in.Name, Target: t.in.Target, State: StateUp}
	conn, err := t.in.connect()
	if err != nil {
		return l.failed(ctx, err)
	}
	defer conn.Close()
	told, a := cfg.about(ctx, conn, cfg.command(cfg.Instances[0], "", false))
	t.in.learn(a.log.Report().Connection)
	l.Address, l.Interfaces, l.Details = t.in.ownAddress(), netInterfaces(told), joined(told.System, remote.Clean(conn.ServerVersion()))
	if !told.Complete {
		return l.failed(ctx, noAnswer(a))
	}
	return l
}

// failed is a listing with a problem.
func (l Listing) failed(ctx context.Context, err error) Listing {
	if ctx.Err() == context.Canceled {
		err = &Error{Problem: "not asked: stopped before it came to this", Tip: "let it run to its end"}
	}
	l.State, l.Problem, l.Hint = StateFailed, err.Error(), hintOf(err)
	return l
}

// noAnswer is why an instance did not tell what it was asked for.
func noAnswer(a answer) error {
	status := exitStatus(a.err)
	if a.late {
		return &Error{Problem: "connected, but it did not answer in time", Tip: tipHangs}
	}
	if failure := a.log.Failure(status); failure != nil {
		return failure
	}
	if a.err != nil && status < 0 {
		return a.err
	}
	return &Error{
		Problem: fmt.Sprintf("logged in, but the login does not run commands (exit status %d)", status),
		Tip:     "see what the login runs instead, a forced command perhaps: ssh INSTANCE true",
	}
}

// joined puts what is known into one text.
func joined(parts ...string) (text string) {
	for _, p := range parts {
		if p != "" && text != "" {
			text += ", "
		}
		text += p
	}
	return text
}
