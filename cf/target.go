package cf

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what a target may name.
const (
	maxIndex   = 99_999
	maxIndexes = 10_000
	maxName    = 1024 // bytes; the platform itself allows names of 255 characters
)

// Target is one process of an app, or some instances of it.
type Target struct {
	App     string
	Process string // its type; "" is web
	Indexes []int  // of the instances, in ascending order, each once; nil is all that are running
}

func (t Target) process() string {
	if t.Process == "" {
		return "web"
	}
	return t.Process
}

const targetTip = "a target is cf:APP[/PROCESS][/INDEX], such as cf:shop, cf:shop/worker or cf:shop/web/0,2-4"

// ParseTarget takes what stands after "cf:", APP[/PROCESS][/INDEX[,INDEX…|N-M]]. "shop/0,2-4" are instances of the
// process web: a process whose type looks like indexes cannot be named.
func ParseTarget(s string) (Target, error) {
	parts := strings.Split(s, "/")
	if len(s) > maxName || len(parts) > 3 || slices.Contains(parts, "") || strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) {
		return Target{}, problem(KindTarget, targetTip, "%q is not an app, a process or an instance", oneLine(s))
	}
	t := Target{App: parts[0]}
	switch {
	case len(parts) == 1:
		return t, nil
	case len(parts) == 2 && !looksLikeIndexes(parts[1]):
		t.Process = parts[1]
		return t, nil
	case len(parts) == 3:
		if looksLikeIndexes(parts[1]) {
			return Target{}, problem(KindTarget, targetTip, "%q is not the type of a process", parts[1])
		}
		t.Process = parts[1]
	}
	var err error
	t.Indexes, err = ParseIndexes(parts[len(parts)-1])
	if err != nil {
		return Target{}, err
	}
	return t, nil
}

func looksLikeIndexes(s string) bool { return strings.Trim(s, "0123456789,-") == "" }

const indexTip = "instances are named like 0 or 0,2-4"

// ParseIndexes takes a list like "0,2-4" and gives the indexes in ascending order, each once.
func ParseIndexes(s string) ([]int, error) {
	var all []int
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, ok := parseIndex(first)
		to, ok2 := from, true
		if isRange {
			to, ok2 = parseIndex(last)
		}
		if !ok || !ok2 || from > to {
			return nil, problem(KindTarget, indexTip, "%q is not the index of an instance", oneLine(part))
		}
		if len(all)+to-from >= maxIndexes {
			return nil, problem(KindTarget, indexTip, "more than %d instances are named", maxIndexes)
		}
		for i := from; i <= to; i++ {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func parseIndex(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= maxIndex
}
