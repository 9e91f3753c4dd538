package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/merge"
)

// summarize prints what the capture did: a table with a line for each instance, what is worth a warning, and where the
// packets are.
func (s *session) summarize(report capture.Report) {
	s.display.report(func(w io.Writer) {
		printTable(w, report)
		printWarnings(w, report)
		printHelperNotes(w, report)
		printLate(w, report)
		printSaved(w, report)
	})
}

func printTable(w io.Writer, report capture.Report) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INSTANCE\tPACKETS\tBYTES\tDROPPED\tLATE\tFIRST\tLAST\tEND")
	shown, others := choose(report.Instances)
	for _, in := range shown {
		printRow(t, in.Name, sum(in.Interfaces), howItEnded(in))
	}
	if len(others) > 0 {
		var interfaces []capture.InterfaceReport
		for _, in := range others {
			interfaces = append(interfaces, in.Interfaces...)
		}
		printRow(t, humanize.Comma(int64(len(others)))+" more", sum(interfaces), "stopped; --report FILE has them all")
	}
	for i, in := range report.LeftOut {
		if i == mostRows {
			fmt.Fprintf(t, "%s more\t-\t-\t-\t-\t-\t-\tleft out; --report FILE has them all\n", humanize.Comma(int64(len(report.LeftOut)-i)))
			break
		}
		fmt.Fprintf(t, "%s\t-\t-\t-\t-\t-\t-\t%s\n", in.Name, whyLeftOut(in))
	}
	t.Flush()
}

func printRow(w io.Writer, name string, row capture.InterfaceReport, end string) {
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", name, humanize.Comma(row.Written), humanize.Bytes(uint64(row.Bytes)),
		number(row.Dropped), row.Late, clock(row.First), clock(row.Last), end)
}

// mostRows is how long a table people look through. Of problems it shows all.
const mostRows = 50

// choose leaves out of a long table those that there is least to say of: which captured to the end, and gave the fewest
// packets. The others stay in their order.
func choose(all []capture.InstanceReport) (shown, others []capture.InstanceReport) {
	if len(all) <= mostRows {
		return all, nil
	}
	order := make([]int, len(all)) // the most important first
	rank := make([]int64, len(all))
	for i, in := range all {
		order[i], rank[i] = i, sum(in.Interfaces).Written
		if !quiet(in) {
			rank[i] = math.MaxInt64
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[b], rank[a]) })
	keep := make([]bool, len(all))
	for n, i := range order {
		keep[i] = n < mostRows || rank[i] == math.MaxInt64
	}
	for i, in := range all {
		if keep[i] {
			shown = append(shown, in)
		} else {
			others = append(others, in)
		}
	}
	return shown, others
}

// quiet reports whether an instance ended as it should, and nothing is missing.
func quiet(in capture.InstanceReport) bool {
	dropped := sum(in.Interfaces).Dropped
	return in.State == capture.OK && (dropped == nil || *dropped == 0)
}

// sum adds up interfaces.
func sum(interfaces []capture.InterfaceReport) capture.InterfaceReport {
	var total capture.InterfaceReport
	for _, i := range interfaces {
		total.Received += i.Received
		total.Written += i.Written
		total.Discarded += i.Discarded
		total.Late += i.Late
		total.Truncated += i.Truncated
		total.Bytes += i.Bytes
		total.Oddities = append(total.Oddities, i.Oddities...)
		total.Captured = plus(total.Captured, i.Captured)
		total.Dropped = plus(total.Dropped, i.Dropped)
		total.Unread = plus(total.Unread, i.Unread)
		total.Behind = total.Behind || i.Behind
		if i.First != nil && (total.First == nil || i.First.Before(*total.First)) {
			total.First = i.First
		}
		if i.Last != nil && (total.Last == nil || i.Last.After(*total.Last)) {
			total.Last = i.Last
		}
	}
	return total
}

// plus adds numbers of which either may be unknown.
func plus(a, b *int64) *int64 {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	n := *a + *b
	return &n
}

// number is a number that may be unknown.
func number(n *int64) string {
	if n == nil {
		return "?"
	}
	return humanize.Comma(*n)
}

func clock(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("15:04:05.000")
}

func howItEnded(in capture.InstanceReport) string {
	switch in.State {
	case capture.OK:
		for _, i := range in.Interfaces {
			if i.End != "" && i.End != "stopped" {
				return i.End
			}
		}
		return "stopped"
	case capture.Unneeded:
		return "stopped before it was capturing"
	}
	return fmt.Sprintf("%s: %s", in.State, in.Problem)
}

func whyLeftOut(in capture.LeftOut) string {
	if in.Details == "" {
		return "left out: " + in.State
	}
	return "left out: " + in.State + " (" + in.Details + ")"
}

