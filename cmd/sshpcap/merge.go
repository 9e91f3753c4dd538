package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/files"
	"github.com/sshpcap/sshpcap/internal/newfile"
)

func mergeCommand(signals *signals) *cli.Command {
	return &cli.Command{
		Name:            "merge",
		Usage:           "merge capture files into one in time order",
		ArgsUsage:       "FILE…",
		HideHelpCommand: true, // what it takes may be called help
		Description: "Each FILE is pcap or pcapng, or one of them compressed with gzip or zstd, whatever its name; - is standard\n" +
			"input. None needs to be in order. A packet that makes no sense is mended or left out, and counted. Where nothing can be\n" +
			"found behind it, the file ends there: all before it is used, and the place is named. If packets are left out or a file\n" +
			"ends early the exit status is 3.",
		Flags:        mergeFlags(),
		OnUsageError: usage,
		Action:       func(c *cli.Context) error { return runMerge(c, signals) },
	}
}

// mergeFlags are the flags of merge. The table of docs/flags.md and the man page are made from them.
func mergeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "merged.pcapng", Usage: "write to `FILE`, which appears when it is complete, compressed if its name ends in .gz or .zst; - is standard output"},
		&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the output, pcap or pcapng", DefaultText: "by the output's name"},
		&cli.BoolFlag{Name: "overwrite", DisableDefaultText: true, Usage: "replace an existing output"},
		&cli.StringFlag{Name: "dedup", Value: "none", Usage: "`HOW` to mark packets that another interface has, too: exact = by a comment, if all bytes are the same; none is dropped"},
		&cli.DurationFlag{Name: "dedup-window", Value: 10 * time.Millisecond, Usage: "look for them up to `D` before"},
		&cli.StringFlag{Name: "rotate-size", Usage: "begin a new file after `SIZE`, before it is compressed; names are made of the output's: all_00001_20261122T101112Z.pcapng", DefaultText: "one file"},
		&cli.DurationFlag{Name: "rotate-interval", Usage: "begin a new file after `D` of packets", DefaultText: "one file"},
		&cli.IntFlag{Name: "rotate-keep", Usage: "keep the last `N` files", DefaultText: "all"},
		&cli.StringFlag{Name: "temp-dir", Usage: "put what does not fit into memory into `DIR`", DefaultText: "the system's"},
		&cli.StringFlag{Name: "progress", Value: "auto", Usage: "show progress as a `KIND` of bar, or none; auto = bar on a terminal, else none"},
		&cli.BoolFlag{Name: "quiet", DisableDefaultText: true, Aliases: []string{"q"}, Usage: "print only problems"},
	}
}

func runMerge(c *cli.Context, signals *signals) error {
	cfg, err := mergeConfig(c)
	if err != nil {
		return err
	}
	show, err := newMergeBar(c.String("progress"), c.Bool("quiet"), cfg.Progress)
	if err != nil {
		return err
	}
	show.begin()
	report, err := mergeOrStop(signals, cfg)
	show.end()
	out, _ := cfg.Out.(*stream)
	if out != nil && !out.begun.Load() {
		newfile.LetGo(out.path, out.found)
	}
	return exit(mergeStatus(report, err, out, c.Bool("quiet")))
}

// mergeOrStop merges. After a signal it waits only a moment for a merge into a stream: whoever reads it may have stopped
// doing so. A file takes what it is given; only after a second signal it is waited for but a moment, too.
func mergeOrStop(signals *signals, cfg files.Config) (files.Report, error) {
	var stop <-chan struct{} = signals.cut
	if cfg.Out != nil {
		stop = signals.ctx.Done()
	}
	return untilStuck(stop, func() (files.Report, error) { return files.Merge(signals.ctx, cfg) })
}

