package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/newfile"
	"github.com/sshpcap/sshpcap/sshx"
)

func captureCommand(signals *signals) *cli.Command {
	return &cli.Command{
		Name:            "capture",
		Usage:           "capture on SSH hosts and Cloud Foundry apps, into one file",
		ArgsUsage:       "TARGET…",
		HideHelpCommand: true, // what it takes may be called help
		Description: aboutTargets +
			"The capture runs until ^C, or until --duration, --count or --max-size ends it.",
		Flags:        captureFlags(),
		OnUsageError: usage,
		Action:       func(c *cli.Context) error { return runCapture(c, signals) },
	}
}

const aboutTargets = "A TARGET is [ssh://][USER@]HOST[:PORT], where HOST may be a name of ~/.ssh/config; cf:APP[/PROCESS][/INDEX[,INDEX…|N-M]],\n" +
	"an app on Cloud Foundry, where the cf CLI is logged in; or @FILE with one target a line.\n"

// usage makes an error of a command line that the cli library could not read.
func usage(c *cli.Context, err error, _ bool) error {
	return &usageError{err.Error(), "see sshpcap " + c.Command.Name + " --help"}
}

func runCapture(c *cli.Context, signals *signals) error {
	cfg, err := captureConfig(c)
	if err != nil {
		return err
	}
	targets, err := expandTargets(c.Args().Slice())
	if err != nil {
		return err
	}
	s, err := newSession(c, cfg, signals)
	if err != nil {
		return err
	}
	defer s.display.close()
	dialer := newDialer(c, s.display)
	onCF, others, err := parseApps(targets)
	if err != nil {
		return err
	}
	if s.cfg.Instances, err = hosts(c, dialer, others); err != nil {
		return err
	}
	if len(onCF) > 0 {
		client, err := loggedIn(c.Bool("skip-host-validation"), dialer.Warn)
		if err != nil {
			return exit(s.refuse(err))
		}
		defer client.Close()
		a := &apps{client: client, dialer: dialer, targets: onCF, interfaces: unique(c.StringSlice("interface"))}
		if err := s.addApps(c.Context, a); err != nil {
			return exit(s.refuse(err))
		}
	}
	s.cfg.Comment = describeCapture(targets, cfg.Filter)
	return exit(s.run())
}

// newDialer logs in as flags say.
func newDialer(c *cli.Context, d *display) *sshx.Dialer {
	return &sshx.Dialer{
		ConfigFile:            c.String("ssh-config"),
		Login:                 c.String("login"),
		Identities:            c.StringSlice("identity"),
		Jump:                  c.String("jump"),
		ConnectTimeout:        c.Duration("connect-timeout"),
		InsecureIgnoreHostKey: c.Bool("skip-host-validation"),
		Prompt:                prompter(d),
		Warn:                  func(text string) { d.line("%s", text) },
	}
}

// describeCapture is the comment of the file as a whole.
func describeCapture(targets []string, filter string) string {
	text := "targets: " + strings.Join(targets, " ")
	if filter != "" {
		text += "\nfilter: " + filter
	}
	return text
}

// session is one capture as its user sees it.
type session struct {
	cfg     capture.Config
	display *display
	signals *signals
	ready   func(instances int) string // what is said when all capture; nil = the usual
	report  string                     // where the final report goes as JSON; "" = nowhere

	gatherer  gatherer       // of what is told
	connected func()         // to be called when the instances are
	hinted    map[string]int // how often each hint was given
}

// newSession checks what can be said before anything connects.
func newSession(c *cli.Context, cfg capture.Config, signals *signals) (*session, error) {
	if cfg.Output.File != nil && term.IsTerminal(int(os.Stdout.Fd())) {
		return nil, &usageError{"standard output is a terminal, and packets would spoil it", "name a file with -o, or put a pipe behind: | wireshark -k -i -"}
	}
	if err := checkReport(c.String("report"), cfg.Output); err != nil {
		return nil, err
	}
	s := &session{cfg: cfg, signals: signals, report: c.String("report")}
	s.cfg.Progress = new(capture.Progress)
	var err error
	s.display, err = newDisplay(c.String("progress"), c.Bool("quiet"), s.cfg.Progress, goal{cfg.Duration, cfg.Count})
	if err != nil {
		return nil, err
	}
	s.display.cut = signals.cut
	return s, nil
}

