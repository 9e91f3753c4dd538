package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/cf/plugin"
	"github.com/sshpcap/sshpcap/sshx"
)

// runPlugin does what the cf CLI, whose plugin we are, asks for. restore gives back the terminal; it is never nil.
func runPlugin(call plugin.Call, signals *signals) (restore func(), err error) {
	nothing := func() {}
	switch call.Command {
	case plugin.CommandUninstall:
		return nothing, nil
	case plugin.CommandMetadata:
		return nothing, plugin.SendMetadata(signals.ctx, call.Port, pluginMetadata())
	}
	// ^C is for us: cf would die of it at once, and the shell would prompt while we are still saving.
	restore = nothing
	if !signals.background {
		if restore, err = plugin.Foreground(signal.Ignore); err != nil {
			return nothing, err
		}
	}
	app := newApp(signals)
	app.Commands = []*cli.Command{pcapCommand(signals, call.Port)}
	return restore, app.RunContext(signals.ctx, arrange(app, slices.Concat([]string{"cf", call.Command}, call.Args)))
}

func pcapCommand(signals *signals, port string) *cli.Command {
	return &cli.Command{
		Name:            plugin.CommandPcap,
		Usage:           pcapHelp,
		ArgsUsage:       "APP_NAME…",
		HideHelpCommand: true, // what it takes may be called help
		Flags:           pcapFlags(),
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return &usageError{err.Error(), "see cf help pcap"} },
		Action:          func(c *cli.Context) error { return runPcap(c, signals, port) },
	}
}

const pcapHelp = "Capture packets on all instances of an app at once, into one file in time order"

// pcapFlags are those of a capture that make sense on an app, and those that say which of its instances.
func pcapFlags() []cli.Flag {
	own := []cli.Flag{
		&cli.StringFlag{Name: "process", Value: "web", Usage: "capture on the instances of `PROCESS`"},
		&cli.StringSliceFlag{Name: "app-instance-index", Aliases: []string{"i"}, Usage: "capture on instance `N`; may be given several times, and as a list with ranges: 0,2-4", DefaultText: "all that run"},
	}
	not := []string{"no-promiscuous-mode", "login", "identity", "jump", "ssh-config", "sudo"}
	for _, f := range captureFlags() {
		if slices.Contains(not, f.Names()[0]) {
			continue
		}
		switch f := f.(type) {
		case *cli.StringSliceFlag:
			f.DefaultText = "eth0"
		case *cli.StringFlag:
			switch f.Name {
			case "helper":
				f.Usage = "capture with `PROGRAM`: cf-pcap, tcpdump or a path in the container; auto = tcpdump where it may capture, else cf-pcap of the platform"
			case "helper-buffer":
				f.Usage, f.DefaultText = "kernel buffer of tcpdump in the container, `SIZE`", "32MiB"
			}
		}
		own = append(own, f)
	}
	return own
}

// pluginMetadata is what cf shows about us.
func pluginMetadata() plugin.Metadata {
	options := make(map[string]string)
	for _, f := range pcapFlags() {
		_, usage := placeholder(f.(cli.DocGenerationFlag).GetUsage())
		if value := defaultOf(f); value != "" {
			usage += " (default: " + value + ")"
		}
		options[strings.Join(f.Names(), ", -")] = usage // cf puts the dashes before the first
	}
	return plugin.Metadata{
		Name:    "sshpcap",
		Version: pluginVersion(programVersion()),
		Commands: []plugin.Command{{
			Name: plugin.CommandPcap,
			Help: pcapHelp,
			Usage: "cf pcap APP_NAME… [--process PROCESS] [-i N]… [-o FILE] [-f FILTER] [--interface NAME]… [-d TIME] [-c N] [--follow] [-k]\n\n" +
				"EXAMPLES:\n   cf pcap shop\n   cf pcap shop -i 1 -o shop.pcapng -f 'tcp port 8080'\n   cf pcap shop cart --interface eth0 --interface lo -o - | wireshark -k -i -",
			Options: options,
		}},
	}
}