// mergeConfig makes a merge's configuration of flags and arguments.
func mergeConfig(c *cli.Context) (files.Config, error) {
	format, err := parseFormat(c.String("format"), c.String("output"))
	rotateSize, err2 := parseSize("rotate-size", c.String("rotate-size"))
	compress, err3 := parseCompression(c.String("output"))
	err4 := checkMerge(c)
	if err := firstOf(err, err2, err3, err4); err != nil {
		return files.Config{}, err
	}
	cfg := files.Config{
		Inputs:         c.Args().Slice(),
		Stdin:          os.Stdin,
		Path:           c.String("output"),
		Overwrite:      c.Bool("overwrite"),
		Compress:       compress,
		RotateSize:     rotateSize,
		RotateInterval: c.Duration("rotate-interval"),
		RotateKeep:     c.Int("rotate-keep"),
		Application:    "sshpcap " + programVersion(),
		TempDir:        c.String("temp-dir"),
		Progress:       new(files.Progress),
	}
	if format == capture.Pcap {
		cfg.Format = files.Pcap
	}
	if c.String("dedup") == "exact" {
		cfg.Dedup = c.Duration("dedup-window")
	}
	return cfg, checkMergeOutput(&cfg)
}

// checkMerge refuses what makes no sense.
func checkMerge(c *cli.Context) error {
	format, _ := parseFormat(c.String("format"), c.String("output"))
	rotates := c.IsSet("rotate-size") || c.IsSet("rotate-interval")
	stdin := 0
	for _, name := range c.Args().Slice() {
		if name == "-" {
			stdin++
		}
	}
	switch how := c.String("dedup"); {
	case c.NArg() == 0:
		return &usageError{"there is no file to merge", "sshpcap merge a.pcap b.pcapng -o all.pcapng"}
	case stdin > 1:
		return &usageError{"standard input can be read only once", "give - once"}
	case stdin == 1 && term.IsTerminal(int(os.Stdin.Fd())):
		return &usageError{"standard input is a terminal", "give packets to it: … | sshpcap merge - …"}
	case how != "none" && how != "exact":
		return invalid("dedup", how, "none or exact")
	case how == "exact" && format == capture.Pcap:
		return &usageError{"a pcap file has no place for the marks of --dedup", "write pcapng: -o all.pcapng"}
	case c.Duration("dedup-window") <= 0:
		return invalid("dedup-window", c.Duration("dedup-window").String(), "a time above zero, like 10ms")
	case c.IsSet("rotate-interval") && c.Duration("rotate-interval") <= 0:
		return invalid("rotate-interval", c.Duration("rotate-interval").String(), "a time above zero, like 5m")
	case c.IsSet("rotate-keep") && c.Int("rotate-keep") <= 0:
		return invalid("rotate-keep", fmt.Sprint(c.Int("rotate-keep")), "a number above zero")
	case c.IsSet("rotate-keep") && !rotates:
		return &usageError{"nothing says when a new file is to begin", "give --rotate-size or --rotate-interval"}
	case rotates && c.String("output") == "-":
		return &usageError{"standard output cannot be several files", "name a file with -o"}
	}
	return nil
}

// checkMergeOutput says early what would be a pity to hear late.
func checkMergeOutput(cfg *files.Config) error {
	if cfg.Path == "-" || cfg.Path == "/dev/stdout" {
		if term.IsTerminal(int(os.Stdout.Fd())) {
			return &usageError{"standard output is a terminal, and packets would spoil it", "name a file with -o, or put a pipe behind: | wireshark -k -i -"}
		}
		cfg.Path, cfg.Out = "", &stream{file: os.Stdout}
		return nil
	}
	if err := newfile.Planted(cfg.Path); err != nil {
		return &usageError{err.Error(), "name a file with -o in a directory of your own"}
	}
	for _, name := range cfg.Inputs {
		if name != "-" && sameFile(name, cfg.Path) {
			return &usageError{cfg.Path + " is an input and the output", "name another file with -o"}
		}
	}
	info, err := os.Stat(cfg.Path)
	switch {
	case cfg.RotateSize > 0 || cfg.RotateInterval > 0:
		return nil
	case err == nil && info.IsDir():
		return &usageError{cfg.Path + " is a directory", "name a file with -o"}
	case err == nil && !info.Mode().IsRegular():
		cfg.Out = &stream{path: cfg.Path, found: info}
	case err == nil && !cfg.Overwrite:
		return &usageError{cfg.Path + " exists", "use --overwrite, or another -o"}
	}
	return nil
}