// checkReport says early what would be a pity to hear after the capture.
func checkReport(path string, out capture.Output) error {
	if path == "" {
		return nil
	}
	if err := newfile.Planted(path); err != nil {
		return &usageError{err.Error(), "name a file with --report in a directory of your own"}
	}
	if sameFile(path, out.Path) {
		return &usageError{"the report would replace the capture: both are " + path, "name another file with --report"}
	}
	if !out.Overwrite && foreign(path) {
		return &usageError{path + " exists, and is no report", "use --overwrite, or another --report"}
	}
	info, err := os.Stat(filepath.Dir(path))
	if err == nil && !info.IsDir() {
		err = errors.New(filepath.Dir(path) + " is not a directory")
	}
	if info, e := os.Stat(path); err == nil && e == nil && info.IsDir() {
		err = errors.New(path + " is a directory")
	}
	if err != nil {
		return &usageError{"cannot write the report: " + err.Error(), "name another file with --report"}
	}
	return nil
}

// foreign reports whether there is a file that is no report. Only regular ones are looked into: a FIFO would wait for a
// writer.
func foreign(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	fd, err := os.Open(path)
	if err != nil {
		return false
	}
	defer fd.Close()
	var first [1]byte
	n, _ := fd.Read(first[:])
	return n > 0 && first[0] != '{'
}

// sameFile reports whether two names are, or would become, one file.
func sameFile(a, b string) bool {
	if x, err := os.Stat(a); err == nil {
		y, err := os.Stat(b)
		return err == nil && os.SameFile(x, y) && x.Mode().IsRegular()
	}
	a, err := place(a)
	b, err2 := place(b)
	return err == nil && err2 == nil && a == b
}

