package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/sshpcap/sshpcap/capture"
)

// display shows on stderr what goes on: whole lines about what happened, and below them how far the capture is.
type display struct {
	quiet    bool
	progress *capture.Progress

	mu      sync.Mutex // of the terminal
	w       io.Writer
	bar     *progressbar.ProgressBar // nil: plain lines
	every   time.Duration            // between two looks at the progress; 0 = none is shown
	goal    goal
	start   time.Time // of the capture proper
	last    sample
	shown   counts // with the last plain line
	columns int    // of the terminal, where it does not say
	asked   string // a question that stands on the terminal's last line, in place of the progress

	cut <-chan struct{} // closed when nobody wants to wait; nil = never

	stop chan struct{} // closed by end
	done sync.WaitGroup
}

// goal is what a bar can be full of.
type goal struct {
	duration time.Duration
	count    int64
}

// sample is a state of the progress, to find rates by.
type sample struct {
	at    time.Time
	bytes int64
}

const (
	barEvery   = 200 * time.Millisecond
	plainEvery = 10 * time.Second
	barSteps   = 10_000
)

// newDisplay makes a display of one of the kinds auto, bar, plain and none.
func newDisplay(kind string, quiet bool, progress *capture.Progress, g goal) (*display, error) {
	d := &display{quiet: quiet, progress: progress, w: newQueue(os.Stderr), goal: g, columns: 80, stop: make(chan struct{})}
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	switch {
	case kind != "auto" && kind != "bar" && kind != "plain" && kind != "none":
		return nil, invalid("progress", kind, "auto, bar, plain or none")
	case quiet || kind == "none":
	case kind == "bar" || kind == "auto" && terminal:
		d.bar, d.every = newBar(d.w, g), barEvery
	default:
		d.every = plainEvery
	}
	return d, nil
}

func newBar(w io.Writer, g goal) *progressbar.ProgressBar {
	steps := int64(-1)
	if g.duration > 0 || g.count > 0 {
		steps = barSteps
	}
	return progressbar.NewOptions64(steps,
		progressbar.OptionSetWriter(struct{ io.Writer }{w}), // a plain writer: a *os.File is synced at each step
		progressbar.OptionSetSpinnerChangeInterval(0),       // no goroutine of its own
		progressbar.OptionSpinnerType(14),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetWidth(8),
	)
}

// begin starts to show the progress, counting the time from now.
func (d *display) begin() {
	d.mu.Lock()
	d.start = time.Now()
	d.last = sample{at: d.start}
	d.mu.Unlock()
	if d.every == 0 {
		return
	}
	d.done.Go(func() {
		tick := time.NewTicker(d.every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				d.show()
			case <-d.stop:
				return
			}
		}
	})
}

// end stops showing the progress.
func (d *display) end() {
	close(d.stop)
	d.done.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clear()
}

// restart counts the time from now: the capture proper begins.
func (d *display) restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.start = time.Now()
}

// ask leaves the last line of the terminal to a question until answered is called. What else is shown meanwhile stands
// above it.
func (d *display) ask(question string) (answered func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clear()
	d.asked = safe(question)
	fmt.Fprint(d.w, d.asked)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked = ""
	}
}

// close waits until all has been shown. Nothing is shown after it.
func (d *display) close() {
	if q, ok := d.w.(*queue); ok {
		q.close(lastWords, d.cut)
	}
}

// lastWords is how long a terminal or pager that takes nothing may hold up the end.
const lastWords = 10 * time.Second

// line writes a whole line. It is not shown with --quiet.
func (d *display) line(format string, args ...any) {
	d.report(func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// report writes several lines. They are not shown with --quiet.
func (d *display) report(write func(io.Writer)) {
	if !d.quiet {
		d.problem(write)
	}
}

// problem writes what must be seen, even with --quiet.
func (d *display) problem(write func(io.Writer)) {
	var text bytes.Buffer // in one piece: the table of a thousand instances has more cells than texts may wait
	write(plain{&text})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked != "" {
		fmt.Fprintln(d.w)
	} else {
		d.clear()
	}
	fmt.Fprintf(d.w, "%s%s", text.Bytes(), d.asked)
}

func (d *display) clear() {
	if d.bar != nil {
		fmt.Fprint(d.w, "\r\033[2K")
	}
}

func (d *display) show() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked != "" {
		return
	}
	if d.bar == nil && !d.hasChanged() {
		return
	}
	text := d.text(time.Now())
	if d.bar == nil {
		fmt.Fprintln(d.w, text)
		return
	}
	if d.goal != (goal{}) {
		d.bar.Set64(d.reached())
	}
	d.bar.Describe(cut(text, d.room()))
}

// counts are what a line of the progress tells, but for the time and what follows from it.
type counts struct{ instances, capturing, packets, dropped, reported, late int64 }

// hasChanged reports whether there is something new to show since it was asked last.
func (d *display) hasChanged() bool {
	p := d.progress
	now := counts{p.Instances.Load(), p.Capturing.Load(), p.Packets.Load(), p.Dropped.Load(), p.Reported.Load(), p.Late.Load()}
	if now == d.shown {
		return false
	}
	d.shown = now
	return true
}

// Columns that a bar takes beside its text, and the least that are left to that.
const (
	barColumns     = 18
	spinnerColumns = 6 // and what ^C leaves
	leastColumns   = 12
)

// room is how many columns there are for the text: a line that wraps cannot be written over.
func (d *display) room() int {
	width := d.columns
	if w, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && w > 0 {
		width = w
	}
	if d.goal != (goal{}) {
		width -= barColumns
	}
	return max(width-spinnerColumns, leastColumns)
}

func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n-1] + "…"
}

// reached is how much of the goal is done, in steps of the bar. It never says "full": the end does.
func (d *display) reached() int64 {
	var part float64
	if d.goal.duration > 0 {
		part = float64(time.Since(d.start)) / float64(d.goal.duration)
	}
	if d.goal.count > 0 {
		part = max(part, float64(d.progress.Packets.Load())/float64(d.goal.count))
	}
	return min(int64(part*barSteps), barSteps-1)
}

// text is the state of the capture in one line.
func (d *display) text(now time.Time) string {
	p := d.progress
	bytes := p.Bytes.Load()
	rate := float64(bytes-d.last.bytes) / max(now.Sub(d.last.at).Seconds(), 0.001)
	d.last = sample{now, bytes}
	dropped := "?"
	if p.Reported.Load() > 0 {
		dropped = humanize.Comma(p.Dropped.Load())
	}
	text := fmt.Sprintf("%d/%d instances  %s packets  %s  %s/s  dropped %s  %s",
		p.Capturing.Load(), p.Instances.Load(), humanize.Comma(p.Packets.Load()), humanize.Bytes(uint64(bytes)),
		humanize.Bytes(uint64(rate)), dropped, now.Sub(d.start).Truncate(time.Second))
	if late := p.Late.Load(); late > 0 {
		text += fmt.Sprintf("  late %d", late)
	}
	return text
}
