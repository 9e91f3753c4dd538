package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
)

func listCommand(signals *signals) *cli.Command {
	return &cli.Command{
		Name:            "list",
		Usage:           "list what could be captured on: instances, their state and network interfaces",
		ArgsUsage:       "TARGET…",
		HideHelpCommand: true, // what it takes may be called help
		Description: aboutTargets +
			"SSH hosts are logged in to and asked; of apps the platform is asked, also for instances that do not run.",
		Flags:        listFlags(),
		OnUsageError: usage,
		Action:       func(c *cli.Context) error { return runList(c, signals) },
	}
}

// listFlags are those of a capture that say how to log in, and some of its own.
func listFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "print a `KIND` of table, wide (a table with more), json, yaml or name; name is a target a line of what can be captured on now"},
		&cli.BoolFlag{Name: "no-headers", DisableDefaultText: true, Usage: "print tables without their first line"},
	}
	names := []string{"login", "identity", "jump", "ssh-config", "connect-timeout", "skip-host-validation"}
	for _, f := range captureFlags() {
		if slices.Contains(names, f.Names()[0]) {
			flags = append(flags, f)
		}
	}
	return flags
}

var listPrinters = map[string]func(w io.Writer, list []capture.Listing, headers bool) error{
	"table": printList, "wide": printWide, "json": printListJSON, "yaml": printListYAML, "name": printNames,
}

func runList(c *cli.Context, signals *signals) error {
	show, ok := listPrinters[c.String("output")]
	if !ok {
		return invalid("output", c.String("output"), "table, wide, json, yaml or name")
	}
	if err := checkNumbers(c); err != nil {
		return err
	}
	s, err := newLook(c, signals)
	if err != nil {
		return err
	}
	defer s.close()
	cfg := capture.Config{Instances: s.found.hosts, ConnectTimeout: c.Duration("connect-timeout"), Cut: signals.cut}
	list := append(capture.List(signals.ctx, cfg), s.found.listApps()...)
	var b bytes.Buffer
	if err = show(&b, list, !c.Bool("no-headers")); err == nil {
		err = s.print(b.Bytes())
	}
	printListProblems(os.Stderr, list)
	return s.end(err, listStatus(list))
}

// printListProblems says why instances could not be asked, once for all with the same problem.
func printListProblems(w io.Writer, list []capture.Listing) {
	var problems []trouble
	for _, l := range list {
		if l.Problem != "" {
			problems = append(problems, trouble{l.Name, l.Problem, l.Hint})
		}
	}
	for _, c := range causes(problems) {
		new(session).printCause(w, c)
	}
}

func listStatus(list []capture.Listing) int {
	failed := 0
	for _, l := range list {
		if l.State == capture.StateFailed {
			failed++
		}
	}
	switch failed {
	case 0:
		return exitOK
	case len(list):
		return exitNothing
	}
	return exitSome
}

// The states of an app that has no instances to list.
const (
	stateStopped = "STOPPED"
	stateEmpty   = "EMPTY"
	stateRunning = "RUNNING" // the platform's word for an instance that can be captured on
)

// listApps lists what the platform says.
func (t *targets) listApps() (list []capture.Listing) {
	seen := make(map[string]bool)
	for _, app := range t.apps {
		instances := slices.Concat(app.found.Running, app.found.Skipped)
		slices.SortStableFunc(instances, func(a, b cf.Instance) int { return cmp.Compare(a.Index, b.Index) })
		for _, in := range instances {
			if !seen[in.Name()] {
				seen[in.Name()] = true
				list = append(list, listApp(in))
			}
		}
		if l, ok := app.list(len(instances)); ok {
			list = append(list, l)
		}
	}
	return list
}

func listApp(in cf.Instance) capture.Listing {
	var details []string
	if in.Cell != "" {
		details = append(details, "cell "+in.Cell)
	}
	if in.Uptime > 0 {
		details = append(details, "up for "+in.Uptime.Truncate(time.Second).String())
	}
	if in.Details != "" {
		details = append(details, in.Details)
	}
	return capture.Listing{Name: in.Name(), Target: fmt.Sprintf("%s%s/%s/%d", appPrefix, in.App, in.Process, in.Index),
		State: in.State, Address: in.InternalIP, Details: strings.Join(details, ", ")}
}

// list is a target of which not all was found, where its instances do not say that themselves.
func (a appFound) list(instances int) (capture.Listing, bool) {
	l := capture.Listing{Name: a.target, Target: a.target}
	switch kind := cf.KindOf(a.err); {
	case a.err == nil, kind == cf.KindNotRunning && instances > 0:
		return l, false
	case kind == cf.KindNotRunning:
		l.State = stateEmpty
	case kind == cf.KindStopped:
		l.State = stateStopped
	default:
		l.State, l.Problem = capture.StateFailed, a.err.Error()
		var hinter interface{ Hint() string }
		if errors.As(a.err, &hinter) {
			l.Hint = hinter.Hint()
		}
	}
	return l, true
}

func printList(w io.Writer, list []capture.Listing, headers bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if headers {
		fmt.Fprintln(t, "INSTANCE\tSTATE\tADDRESS\tINTERFACES")
	}
	for _, l := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Name, l.State, cmp.Or(l.Address, "-"), namesOf(l.Interfaces))
	}
	return t.Flush()
}

func printWide(w io.Writer, list []capture.Listing, headers bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if headers {
		fmt.Fprintln(t, "INSTANCE\tSTATE\tADDRESS\tTARGET\tDETAILS\tINTERFACES")
	}
	for _, l := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.State, cmp.Or(l.Address, "-"), l.Target, cmp.Or(l.Details, "-"), interfacesOf(l.Interfaces))
	}
	return t.Flush()
}

// namesOf names interfaces, and says which are down; a host may have hundreds.
func namesOf(interfaces []capture.NetInterface) string {
	const most = 8
	if interfaces == nil {
		return "?"
	}
	var names []string
	for _, i := range interfaces[:min(len(interfaces), most)] {
		name := i.Name
		if i.State == "down" {
			name += "(down)"
		}
		names = append(names, name)
	}
	if more := len(interfaces) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, " ")
}

// interfacesOf is all of them with their addresses: "lo=127.0.0.1/8 eth0(down)".
func interfacesOf(interfaces []capture.NetInterface) string {
	if interfaces == nil {
		return "?"
	}
	var texts []string
	for _, i := range interfaces {
		text := i.Name
		if i.State == "down" {
			text += "(down)"
		}
		for n, address := range i.Addresses {
			text += string("=,"[min(n, 1)]) + address.String()
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

// listDocument is a list for other programs.
type listDocument struct {
	Version   int               `json:"version"`
	Instances []capture.Listing `json:"instances"`
}

func printListJSON(w io.Writer, list []capture.Listing, _ bool) error {
	return printJSON(w, listDocument{1, list})
}

func printListYAML(w io.Writer, list []capture.Listing, _ bool) error {
	text, err := json.Marshal(listDocument{1, list})
	if err != nil {
		return err
	}
	return writeYAML(w, text)
}

// printNames is for @FILE.
func printNames(w io.Writer, list []capture.Listing, _ bool) error {
	var targets []string
	for _, l := range list {
		if l.State == capture.StateUp || l.State == stateRunning {
			targets = append(targets, l.Target)
		}
	}
	for _, target := range unique(targets) {
		if _, err := fmt.Fprintln(w, target); err != nil {
			return err
		}
	}
	return nil
}