// place is where a file that is not there yet would be.
func place(path string) (string, error) {
	if to, err := os.Readlink(path); err == nil && filepath.IsAbs(to) {
		path = to
	} else if err == nil {
		path = filepath.Join(filepath.Dir(path), to)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

// run captures, tells what happens, and returns the exit status.
func (s *session) run() int {
	s.cfg.Cut = s.signals.cut
	s.cfg.OnEvent = s.tell
	s.display.begin()
	report, err := s.captureOrCut()
	s.gatherer.close()
	s.display.end()
	if s.signals.isCut() && report.Version == 0 {
		s.display.problem(func(w io.Writer) { fmt.Fprintln(w, "sshpcap: cut; the output takes no more") })
		return exitCut
	}
	if report.Version > 0 {
		s.summarize(report)
		err = errors.Join(err, s.save(report))
	}
	if err != nil && !toldAlready(err) {
		s.display.problem(func(w io.Writer) { printError(w, err) })
	}
	return s.status(report, err)
}

// toldAlready reports whether an error only sums up what was said of single instances.
func toldAlready(err error) bool {
	var problem *capture.Error
	return !errors.As(err, &problem) && (errors.Is(err, capture.ErrNothing) || errors.Is(err, capture.ErrRequired))
}

// captureOrCut runs the capture. After a second signal it waits only a moment for it: whoever reads the output may have
// stopped doing so. The report is empty then.
func (s *session) captureOrCut() (capture.Report, error) {
	limitMemory(s.cfg.Buffer, len(s.cfg.Instances))
	s.connected = growAtOnce(len(s.cfg.Instances))
	report, err := untilStuck(s.signals.cut, func() (capture.Report, error) {
		defer s.connected()
		return capture.Run(s.signals.ctx, s.cfg)
	})
	if errors.Is(err, errStuck) {
		err = nil
	}
	return report, err
}

// tell prints an event, or holds it back for a moment.
func (s *session) tell(e capture.Event) {
	if s.gatherer.show == nil {
		s.gatherer.show = s.show
		s.gatherer.others = len(s.cfg.Instances) > 1 || s.cfg.Discover != nil
	}
	s.gatherer.tell(e)
}

// show prints events of one kind.
func (s *session) show(events []capture.Event) {
	e := events[0]
	if len(events) > 1 {
		s.sort(events)
	}
	switch e.Kind {
	case capture.Ready:
		if s.connected != nil {
			s.connected()
		}
		s.display.restart()
		s.display.line("%s", s.readyText(e.Ready))
	case capture.Failed, capture.Lost:
		s.display.problem(func(w io.Writer) {
			for _, c := range causes(troublesOf(events)) {
				s.printCause(w, c)
			}
		})
	case capture.Joined:
		c := cause{names: namesOfAll(events)}
		s.display.line("+ %s", strings.TrimPrefix(c.who(), "on "))
	case capture.Left:
		for _, c := range causes(troublesOf(events)) {
			s.display.line("- %s (%s)", strings.TrimPrefix(c.who(), "on "), c.problem)
		}
	case capture.Note:
		for _, c := range causes(troublesOf(events)) {
			s.display.line("%s", strings.TrimPrefix(c.who()+": "+c.problem, ": "))
		}
	case capture.Stopping:
		s.display.line("%s", s.stoppingText())
	}
}

// sort puts events into the order in which their instances were named.
func (s *session) sort(events []capture.Event) {
	place := make(map[string]int)
	for i, in := range s.cfg.Instances {
		place[in.Name] = i - len(s.cfg.Instances) // before those that came later
	}
	slices.SortStableFunc(events, func(a, b capture.Event) int { return cmp.Compare(place[a.Instance], place[b.Instance]) })
}

func troublesOf(events []capture.Event) (all []trouble) {
	for _, e := range events {
		if e.Kind == capture.Note {
			all = append(all, trouble{name: e.Instance, problem: e.Text})
		} else {
			all = append(all, trouble{e.Instance, e.Err.Error(), hintOf(e.Err)})
		}
	}
	return all
}

func namesOfAll(events []capture.Event) (names []string) {
	for _, e := range events {
		names = append(names, e.Instance)
	}
	return names
}

// mostHints is how often the same hint is given: the same may be wrong with a thousand instances, one after the other.
const mostHints = 10

// printCause is printError for what is wrong with some instances, but gives no hint that was given often enough.
func (s *session) printCause(w io.Writer, c cause) {
	w = plain{w}
	fmt.Fprintf(w, "sshpcap: %s: %s\n", c.who(), c.problem)
	c.printFingerprints(w)
	hint := c.hintText()
	if hint == "" || s.hinted[hint] == mostHints {
		return
	}
	if s.hinted == nil {
		s.hinted = make(map[string]int)
	}
	s.hinted[hint]++
	fmt.Fprintf(w, "hint: %s\n", hint)
}

func (s *session) readyText(n int) string {
	if s.ready != nil {
		return s.ready(n)
	}
	return fmt.Sprintf("Capturing on %s, %s", count(n, "instance"), s.signals.press("stop"))
}

func (s *session) stoppingText() string {
	if s.signals != nil && s.signals.background {
		return fmt.Sprintf("Stopping, and not to wait: kill %d", os.Getpid())
	}
	return "Stopping, press ^C again not to wait"
}

// refuse prints why nothing can be captured at all.
func (s *session) refuse(err error) int {
	if s.signals.ctx.Err() != nil {
		s.display.line("Stopped before anything was captured.")
		return exitNothing
	}
	s.display.problem(func(w io.Writer) { printError(w, err) })
	return exitNothing
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(int64(n)) + " " + noun + "s"
}

// status is the exit status of a capture that has ended.
func (s *session) status(report capture.Report, err error) int {
	var problem *capture.Error
	whole := errors.As(err, &problem)
	switch {
	case s.signals.isCut():
		return exitCut
	case whole && problem.Usage:
		return exitUsage
	case whole || errors.Is(err, capture.ErrNothing) || err != nil && report.Output.Path == "":
		return exitNothing
	case err != nil:
		return exitSome
	}
	for _, in := range report.Instances {
		switch in.State {
		case capture.NotOpened, capture.LostState, capture.CutState:
			return exitSome
		}
	}
	return exitOK
}

// save writes the report for other programs.
func (s *session) save(report capture.Report) error {
	if s.report == "" {
		return nil
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err == nil {
		err = writePrivate(s.report, append(text, '\n'))
	}
	if err != nil {
		return &capture.Error{Problem: "the report was not written: " + err.Error(), Tip: "name another file with --report", Err: err}
	}
	return nil
}

// writePrivate makes a file that only its owner can read, in the place of what is there. A pipe or device is written to,
// and so is a file in a directory where none can be made.
func writePrivate(path string, text []byte) error {
	if err := newfile.Planted(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if to, e := filepath.EvalSymlinks(path); e == nil {
		path = to
	}
	if err == nil && !info.Mode().IsRegular() {
		return writeInto(path, os.O_WRONLY, text)
	}
	f, e := newfile.New(path)
	if errors.Is(e, fs.ErrPermission) && err == nil {
		return errors.Join(os.Chmod(path, 0o600), writeInto(path, os.O_WRONLY|os.O_TRUNC, text))
	}
	if e != nil {
		return e
	}
	defer f.Discard()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Replace()
}

func writeInto(path string, flags int, text []byte) error {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