// pluginVersion reads the numbers in front of a version such as v1.2.3-4-gabcdef. A version without is 0.0.1, as cf
// calls one that is all zeros not available.
func pluginVersion(text string) plugin.Version {
	var v plugin.Version
	if n, _ := fmt.Sscanf(strings.TrimPrefix(text, "v"), "%d.%d.%d", &v.Major, &v.Minor, &v.Build); n < 3 {
		return plugin.Version{Build: 1}
	}
	return v
}

func runPcap(c *cli.Context, signals *signals, port string) error {
	targets, err := pcapTargets(c)
	if err != nil {
		return err
	}
	cfg, err := captureConfig(c)
	if err != nil {
		return err
	}
	if err := checkTrace(cfg); err != nil {
		return err
	}
	s, err := newSession(c, cfg, signals)
	if err != nil {
		return err
	}
	defer s.display.close()
	s.ready = func(int) string { return "Capturing, " + signals.press("stop") + "..." }
	warn := func(text string) { s.display.line("%s", text) }
	session, conn, err := cfSession(c.Context, port)
	if err != nil {
		return exit(s.refuse(err))
	}
	defer conn.Close()
	defer stopWithCF(conn, signals)()
	client, err := cf.NewClient(cf.Options{Session: session, SkipHostValidation: c.Bool("skip-host-validation"), Warn: warn})
	if err != nil {
		return exit(s.refuse(err))
	}
	defer client.Close()
	s.display.line("%s", startingText(c))
	dialer := &sshx.Dialer{ConnectTimeout: c.Duration("connect-timeout"), Warn: warn}
	a := &apps{client: client, dialer: dialer, targets: targets, interfaces: unique(c.StringSlice("interface"))}
	if err := s.addApps(c.Context, a); err != nil {
		return exit(s.refuse(err))
	}
	s.cfg.Comment = describeCapture(append([]string{"cf pcap"}, c.Args().Slice()...), cfg.Filter)
	return exit(s.run())
}

// checkTrace refuses to write packets to a standard output that cf writes to as well.
func checkTrace(cfg capture.Config) error {
	if cfg.Output.File == nil {
		return nil
	}
	trace := plugin.Trace{Env: os.Getenv("CF_TRACE"), Args: plugin.ParentArgs()}
	if path, err := cf.ConfigPath(); err == nil {
		if config, err := cf.ReadConfig(path); err == nil { // cf says itself what is wrong with it
			trace.Config = config.Trace
		}
	}
	if setting := trace.Reaches(cfg.Output.File); setting != "" {
		return &usageError{"cf writes its trace to standard output (" + setting + "), between the packets", "trace to a file with CF_TRACE=FILE, or capture to a file with -o"}
	}
	return nil
}

// stopWithCF ends the capture when cf has been ended, whose process group we are no longer in: nobody else would tell
// us. The func that it returns ends the watching.
func stopWithCF(conn *plugin.Conn, signals *signals) (done func()) {
	over := make(chan struct{}) // closed by done
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-conn.Gone():
			signals.cancel()
		case <-over:
		}
	})
	return func() { close(over); watching.Wait() }
}

// pcapTargets are the apps that are named, each with the instances that are asked for.
func pcapTargets(c *cli.Context) ([]cf.Target, error) {
	if c.NArg() == 0 {
		return nil, &usageError{"no app", "name one: cf pcap APP_NAME"}
	}
	var indexes []int
	if c.IsSet("app-instance-index") {
		var err error
		if indexes, err = cf.ParseIndexes(strings.Join(c.StringSlice("app-instance-index"), ",")); err != nil {
			return nil, err
		}
	}
	var targets []cf.Target
	for _, app := range unique(c.Args().Slice()) {
		targets = append(targets, cf.Target{App: app, Process: c.String("process"), Indexes: indexes})
	}
	return targets, nil
}

