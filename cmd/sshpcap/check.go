package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
)

func checkCommand(signals *signals) *cli.Command {
	return &cli.Command{
		Name:            "check",
		Aliases:         []string{"doctor"},
		Usage:           "tell whether a capture would work, and what stands in its way",
		ArgsUsage:       "TARGET…",
		HideHelpCommand: true, // what it takes may be called help
		Description: aboutTargets +
			"Each instance is logged in to, and its helper is started and stopped as for a capture, with a filter that lets nothing\n" +
			"through. Any command line of capture can be tried with check in its place: flags that play no part are accepted.",
		Flags:        checkFlags(),
		OnUsageError: usage,
		Action:       func(c *cli.Context) error { return runCheck(c, signals) },
	}
}

// checkFlags are those of a capture, of which those that decide nothing are hidden, and one of its own.
func checkFlags() []cli.Flag {
	hidden := []string{"duration", "count", "max-size", "max-remote-time", "rotate-size", "rotate-interval", "rotate-keep", "per-instance", "grace", "window", "buffer",
		"follow", "require-all", "align-clocks", "progress", "report"}
	flags := captureFlags()
	for _, f := range flags {
		if slices.Contains(hidden, f.Names()[0]) {
			hide(f)
		}
		switch f := f.(type) {
		case *cli.StringFlag:
			if f.Name == "output" {
				f.Usage, f.DefaultText = "look whether `FILE` could be written, too", "not looked at"
			}
		case *cli.BoolFlag:
			if f.Name == "overwrite" {
				f.Usage = "an output that exists is no problem"
			}
		}
	}
	return append(flags, &cli.BoolFlag{Name: "json", DisableDefaultText: true, Usage: "print the result as JSON"})
}

func hide(f cli.Flag) {
	switch f := f.(type) {
	case *cli.StringFlag:
		f.Hidden = true
	case *cli.BoolFlag:
		f.Hidden = true
	case *cli.IntFlag:
		f.Hidden = true
	case *cli.Int64Flag:
		f.Hidden = true
	case *cli.DurationFlag:
		f.Hidden = true
	}
}

func runCheck(c *cli.Context, signals *signals) error {
	cfg, err := captureConfig(c)
	if err != nil {
		return err
	}
	if !c.IsSet("output") {
		cfg.Output.Path, cfg.Rotation, cfg.PerInstance = "", capture.Rotation{}, false
	}
	s, err := newLook(c, signals)
	if err != nil {
		return err
	}
	defer s.close()
	s.found.checkSSH(signals.ctx)
	cfg.Instances, cfg.Cut = s.found.instances(), signals.cut
	var skipped []cf.Instance
	s.found.leftOut(func(in cf.Instance) { skipped = append(skipped, in) })
	tellLeftOut(s.display, skipped)
	if len(cfg.Instances) > 0 {
		s.display.line("Checking %s", count(len(cfg.Instances), "instance"))
	}
	report, err := capture.Check(signals.ctx, cfg)
	if err != nil {
		return err
	}
	s.found.refuse(&report)
	if c.Bool("skip-host-validation") {
		unchecked(&report)
	}
	var b bytes.Buffer
	if err = printCheck(&b, c, report); err == nil {
		err = s.print(b.Bytes())
	}
	return s.end(err, checkStatus(report))
}

// unchecked takes back what -k makes of every host key.
func unchecked(report *capture.CheckReport) {
	for _, in := range report.Instances {
		for i, step := range in.Steps {
			if step.Step == capture.StepHostKey && step.State == capture.StepPassed {
				in.Steps[i].State = capture.StepSkipped
			}
		}
	}
}

func checkStatus(report capture.CheckReport) int {
	switch report.Works() {
	case 0:
		return exitNothing
	case len(report.Instances):
		return exitOK
	}
	return exitSome
}