// printWarnings says what a reader of the file should know before trusting it.
// Each is said once for all instances that it is true of.
func printWarnings(w io.Writer, report capture.Report) {
	var dropped, behind, missing warning
	var arrived int64
	for _, in := range report.Instances {
		row := sum(in.Interfaces)
		if row.Dropped != nil && *row.Dropped > 0 {
			dropped.add(in.Name, *row.Dropped)
		}
		if row.Behind && row.Unread != nil && *row.Unread > 0 {
			behind.add(in.Name, *row.Unread)
		}
		if in.State == capture.OK && row.Captured != nil && *row.Captured > row.Received {
			missing.add(in.Name, *row.Captured)
			arrived += row.Received
		}
	}
	dropped.print(w, "its kernel dropped %s", "their kernels dropped %s", count(int(dropped.packets), "packet"),
		"narrow it with --filter, --snaplen or --interface, or give a larger --helper-buffer")
	behind.print(w, "it was behind when it was stopped, and up to %s from its last moments are missing",
		"they were behind when they were stopped, and up to %s from their last moments are missing", count(int(behind.packets), "packet"),
		"narrow it with --filter or --snaplen")
	captured := fmt.Sprintf("%s packets, and %s arrived", humanize.Comma(missing.packets), humanize.Comma(arrived))
	missing.print(w, "the helper says it captured %s", "the helpers say that they captured %s", captured, "")
	warnOdd(w, report)
}

// warning is what is not as it should be with some instances.
type warning struct {
	names   []string
	packets int64 // that it concerns
}

func (t *warning) add(name string, packets int64) {
	if n := len(t.names); n == 0 || t.names[n-1] != name { // of several interfaces it may be told, too
		t.names = append(t.names, name)
	}
	t.packets += packets
}

// print says it, in the words for one instance or for several.
func (t *warning) print(w io.Writer, one, several, what, hint string) {
	if len(t.names) == 0 {
		return
	}
	text := one
	if len(t.names) > 1 {
		text = several
	}
	fmt.Fprintf(w, "warning: %s: %s", cause{names: t.names}.who(), fmt.Sprintf(text, what))
	if hint != "" {
		fmt.Fprintf(w, "; hint: %s", hint)
	}
	fmt.Fprintln(w)
}

// warnOdd says which packets make no sense in themselves, and what became of them.
func warnOdd(w io.Writer, report capture.Report) {
	var kinds []merge.Oddity // each with the count of all
	var from []warning
	for _, in := range report.Instances {
		for _, o := range sum(in.Interfaces).Oddities {
			i := slices.IndexFunc(kinds, func(k merge.Oddity) bool { return k.What == o.What })
			if i < 0 {
				i = len(kinds)
				kinds, from = append(kinds, merge.Oddity{What: o.What, Thing: o.Thing, Text: o.Text}), append(from, warning{})
			}
			kinds[i].Count += o.Count
			from[i].add(in.Name, o.Count)
		}
	}
	for i, kind := range kinds {
		from[i].print(w, "gave %s", "gave %s", count(int(kind.Count), kind.Thing)+" "+kind.Text, "")
	}
}

// printLate says what became of packets that came when later ones had been written.
func printLate(w io.Writer, report capture.Report) {
	var late int64
	for _, in := range report.Instances {
		late += sum(in.Interfaces).Late
	}
	out := report.Output
	switch {
	case late == 0:
	case out.InOrder:
		fmt.Fprintf(w, "%s came late and have been put in their place.\n", count(int(late), "packet"))
	case out.Path == "-":
		fmt.Fprintf(w, "warning: %s came late and stand behind later ones; hint: a longer --window, or a file, which is put in order at the end\n",
			count(int(late), "packet"))
	default:
		fmt.Fprintf(w, "warning: %s came late and stand behind later ones, since the file was not put in order (%s); hint: sshpcap merge -o FILE '%s' does it\n",
			count(int(late), "packet"), out.Problem, out.Path)
	}
}

func printSaved(w io.Writer, report capture.Report) {
	out := report.Output
	if report.End == capture.EndRequired {
		fmt.Fprintln(w, "Ended early: an instance failed, and --require-all was given.")
	}
	if len(out.Files) > 0 {
		printFiles(w, out)
		return
	}
	switch out.Path {
	case "":
		fmt.Fprintln(w, "Nothing was captured, and no file was written.")
	case "-":
		fmt.Fprintf(w, "Wrote %s (%s).\n", count(int(out.Packets), "packet"), humanize.Bytes(uint64(out.Bytes)))
	default:
		if _, err := os.Stat(out.Path); err != nil {
			return // somebody has removed it, which is said elsewhere
		}
		fmt.Fprintf(w, "Saved capture to '%s' (%s, %s).\n", out.Path, count(int(out.Packets), "packet"), humanize.Bytes(uint64(out.Bytes)))
	}
}

// printFiles says where a capture in several files is.
func printFiles(w io.Writer, out capture.OutputReport) {
	where := fmt.Sprintf("'%s' to '%s'", out.Files[0], out.Files[len(out.Files)-1])
	if len(out.Files) == 1 {
		where = fmt.Sprintf("'%s'", out.Files[0])
	}
	if _, err := os.Stat(out.Path); err == nil {
		where = fmt.Sprintf("'%s', and to %s", out.Path, where)
	}
	fmt.Fprintf(w, "Saved capture to %s (%s, %s).\n", where, count(int(out.Packets), "packet"), humanize.Bytes(uint64(out.Bytes)))
	if out.Removed > 0 {
		fmt.Fprintf(w, "Of these files the oldest %d were removed, as --rotate-keep says.\n", out.Removed)
	}
}