// stream is an output that no file is made of. A FIFO or device is opened when there is something to be written, which waits
// for a FIFO's reader.
type stream struct {
	path  string
	found fs.FileInfo // at path, when it was looked at
	file  *os.File    // closed by the end of the process
	begun atomic.Bool // some bytes are written, or being written
}

func (s *stream) Write(p []byte) (int, error) {
	if s.file == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	before := s.begun.Swap(true)
	n, err := s.file.Write(p)
	s.begun.Store(before || n > 0)
	return n, err
}

func (s *stream) open() error {
	file, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if s.file, err = newfile.Found(file, s.found); err != nil {
		return &os.PathError{Op: "open", Path: s.path, Err: err}
	}
	return nil
}

// mergeStatus says what came of a merge, to a stream unless that is nil, and returns the exit status.
func mergeStatus(report files.Report, err error, out *stream, quiet bool) int {
	var input *files.InputError
	var types *files.LinkTypeError
	switch {
	case errors.Is(err, errStuck) && out == nil:
		fmt.Fprintln(os.Stderr, "sshpcap: stopped while the output was being written")
		return exitCut
	case errors.Is(err, errStuck), errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "sshpcap: stopped; "+written(report, out))
		return exitCut
	case errors.Is(err, syscall.EMFILE):
		printError(os.Stderr, &usageError{err.Error() + "; " + written(report, out), "let more files be open: ulimit -n 1024"})
		return exitNothing
	case errors.As(err, &input):
		hint := "give pcap or pcapng files, also compressed with gzip or zstd"
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			hint = "check its name and rights"
		}
		printError(os.Stderr, &usageError{input.Error(), hint})
		return exitUsage
	case errors.As(err, &types):
		printError(os.Stderr, &usageError{types.Error(), "write pcapng: -o all.pcapng"})
		return exitUsage
	case errors.Is(err, fs.ErrExist):
		printError(os.Stderr, &usageError{err.Error() + "; " + written(report, out), "use --overwrite, or another -o"})
		return exitNothing
	case err != nil:
		printError(os.Stderr, &usageError{"the output was not written: " + err.Error() + "; " + written(report, out), "check its place, and the space there"})
		return exitNothing
	}
	if !quiet {
		printMerged(plain{os.Stderr}, report)
	}
	return printDamage(os.Stderr, report)
}

// written says what there is of an output that did not become whole.
func written(report files.Report, out *stream) string {
	switch n := len(report.Files); {
	case out != nil && out.begun.Load():
		return "the output is cut off"
	case n == 0:
		return "there is no output"
	default:
		return fmt.Sprintf("what there is: %s, the last one '%s'", count(n, "whole file"), report.Files[n-1])
	}
}

func printMerged(w io.Writer, report files.Report) {
	what := fmt.Sprintf("%s of %s, %s", count(int(report.Packets), "packet"), count(len(report.Inputs), "file"), humanize.Bytes(uint64(report.Size)))
	switch n := len(report.Files); n {
	case 0:
		fmt.Fprintf(w, "Wrote %s.\n", what)
	case 1:
		fmt.Fprintf(w, "Saved to '%s' (%s).\n", report.Files[0], what)
	default:
		fmt.Fprintf(w, "Saved to %d files, '%s' to '%s' (%s).\n", n, report.Files[0], report.Files[n-1], what)
	}
	if report.Removed > 0 {
		fmt.Fprintf(w, "Of these files the oldest %d were removed, as --rotate-keep says.\n", report.Removed)
	}
	if report.Duplicates > 0 {
		fmt.Fprintf(w, "%s are marked as duplicates.\n", count(int(report.Duplicates), "packet"))
	}
	for _, in := range report.Inputs {
		if !in.Sorted {
			fmt.Fprintf(w, "%s was not in order; its packets have been put in their place.\n", in.Name)
		}
	}
	printNotes(w, report)
	switch {
	case report.SeveralLinkTypes:
		fmt.Fprintln(w, "Its interfaces have several link types: Wireshark and tshark read it, tcpdump does not.")
	case report.SeveralSnaplens:
		fmt.Fprintln(w, "Its packets have several snapshot lengths: Wireshark and tshark read it, tcpdump does not; hint: --format pcap makes a file that it reads.")
	}
}