// printCheck writes the result in the form that is asked for.
func printCheck(w io.Writer, c *cli.Context, report capture.CheckReport) error {
	if c.Bool("json") {
		return printJSON(w, report)
	}
	if c.Bool("quiet") {
		checkProblems(w, report)
		return nil
	}
	columns, _, _ := term.GetSize(int(os.Stdout.Fd())) // 0 for what is no terminal
	checkTable(w, report, c.Bool("skip-host-validation"), columns)
	fmt.Fprintln(w)
	checkProblems(w, report)
	fmt.Fprintln(w, checkVerdict(report))
	return nil
}

func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// checkHead are the columns of the table, behind the mark and the name.
var checkHead = []string{"REACH", "KEY", "LOGIN", "SESSIONS", "HELPER", "RIGHTS", "INTERFACE", "FILTER", "CLOCK", "RTT", "RATE"}

func checkRow(in capture.InstanceCheck, anyHostKey bool) []string {
	key := stepMark(in, capture.StepHostKey)
	if anyHostKey && key == "-" {
		key = "-k"
	}
	return []string{
		stepMark(in, capture.StepReach), key, stepMark(in, capture.StepLogin), withMark(in, capture.StepSessions, sessionsText(in)),
		withMark(in, capture.StepHelper, helperText(in)), withMark(in, capture.StepRights, rightsText(in)), interfacesText(in),
		stepMark(in, capture.StepFilter), clockText(in), tripText(in), rateText(in),
	}
}

// checkTable has a line for each instance; where that is too wide, a paragraph. 0 columns are as many as it takes.
func checkTable(w io.Writer, report capture.CheckReport, anyHostKey bool, columns int) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tINSTANCE\t"+strings.Join(checkHead, "\t"))
	for _, in := range report.Instances {
		fmt.Fprintln(t, mark(in.Works)+"\t"+in.Name+"\t"+strings.Join(checkRow(in, anyHostKey), "\t"))
	}
	t.Flush()
	if columns > 0 && widest(b.String()) > columns {
		checkParagraphs(w, report, anyHostKey, columns)
		return
	}
	io.WriteString(w, b.String())
}

func widest(text string) (columns int) {
	for line := range strings.Lines(text) {
		columns = max(columns, utf8.RuneCountInString(strings.TrimRight(line, "\n")))
	}
	return columns
}

func checkParagraphs(w io.Writer, report capture.CheckReport, anyHostKey bool, columns int) {
	for _, in := range report.Instances {
		fmt.Fprintf(w, "%s %s\n", mark(in.Works), in.Name)
		line := " "
		for i, cell := range checkRow(in, anyHostKey) {
			word := strings.ToLower(checkHead[i]) + " " + cell
			if utf8.RuneCountInString(line+"  "+word) > columns && line != " " {
				fmt.Fprintln(w, line)
				line = " "
			}
			line += "  " + word
		}
		fmt.Fprintln(w, line)
	}
}

func mark(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}

func stepState(in capture.InstanceCheck, step capture.Step) capture.StepState {
	for _, s := range in.Steps {
		if s.Step == step {
			return s.State
		}
	}
	return capture.StepSkipped
}

func stepMark(in capture.InstanceCheck, step capture.Step) string {
	switch stepState(in, step) {
	case capture.StepPassed:
		return "✓"
	case capture.StepFailed:
		return "✗"
	}
	return "-"
}

func withMark(in capture.InstanceCheck, step capture.Step, text string) string {
	if stepState(in, step) == capture.StepSkipped {
		return "-"
	}
	return strings.TrimSpace(stepMark(in, step) + " " + text)
}

func sessionsText(in capture.InstanceCheck) string {
	switch s := in.Sessions; {
	case s == nil:
		return "?"
	case s.More:
		return fmt.Sprintf("≥%d", s.Free)
	}
	return fmt.Sprint(in.Sessions.Free)
}

