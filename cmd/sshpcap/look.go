package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/sshx"
)

// look is a command that looks at targets and captures nothing, as its user sees it. What it finds goes to standard
// output, everything else to the display.
type look struct {
	display *display
	signals *signals
}

func newLook(c *cli.Context, signals *signals) (*look, error) {
	d, err := newDisplay("none", c.Bool("quiet"), new(capture.Progress), goal{})
	if err != nil {
		return nil, err
	}
	d.cut = signals.cut
	return &look{d, signals}, nil
}

// end gives the exit status, unless the result could not be written or nobody wanted to wait for it.
func (s *look) end(err error, status int) int {
	switch {
	case s.signals.isCut():
		return exitCut
	case err != nil:
		s.display.problem(func(w io.Writer) { printError(w, fmt.Errorf("standard output: %w", err)) })
		return exitNothing
	}
	return status
}

// targets are what a command line's targets lead to.
type targets struct {
	hosts  []capture.Instance
	apps   []appFound
	client *cf.Client // nil where no target is on Cloud Foundry, or nobody is logged in
	maker  *apps
}

// appFound is what the platform says of one target.
type appFound struct {
	target string // as it was named
	found  cf.Found
	err    error // why not all of it was found; some may have been
}

// find resolves targets. A host that makes no sense is an error of the command line; an app that is not found stands for
// itself, among the others.
func (s *look) find(c *cli.Context, names []string) (*targets, error) {
	dialer := newDialer(c, s.display)
	onCF, others, err := parseApps(names)
	if err != nil {
		return nil, err
	}
	t := &targets{}
	if t.hosts, err = hosts(c, dialer, others); err != nil {
		return nil, err
	}
	if len(onCF) > 0 {
		t.client, err = loggedIn(c.Bool("skip-host-validation"), dialer.Warn)
		t.maker = &apps{client: t.client, dialer: dialer, interfaces: unique(c.StringSlice("interface"))}
	}
	for _, name := range names {
		if !strings.HasPrefix(name, appPrefix) {
			continue
		}
		app := appFound{target: name, err: err}
		if err == nil {
			app.found, app.err = t.client.Instances(c.Context, onCF[len(t.apps)])
		}
		t.apps = append(t.apps, app)
	}
	return t, nil
}

func (t *targets) close() {
	if t.client != nil {
		t.client.Close()
	}
}

// instances are the hosts and the instances that run, and for each app that is not found one that cannot be reached.
func (t *targets) instances() []capture.Instance {
	all := t.hosts
	seen := make(map[string]bool)
	for _, app := range t.apps {
		for _, in := range app.found.Running {
			if !seen[in.Name()] {
				seen[in.Name()] = true
				all = append(all, t.maker.instance(in))
			}
		}
		if app.err != nil {
			all = append(all, capture.Instance{
				Name: app.target,
				Dial: func(context.Context) (*sshx.Conn, error) { return nil, app.err },
			})
		}
	}
	return all
}

// refuse notes that a capture does not start when an app is not found.
func (t *targets) refuse(report *capture.CheckReport) {
	for _, app := range t.apps {
		if app.err != nil {
			report.Problem = "a capture would not start because of " + app.target
			report.Hint = "correct it, or leave it out"
			return
		}
	}
}
