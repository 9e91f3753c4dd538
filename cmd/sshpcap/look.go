package main

import (
	"context"
	"os"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/sshx"
)

// look is a command that looks at targets and captures nothing, as its user sees it. While it looks, the display shows
// what there is to say; then the result goes to standard output, and problems to standard error.
type look struct {
	found   *targets
	display *display
	signals *signals
	shown   sync.Once // the display is closed
}

// newLook finds the targets of the command line. The look is the caller's to close.
func newLook(c *cli.Context, signals *signals) (*look, error) {
	names, err := expandTargets(c.Args().Slice())
	if err != nil {
		return nil, err
	}
	d, err := newDisplay("none", c.Bool("quiet"), new(capture.Progress), goal{})
	if err != nil {
		return nil, err
	}
	d.cut = signals.cut
	found, err := find(c, d, names)
	if err != nil {
		d.close()
		return nil, err
	}
	return &look{found: found, display: d, signals: signals}, nil
}

func (s *look) close() {
	s.found.close()
	s.showAll()
}

// showAll waits until all that was said has been shown.
func (s *look) showAll() { s.shown.Do(s.display.close) }

// print ends the looking, and writes its result in one go. It does not wait for a reader that a second ^C gave up.
func (s *look) print(result []byte) error {
	s.showAll()
	written := make(chan error, 1) // sent to once; a write that nobody waits for any more ends with the process
	go func() {
		_, err := plain{os.Stdout}.Write(result)
		written <- err
	}()
	select {
	case err := <-written:
		return err
	case <-s.signals.cut:
		return nil
	}
}

// end gives the exit status, unless the result could not be written or nobody wanted to wait for it.
func (s *look) end(err error, status int) error {
	switch {
	case s.signals.isCut():
		return exit(exitCut)
	case err != nil:
		printError(os.Stderr, &usageError{"cannot write the result: " + err.Error(), "look after whatever reads standard output"})
		return exit(exitNothing)
	}
	return exit(status)
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
func find(c *cli.Context, d *display, names []string) (*targets, error) {
	dialer := newDialer(c, d)
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

// checkSSH makes an app for which SSH is disabled one that is not found: none of its instances can be logged in to.
func (t *targets) checkSSH(ctx context.Context) {
	for i, app := range t.apps {
		if len(app.found.Running) == 0 {
			continue
		}
		if err := t.client.CheckSSH(ctx, app.found.Running[0]); err != nil {
			t.apps[i].found, t.apps[i].err = cf.Found{}, err
		}
	}
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

// leftOut tells of the instances that do not run, which a capture leaves out.
func (t *targets) leftOut(tell func(cf.Instance)) {
	for _, app := range t.apps {
		if app.err != nil {
			continue // which says so
		}
		for _, in := range app.found.Skipped {
			tell(in)
		}
	}
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