func helperText(in capture.InstanceCheck) string {
	if in.Helper == "" {
		return ""
	}
	return path.Base(in.Helper) + " " + cmp.Or(in.HelperVersion, "?")
}

func rightsText(in capture.InstanceCheck) string {
	switch {
	case stepState(in, capture.StepRights) == capture.StepFailed:
		return ""
	case in.Sudo:
		return "sudo"
	case in.User != nil && *in.User == 0:
		return "root"
	}
	return ""
}

// interfacesText has a mark for each interface when there are several and they differ.
func interfacesText(in capture.InstanceCheck) string {
	if stepState(in, capture.StepInterface) == capture.StepSkipped {
		return "-"
	}
	var names []string
	differ := false
	for _, i := range in.Captures {
		names = append(names, i.Interface)
		differ = differ || i.Works != in.Captures[0].Works
	}
	if !differ {
		return stepMark(in, capture.StepInterface) + " " + strings.Join(names, ",")
	}
	for i := range names {
		names[i] = mark(in.Captures[i].Works) + " " + names[i]
	}
	return strings.Join(names, " ")
}

// unmeasured is the text of something that is not known, or not looked at where there was no way in.
func unmeasured(in capture.InstanceCheck) string {
	if stepState(in, capture.StepLogin) == capture.StepPassed {
		return "?"
	}
	return "-"
}

func clockText(in capture.InstanceCheck) string {
	if in.Clock == nil {
		return unmeasured(in)
	}
	off := in.Clock.Offset
	switch {
	case off.Abs() < time.Second:
		return fmt.Sprintf("%+.1f±%.1f ms", float64(off)/float64(time.Millisecond), float64(in.Clock.Error)/float64(time.Millisecond))
	case off.Abs() < 2*time.Minute:
		return fmt.Sprintf("%+.1f s", off.Seconds())
	case off > 0:
		return "+" + off.Round(time.Minute).String()
	}
	return off.Round(time.Minute).String()
}

func tripText(in capture.InstanceCheck) string {
	if in.RoundTrip == nil {
		return unmeasured(in)
	}
	return fmt.Sprintf("%.1f ms", *in.RoundTrip)
}

func rateText(in capture.InstanceCheck) string {
	if in.Throughput == nil {
		return unmeasured(in)
	}
	return humanize.Bytes(uint64(*in.Throughput)) + "/s"
}

// checkProblems says what stands in the way, and then what is only worth a word: once for all instances with the same.
func checkProblems(w io.Writer, report capture.CheckReport) {
	var problems, notes []trouble
	for _, in := range report.Instances {
		for _, p := range in.Problems {
			text := p.Problem
			if p.Interface != "" {
				text = p.Interface + ": " + text
			}
			problems = append(problems, trouble{in.Name, text, p.Hint})
		}
		for _, note := range in.Notes {
			notes = append(notes, trouble{name: in.Name, problem: note})
		}
	}
	for _, c := range causes(problems) {
		fmt.Fprintf(w, "✗ %s: %s\n", c.who(), c.problem)
		c.printFingerprints(w)
		printHint(w, c.hintText())
	}
	if report.Problem != "" {
		fmt.Fprintf(w, "✗ %s\n", report.Problem)
		printHint(w, report.Hint)
	}
	for _, c := range causes(notes) {
		fmt.Fprintf(w, "! %s: %s\n", c.who(), c.problem)
	}
}

// printHint writes the hint below a problem.
func printHint(w io.Writer, hint string) {
	if hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", strings.ReplaceAll(hint, "\n", "\n  "))
	}
}

func checkVerdict(report capture.CheckReport) string {
	works, all := report.Works(), len(report.Instances)
	switch {
	case works == 0:
		return "A capture would not work."
	case works == all && all == 1:
		return "A capture would work."
	case works == all:
		return fmt.Sprintf("A capture would work on all %s.", count(all, "instance"))
	}
	return fmt.Sprintf("A capture would work on %d of %s.", works, count(all, "instance"))
}
