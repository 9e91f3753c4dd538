// Command sshpcap captures packets on many instances at once over SSH and writes one file in time order.
// This package turns flags into a capture.Config and results into text: it is the only place that prints, exits and
// catches signals.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/sshpcap/sshpcap/cf/plugin"
)

// version is set by the Makefile; a plain "go install" leaves it to the module's own.
var version = ""

// Exit codes, as the documentation promises them.
const (
	exitOK      = 0
	exitNothing = 1   // nothing captured, or the output broke
	exitUsage   = 2   // the command line makes no sense
	exitSome    = 3   // some instances failed
	exitCut     = 130 // a second ^C
)

func main() {
	os.Exit(run(os.Args))
}

// run is main with an exit status.
func run(args []string) int {
	signals := watchSignals()
	defer signals.close()
	var err error
	if call, ok := plugin.Detect(args); ok {
		var restore func()
		restore, err = runPlugin(call, signals)
		defer restore() // the last of all: until then ^C is for us
	} else {
		app := newApp(signals)
		err = app.RunContext(signals.ctx, arrange(app, args))
	}
	var ended exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &ended):
		return int(ended)
	}
	printError(os.Stderr, err)
	return exitUsage
}

// exitStatus is the error of a command that ran, and said itself how it went. Every other error is about the command
// line, and is printed by run.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// exit is the error for an exit status.
func exit(status int) error {
	if status == exitOK {
		return nil
	}
	return exitStatus(status)
}

// newApp is the command line.
func newApp(signals *signals) *cli.App {
	return &cli.App{
		Name:                      "sshpcap",
		Usage:                     "capture packets on many instances at once over SSH, into one file in time order",
		Version:                   programVersion(),
		DisableSliceFlagSeparator: true,
		HideHelpCommand:           true,
		Suggest:                   true,
		ExitErrHandler:            func(*cli.Context, error) {}, // errors are printed once, in run
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return &usageError{err.Error(), "see sshpcap --help"} },
		Commands:                  []*cli.Command{captureCommand(signals), checkCommand(signals), listCommand(signals), mergeCommand(signals), demoCommand(signals)},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 && c.Args().First() != "help" {
				return &usageError{fmt.Sprintf("there is no command %q", c.Args().First()), "see sshpcap --help; to capture: sshpcap capture TARGET…"}
			}
			return cli.ShowAppHelp(c)
		},
	}
}

// usageError is a command line that makes no sense.
type usageError struct{ problem, hint string }

func (e *usageError) Error() string { return e.problem }
func (e *usageError) Hint() string  { return e.hint }

// printError writes a problem, and what to do about it where that is known.
func printError(w io.Writer, err error) {
	w = plain{w}
	fmt.Fprintf(w, "sshpcap: %v\n", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// hintOf is what an error says to do; "" when it says nothing.
func hintOf(err error) string {
	var hinter interface{ Hint() string }
	if !errors.As(err, &hinter) {
		return ""
	}
	return hinter.Hint()
}

func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
