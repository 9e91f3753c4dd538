package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/files"
	"github.com/sshpcap/sshpcap/remote"
)

// captureFlags are the flags of a capture. The table of docs/flags.md and the man page are made from them.
func captureFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "capture.pcap", Usage: "write to `FILE`; - is standard output. A name that ends in .pcapng, and standard output, mean the format pcapng, which says where each packet came from; other names pcap"},
		&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the output, pcap or pcapng", DefaultText: "by the output's name"},
		&cli.BoolFlag{Name: "overwrite", DisableDefaultText: true, Usage: "replace an existing output, once the first packet has come"},
		&cli.StringFlag{Name: "filter", Aliases: []string{"f"}, Usage: "capture only what matches `EXPR`, in the syntax of pcap-filter(7)"},
		&cli.StringSliceFlag{Name: "interface", Usage: "capture on network interface `NAME`; may be given several times", DefaultText: "any; eth0 of apps"},
		&cli.IntFlag{Name: "snaplen", Aliases: []string{"s"}, Usage: "keep the first `N` bytes of each packet; 0 = whole packets", DefaultText: "0"},
		&cli.BoolFlag{Name: "no-promiscuous-mode", DisableDefaultText: true, Aliases: []string{"p"}, Usage: "do not put the interfaces into promiscuous mode"},
		&cli.DurationFlag{Name: "duration", Aliases: []string{"d"}, Usage: "stop after `D` (like 90s, 5m) of capturing on all instances", DefaultText: "no limit"},
		&cli.Int64Flag{Name: "count", Aliases: []string{"c"}, Usage: "stop after exactly `N` packets", DefaultText: "no limit"},
		&cli.StringFlag{Name: "max-size", Usage: "stop before the output is larger than `SIZE` (like 500MB, 2GiB)", DefaultText: "no limit"},
		&cli.DurationFlag{Name: "max-remote-time", Usage: "end the capture on each instance after `D`; the instance sees to it itself, whatever becomes of this program or the link", DefaultText: "no limit"},
		&cli.StringFlag{Name: "rotate-size", Usage: "begin a new file after `SIZE`; names are made of the output's: all_00001_20261122T101112Z.pcapng", DefaultText: "one file"},
		&cli.DurationFlag{Name: "rotate-interval", Usage: "begin a new file after `D` of packets", DefaultText: "one file"},
		&cli.IntFlag{Name: "rotate-keep", Usage: "keep the last `N` files", DefaultText: "all"},
		&cli.BoolFlag{Name: "per-instance", DisableDefaultText: true, Usage: "write a file for each instance, too: all.web1.pcapng"},
		&cli.DurationFlag{Name: "grace", Value: 5 * time.Second, Usage: "give instances `D` to end after ^C"},
		&cli.DurationFlag{Name: "window", Value: 500 * time.Millisecond, Usage: "put packets in place that arrive up to `D` late"},
		&cli.StringFlag{Name: "buffer", Value: "256MiB", Usage: "hold at most `SIZE` of packets that wait to be put in order"},
		&cli.BoolFlag{Name: "follow", DisableDefaultText: true, Usage: "connect again to instances that were lost, and take in new ones of an app, until the capture ends"},
		&cli.BoolFlag{Name: "require-all", DisableDefaultText: true, Usage: "end the capture as soon as one instance fails"},
		&cli.StringFlag{Name: "login", Aliases: []string{"l"}, Usage: "log in as `USER`", DefaultText: "as ssh"},
		&cli.StringSliceFlag{Name: "identity", Usage: "log in with the key in `FILE`; may be given several times", DefaultText: "as ssh"},
		&cli.StringFlag{Name: "jump", Aliases: []string{"J"}, Usage: "go through `HOST`, or several, with commas in between", DefaultText: "as ssh"},
		&cli.StringFlag{Name: "ssh-config", Aliases: []string{"F"}, Usage: "read `FILE` in the place of ~/.ssh/config; none = no file", DefaultText: "as ssh"},
		&cli.DurationFlag{Name: "connect-timeout", Usage: "give up an instance that does not answer for `D`", DefaultText: "as ssh, or 10s"},
		&cli.BoolFlag{Name: "skip-host-validation", DisableDefaultText: true, Aliases: []string{"k"}, Usage: "accept any host key: whoever is in between can read and change what comes"},
		&cli.StringFlag{Name: "sudo", Value: "auto", Usage: "use sudo on the instances: `WHEN` it is needed (auto), never or always"},
		&cli.StringFlag{Name: "helper", Value: "auto", Usage: "capture with `PROGRAM`: tcpdump, dumpcap or a path on the instance; auto = tcpdump, else dumpcap"},
		&cli.StringFlag{Name: "helper-buffer", Usage: "kernel buffer of the helper on the instance, `SIZE`", DefaultText: "32MiB or 128MiB, by interface"},
		&cli.BoolFlag{Name: "no-self-filter", DisableDefaultText: true, Usage: "capture our own SSH connection, too"},
		&cli.BoolFlag{Name: "align-clocks", DisableDefaultText: true, Usage: "shift timestamps by the measured offset of each instance's clock"},
		&cli.StringFlag{Name: "progress", Value: "auto", Usage: "show progress as a `KIND` of bar, plain lines or none; auto = bar on a terminal, else plain"},
		&cli.BoolFlag{Name: "quiet", DisableDefaultText: true, Aliases: []string{"q"}, Usage: "print only problems"},
		&cli.StringFlag{Name: "report", Usage: "write the final report as JSON to `FILE`"},
	}
}

