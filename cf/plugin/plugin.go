// Package plugin speaks the protocol between the cf CLI and its plugins, and holds the terminal so that ^C reaches the
// plugin and not cf. It knows nothing of apps or captures, and never talks to the platform itself.
package plugin

import "strconv"

// What cf asks a plugin to do: Call.Command is one of these.
const (
	CommandMetadata  = "SendMetadata"          // say what you are: SendMetadata, and exit 0
	CommandUninstall = "CLI-MESSAGE-UNINSTALL" // exit 0 at once: cf has removed the plugin, or is about to
	CommandPcap      = "pcap"                  // cf pcap ARGS…
)

// Call is how cf started the plugin: PROGRAM PORT COMMAND [ARGS…].
type Call struct {
	Port    string   // decimal, on 127.0.0.1
	Command string   // CommandMetadata, CommandUninstall or CommandPcap
	Args    []string // what came after cf COMMAND; nil when nothing did
}

// Detect reports whether a command line, os.Args with the program's name, is one that cf wrote. One that a person writes
// does not begin with a number, so that neither is ever taken for the other.
func Detect(args []string) (Call, bool) {
	if len(args) < 3 || !isPort(args[1]) {
		return Call{}, false
	}
	call := Call{Port: args[1], Command: args[2]}
	switch call.Command {
	case CommandMetadata, CommandUninstall:
		return call, len(args) == 3
	case CommandPcap:
		if len(args) > 3 {
			call.Args = args[3:]
		}
		return call, true
	}
	return Call{}, false
}

// isPort accepts what cf writes: digits with nothing before or after.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

// Error is a trouble with the cf CLI that started the plugin.
type Error struct {
	Problem string
	Advice  string
	Err     error // the cause; nil when there is none but the Problem
}

// Error is the problem in one line.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Problem
	}
	return e.Problem + ": " + printable(e.Err.Error())
}

// Hint is what to do about it.
func (e *Error) Hint() string { return e.Advice }

func (e *Error) Unwrap() error { return e.Err }