// printNotes prints what was special about inputs: each kind once, whatever number of inputs it is of.
func printNotes(w io.Writer, report files.Report) {
	type kind struct{ what, text string }
	var kinds []kind
	counts, inputs := make(map[kind]int64), make(map[kind][]string)
	for _, in := range report.Inputs {
		for _, note := range in.Notes {
			k := kind{note.What, note.Text}
			if counts[k] == 0 {
				kinds = append(kinds, k)
			}
			counts[k] += note.Count
			inputs[k] = append(inputs[k], in.Name)
		}
	}
	for _, k := range kinds {
		names := inputs[k]
		if len(names) > 3 {
			names = append(slices.Clone(names[:3]), fmt.Sprintf("%d more", len(names)-3))
		}
		fmt.Fprintf(w, "%s: %s %s.\n", strings.Join(names, ", "), count(int(counts[k]), k.what), k.text)
	}
}

// damageHint says how much of a damaged input is in the output.
func damageHint(packets int64) string {
	switch packets {
	case 0:
		return "none of its packets is in the output"
	case 1:
		return "its first packet is in the output"
	}
	return fmt.Sprintf("its first %s are in the output", count(int(packets), "packet"))
}

// printDamage names damaged inputs, and returns the exit status.
func printDamage(w io.Writer, report files.Report) int {
	status := exitOK
	for _, in := range report.Inputs {
		if in.Damage != nil {
			printError(w, &usageError{in.Damage.Error(), damageHint(in.Packets)})
			status = exitSome
		}
		if in.Skipped > 0 {
			printError(w, &usageError{fmt.Sprintf("%s: %s left out, which cannot be written", in.Name, count(int(in.Skipped), "packet")), "all others are in the output"})
			status = exitSome
		}
	}
	return status
}

// mergeBar shows how far a merge is, when it takes long.
type mergeBar struct {
	progress *files.Progress
	on       bool
	stop     chan struct{} // closed by end
	done     sync.WaitGroup
}

const longMerge = time.Second

func newMergeBar(kind string, quiet bool, progress *files.Progress) (*mergeBar, error) {
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	switch kind {
	case "auto", "bar", "plain", "none":
	default:
		return nil, invalid("progress", kind, "auto, bar or none")
	}
	return &mergeBar{progress: progress, on: !quiet && (kind == "bar" || kind == "auto" && terminal), stop: make(chan struct{})}, nil
}

func (b *mergeBar) begin() {
	if !b.on {
		return
	}
	b.done.Go(func() {
		late := time.NewTimer(longMerge)
		defer late.Stop()
		select {
		case <-b.stop:
			return
		case <-late.C:
			b.show()
		}
	})
}

// show draws until the merge ends. It looks at the progress: nothing is drawn by whoever merges.
func (b *mergeBar) show() {
	total := b.progress.Total.Load()
	if total == 0 {
		total = -1
	}
	bar := progressbar.NewOptions64(total, progressbar.OptionSetWriter(struct{ io.Writer }{os.Stderr}), progressbar.OptionShowBytes(true),
		progressbar.OptionUseANSICodes(true), progressbar.OptionSetSpinnerChangeInterval(0), progressbar.OptionSetWidth(20), progressbar.OptionClearOnFinish())
	tick := time.NewTicker(barEvery)
	defer tick.Stop()
	for {
		bar.Describe(count(int(b.progress.Packets.Load()), "packet"))
		_ = bar.Set64(min(b.progress.Read.Load(), max(total-1, 0)))
		select {
		case <-tick.C:
		case <-b.stop:
			_ = bar.Clear()
			return
		}
	}
}

func (b *mergeBar) end() {
	close(b.stop)
	b.done.Wait()
}