func startingText(c *cli.Context) string {
	if !c.IsSet("app-instance-index") {
		return "Starting capture on all instances."
	}
	return "Starting capture on instances: " + strings.Join(c.StringSlice("app-instance-index"), ", ") + "."
}

// cfSession is the login that the cf CLI has. cf may be gone later, when a token is asked for: then the last one it
// gave must do.
func cfSession(ctx context.Context, port string) (*cf.Session, *plugin.Conn, error) {
	conn, err := plugin.Dial(ctx, port)
	if err != nil {
		return nil, nil, err
	}
	session, err := askCF(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	var mu sync.Mutex
	var last string
	session.Token = func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		token, err := conn.AccessToken(ctx)
		if err == nil {
			last = token
		}
		if last == "" {
			return "", err
		}
		return last, nil
	}
	return session, conn, nil
}

// askCF leaves empty what cf does not have: cf.NewClient says what that means.
func askCF(ctx context.Context, conn *plugin.Conn) (*cf.Session, error) {
	var session cf.Session
	var errs [6]error
	var loggedIn bool
	var org, space plugin.Ref
	session.API, errs[0] = conn.APIEndpoint(ctx)
	session.SSLDisabled, errs[1] = conn.IsSSLDisabled(ctx)
	loggedIn, errs[2] = conn.IsLoggedIn(ctx)
	if err := firstOf(errs[:]...); err != nil {
		return nil, err
	}
	if session.API == "" {
		return &session, nil
	}
	if !loggedIn {
		return nil, &usageError{"Not logged in. Use 'cf login' or 'cf login --sso' to log in.", "cf login"}
	}
	org, errs[3] = conn.CurrentOrg(ctx)
	space, errs[4] = conn.CurrentSpace(ctx)
	session.Org, session.Space = cf.Named{GUID: org.GUID, Name: org.Name}, cf.Named{GUID: space.GUID, Name: space.Name}
	return &session, firstOf(errs[:]...)
}

// addApps adds the instances of apps to a capture.
func (s *session) addApps(ctx context.Context, a *apps) error {
	a.follow = s.cfg.Follow
	var skipped []cf.Instance
	found, err := a.instances(ctx, false, func(in cf.Instance) { skipped = append(skipped, in) })
	tellLeftOut(s.display, skipped)
	if err != nil {
		return err
	}
	for _, in := range skipped {
		s.cfg.LeftOut = append(s.cfg.LeftOut, capture.LeftOut{Name: in.Name(), Target: appPrefix + in.Name(), State: strings.ToLower(in.State), Details: in.Details})
	}
	s.cfg.Instances = append(s.cfg.Instances, found...)
	if s.cfg.Follow {
		s.cfg.Discover = a.discover
		if len(s.cfg.Instances) == 0 {
			s.display.line("No instance is running yet, %s", s.signals.press("stop waiting for one"))
		}
	} else if len(s.cfg.Instances) == 0 {
		return &capture.Error{Problem: "no instance is running", Tip: "see 'cf app' and 'cf logs --recent', or wait for one with --follow"}
	}
	return nil
}

// tellLeftOut tells of instances that do not run, once for all that are so for the same reason.
func tellLeftOut(d *display, skipped []cf.Instance) {
	var reasons []trouble
	for _, in := range skipped {
		reasons = append(reasons, trouble{in.Name(), strings.ToLower(in.State), in.Details})
	}
	for _, c := range causes(reasons) {
		text := fmt.Sprintf("%s is %s and is left out", c.names[0], c.problem)
		if n := len(c.names); n > 1 {
			text = fmt.Sprintf("%s are %s and are left out: %s", count(n, "instance"), c.problem, listNames(c.names))
		}
		if c.hint != "" {
			text += " (" + c.hint + ")"
		}
		d.line("%s", text)
	}
}
