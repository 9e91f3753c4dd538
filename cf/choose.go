package cf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const running = "RUNNING"

// choose picks from all instances of a process those that t means.
func choose(t Target, all []Instance) (Found, error) {
	slices.SortStableFunc(all, func(a, b Instance) int { return cmp.Compare(a.Index, b.Index) })
	var found Found
	for _, in := range all {
		switch {
		case t.Indexes != nil && !slices.Contains(t.Indexes, in.Index):
		case in.State == running:
			found.Running = append(found.Running, in)
		default:
			found.Skipped = append(found.Skipped, in)
		}
	}
	for _, i := range t.Indexes {
		if err := checkIndex(t, all, found, i); err != nil {
			return found, err
		}
	}
	if len(found.Running) == 0 {
		return found, noneRunning(t, found.Skipped)
	}
	return found, nil
}

func hasIndex(all []Instance, i int) bool {
	return slices.ContainsFunc(all, func(in Instance) bool { return in.Index == i })
}

// checkIndex says what is wrong with an instance that was named.
func checkIndex(t Target, all []Instance, found Found, i int) error {
	switch {
	case hasIndex(found.Running, i):
		return nil
	case !hasIndex(all, i):
		return problem(KindNoInstance, has(t, all), "Instance %d of process %s not found", i, oneLine(t.process()))
	}
	in := found.Skipped[slices.IndexFunc(found.Skipped, func(in Instance) bool { return in.Index == i })]
	what := fmt.Sprintf("instance %d of process %s is %s", i, oneLine(t.process()), in.State)
	if in.Details != "" {
		what += ": " + in.Details
	}
	return problem(KindNotRunning, stateTip(t, in.State), "%s", what)
}

func has(t Target, all []Instance) string {
	if len(all) == 0 {
		return "it has none; start some with '" + scale(t) + "'"
	}
	last := all[len(all)-1].Index
	if last == 0 {
		return "it has instance 0 only"
	}
	return fmt.Sprintf("it has instances 0 to %d", last)
}

// scale is the command that gives a process instances: without --process, it is web.
func scale(t Target) string {
	command := "cf scale " + shellWord(t.App)
	if t.process() != "web" {
		command += " --process " + shellWord(t.process())
	}
	return command + " -i N"
}

func stateTip(t Target, state string) string {
	app := shellWord(t.App)
	switch state {
	case "STARTING":
		return "wait until it runs: 'cf app " + app + "' shows it"
	case "CRASHED":
		return "'cf logs " + app + " --recent' shows why; only running instances can be captured on"
	case "DOWN":
		return "the platform has no place for it, or has not started it yet: 'cf app " + app + "' and 'cf events " + app + "' show more"
	}
	return "only running instances can be captured on: 'cf app " + app + "' shows them"
}

// noneRunning is the error when there is nothing to capture on.
func noneRunning(t Target, skipped []Instance) error {
	name := oneLine(t.App) + "/" + oneLine(t.process())
	if len(skipped) == 0 {
		return problem(KindNotRunning, "start some with '"+scale(t)+"'", "%s has no instances", name)
	}
	const most = 5
	var states []string
	for _, in := range skipped[:min(len(skipped), most)] {
		states = append(states, fmt.Sprintf("%d is %s", in.Index, in.State))
	}
	if more := len(skipped) - most; more > 0 {
		states = append(states, fmt.Sprintf("and %d more", more))
	}
	return problem(KindNotRunning, stateTip(t, skipped[0].State), "no instance of %s is running (%s)", name, strings.Join(states, ", "))
}