// captureConfig makes a capture's configuration of flags: everything but its instances.
func captureConfig(c *cli.Context) (capture.Config, error) {
	format, err := parseFormat(c.String("format"), c.String("output"))
	sudo, err2 := parseSudo(c.String("sudo"))
	maxSize, err3 := parseSize("max-size", c.String("max-size"))
	buffer, err4 := parseSize("buffer", c.String("buffer"))
	helperBuffer, err5 := parseSize("helper-buffer", c.String("helper-buffer"))
	rotateSize, err6 := parseSize("rotate-size", c.String("rotate-size"))
	err7 := checkNumbers(c)
	err8 := checkUncompressed(c.String("output"))
	if err := firstOf(err, err2, err3, err4, err5, err6, err7, err8); err != nil {
		return capture.Config{}, err
	}
	cfg := capture.Config{
		Output:         capture.Output{Path: c.String("output"), Format: format, Overwrite: c.Bool("overwrite")},
		Filter:         c.String("filter"),
		Snaplen:        c.Int("snaplen"),
		NoPromiscuous:  c.Bool("no-promiscuous-mode"),
		Helper:         c.String("helper"),
		HelperBuffer:   int(helperBuffer >> 10),
		Sudo:           sudo,
		NoSelfFilter:   c.Bool("no-self-filter"),
		AlignClocks:    c.Bool("align-clocks"),
		Duration:       c.Duration("duration"),
		MaxRemoteTime:  c.Duration("max-remote-time"),
		Count:          c.Int64("count"),
		MaxSize:        maxSize,
		Rotation:       capture.Rotation{Size: rotateSize, Interval: c.Duration("rotate-interval"), Keep: c.Int("rotate-keep")},
		PerInstance:    c.Bool("per-instance"),
		ConnectTimeout: c.Duration("connect-timeout"),
		Grace:          c.Duration("grace"),
		Window:         c.Duration("window"),
		Buffer:         buffer,
		Follow:         c.Bool("follow"),
		RequireAll:     c.Bool("require-all"),
		Version:        programVersion(),
	}
	if cfg.Output.Path == "-" || cfg.Output.Path == "/dev/stdout" {
		cfg.Output.Path, cfg.Output.File = "", os.Stdout
	}
	return cfg, nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkNumbers refuses values that have no meaning, before they get one by chance.
func checkNumbers(c *cli.Context) error {
	for _, name := range []string{"duration", "grace", "window", "connect-timeout", "rotate-interval", "max-remote-time"} {
		if c.IsSet(name) && c.Duration(name) <= 0 {
			return invalid(name, c.Duration(name).String(), "a time above zero, like 500ms, 10s or 5m")
		}
	}
	if c.IsSet("count") && c.Int64("count") <= 0 {
		return invalid("count", fmt.Sprint(c.Int64("count")), "a number above zero")
	}
	if n := c.Int("rotate-keep"); c.IsSet("rotate-keep") && n <= 0 {
		return invalid("rotate-keep", fmt.Sprint(n), "a number above zero")
	}
	if n := c.Int("snaplen"); n < 0 || n > math.MaxInt32 {
		return invalid("snaplen", fmt.Sprint(n), "a number of bytes, or 0 for the helper's own limit")
	}
	for _, name := range []string{"output", "helper"} {
		if c.IsSet(name) && c.String(name) == "" {
			return invalid(name, "", "a name")
		}
	}
	return nil
}

func invalid(flag, value, want string) error {
	return &usageError{fmt.Sprintf("--%s %q makes no sense", flag, value), "give " + want}
}

// parseFormat finds out the format of an output. A name with .pcapng in it never means pcap, whatever stands behind.
func parseFormat(format, output string) (capture.Format, error) {
	name := strings.ToLower(filepath.Base(output))
	switch {
	case format == "pcapng", format == "" && (output == "-" || output == "/dev/stdout" || strings.Contains(name+".", ".pcapng.")):
		return capture.Pcapng, nil
	case format == "pcap", format == "":
		return capture.Pcap, nil
	}
	return 0, invalid("format", format, "pcap or pcapng")
}

// compressions are the names of compressed files, and how they are made; files.Uncompressed: we cannot.
var compressions = map[string]files.Compression{
	".gz": files.Gzip, ".zst": files.Zstd,
	".xz": files.Uncompressed, ".bz2": files.Uncompressed, ".lz4": files.Uncompressed, ".lz": files.Uncompressed, ".lzma": files.Uncompressed,
	".br": files.Uncompressed, ".zip": files.Uncompressed, ".z": files.Uncompressed, ".7z": files.Uncompressed,
}

// parseCompression finds out by its name how an output is to be compressed.
func parseCompression(output string) (files.Compression, error) {
	ext := filepath.Ext(output)
	how, known := compressions[strings.ToLower(ext)]
	bare := strings.TrimSuffix(output, ext)
	if known && how == files.Uncompressed && strings.EqualFold(filepath.Ext(bare), ".pcapng") {
		return 0, &usageError{"sshpcap does not compress to " + ext, "name the output .gz or .zst: -o " + remote.Quote(bare+".zst")}
	}
	return how, nil
}

// checkUncompressed refuses names of compressed files for a capture, whose file is put in order where it is.
func checkUncompressed(output string) error {
	ext := filepath.Ext(output)
	bare := strings.TrimSuffix(output, ext)
	how, err := parseCompression(output)
	if how == files.Uncompressed && err == nil {
		return nil
	}
	if how == files.Uncompressed {
		ext = ".zst"
	}
	if e := strings.ToLower(filepath.Ext(bare)); e != ".pcapng" && e != ".pcap" {
		bare += ".pcapng"
	}
	return &usageError{"a capture is not compressed while it is written: " + output + " would be no " + strings.TrimPrefix(filepath.Ext(output), ".") + " file",
		fmt.Sprintf("capture to -o %s, then: sshpcap merge %s -o %s", remote.Quote(bare), remote.Quote(bare), remote.Quote(bare+ext))}
}

func parseSudo(when string) (capture.Sudo, error) {
	switch when {
	case "auto", "":
		return capture.SudoAuto, nil
	case "never":
		return capture.SudoNever, nil
	case "always":
		return capture.SudoAlways, nil
	}
	return 0, invalid("sudo", when, "auto, never or always")
}

// parseSize reads a number of bytes, with a unit or without. "" is 0.
func parseSize(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(text)
	if err == nil && (n == 0 || n > math.MaxInt64) {
		err = errors.New("out of range")
	}
	if err != nil {
		return 0, invalid(flag, text, "a size, like 500MB or 2GiB")
	}
	return int64(n), nil
}

var backquoted = regexp.MustCompile("`([^`]*)`")

// placeholder takes the name of a flag's value out of its description.
func placeholder(usage string) (string, string) {
	m := backquoted.FindStringSubmatch(usage)
	if m == nil {
		return "", usage
	}
	return m[1], strings.ReplaceAll(usage, m[0], m[1])
}

// defaultOf is a flag's default as users read it; "" = none.
func defaultOf(f cli.Flag) string {
	value := strings.Trim(f.(cli.DocGenerationFlag).GetDefaultText(), `"`)
	if value == "false" {
		return ""
	}
	return value
}
