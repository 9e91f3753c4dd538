package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sshpcap/sshpcap/capture"
)

// printHelperNotes tells once of helpers that do not count what they drop: DROPPED has a question mark there.
func printHelperNotes(w io.Writer, report capture.Report) {
	var notes []string // in the order in which they come
	names := make(map[string][]string)
	for _, in := range report.Instances {
		for _, note := range in.Notes {
			if !strings.HasSuffix(note, capture.NotCounted) {
				continue
			}
			if len(names[note]) == 0 {
				notes = append(notes, note)
			}
			names[note] = append(names[note], in.Name)
		}
	}
	for _, note := range notes {
		fmt.Fprintf(w, "note: %s: %s\n", someOf(names[note], len(report.Instances)), note)
	}
}

// someOf names instances, where they are not all.
func someOf(names []string, all int) string {
	const most = 5
	switch {
	case len(names) == 1:
		return names[0]
	case len(names) == all:
		return "all instances"
	case len(names) > most:
		return strings.Join(slices.Concat(names[:most], []string{"…"}), ", ") + fmt.Sprintf(" (%d instances)", len(names))
	}
	return strings.Join(names, ", ")
}
