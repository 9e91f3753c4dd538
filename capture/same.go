package capture

import (
	"fmt"
	"slices"
	"time"
)

// host is which host an instance is, by its own account: a kernel, since when it runs, and a network of it. The boot ID
// alone does not tell hosts apart: virtual machines that were made of one snapshot share it, as may boards that
// have no randomness when they start. But these began to run at different times.
type host struct {
	name          string    // boot ID and network namespace; "" where it is not known
	since, before time.Time // it began to run in between, by our clock; zero where that is not known
}

// host is what the instance has told so far.
func (l *stderr) host() host {
	l.mu.Lock()
	defer l.mu.Unlock()
	report := l.Report()
	h := host{name: report.Host}
	if report.Up > 0 {
		// The kernel tells hundredths of a second, and we do not know when in between it did.
		h.since, h.before = l.began.Add(-report.Up-10*time.Millisecond), l.named.Add(-report.Up)
	}
	return h
}

// same reports whether it is the other one, as far as is known of both.
func (h host) same(other host) bool {
	switch {
	case h.name == "" || h.name != other.name:
		return false
	case h.since.IsZero() || other.since.IsZero():
		return true
	}
	return !h.since.After(other.before) && !other.since.After(h.before)
}

// unknown reports whether one of them does not tell which host it is.
func (h host) unknown(other host) bool { return h.name == "" || other.name == "" }

// claim is a host that an instance captures on.
type claim struct {
	host host
	by   *instance
}

// claim gives a host to the first instance that captures on it. A second one, under another name, would capture what
// carries the packets of the first, and the other way round, for ever. Where nothing tells whether two that log in to one
// server are one host, both are captured on: each leaves out the connections of both.
func (r *run) claim(h host, in *instance) error {
	r.mu.Lock()
	var doubt *instance
	for _, c := range r.claims {
		switch {
		case c.by == in:
		case c.host.same(h):
			r.mu.Unlock()
			return sameHost(c.by.Name)
		case doubt == nil && in.Server != "" && in.Server == c.by.Server && c.host.unknown(h):
			doubt = c.by
		}
	}
	first := !slices.ContainsFunc(r.claims, func(c claim) bool { return c.by == in && c.host.name == h.name })
	if first {
		r.claims = append(r.claims, claim{h, in})
	}
	r.mu.Unlock()
	if first && doubt != nil {
		r.emit(Event{Kind: Note, Instance: in.Name, Text: inDoubt(doubt.Name)})
	}
	return nil
}

// unclaim lets another instance capture on the host: the number of a container that has ended is given to the next one.
func (r *run) unclaim(in *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims = slices.DeleteFunc(r.claims, func(c claim) bool { return c.by == in })
}

// sameHost is the problem of an instance that is another one under a second name.
func sameHost(other string) error {
	return &Error{Problem: "it is the same host as " + other, Tip: tipNamedOnce}
}

func inDoubt(other string) string {
	return fmt.Sprintf("it may be the same host as %s, which is at the same address; then its packets are in the file twice", other)
}

// findSameHosts finds what Run finds when it captures on two instances that are one host, or may be.
func findSameHosts(checkups []*checkup) {
	for i, c := range checkups {
		for _, first := range checkups[:i] {
			in, other := c.cfg.Instances[0], first.cfg.Instances[0]
			switch {
			case len(c.headers) == 0 || len(first.headers) == 0 || c.problem != nil || first.problem != nil:
			case c.host.same(first.host):
				c.problem = in.reword(sameHost(other.Name))
			case in.Server != "" && in.Server == other.Server && c.host.unknown(first.host):
				c.notes = append(c.notes, inDoubt(other.Name))
			}
		}
	}
}
