package plugin

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Trace is where a cf writes the requests and answers of its own, as when a plugin asks it for a token.
type Trace struct {
	Env    string   // CF_TRACE
	Config string   // Trace in cf's config file
	Args   []string // cf's own command line; nil where it is not known
}

// Reaches reports why the trace goes to out: the setting that does it. It is "" where the trace goes elsewhere, or there
// is none. A plugin's standard output is cf's, so what cf writes there stands between the plugin's own bytes.
func (t Trace) Reaches(out *os.File) (setting string) {
	switch {
	case tracesTo(t.Env, out):
		return "CF_TRACE=" + printable(t.Env)
	case tracesTo(t.Config, out):
		return "cf config --trace " + printable(t.Config)
	}
	for _, arg := range t.Args { // cf takes it away wherever it stands
		if arg == "-v" {
			return "-v"
		}
	}
	return ""
}

// tracesTo reads a setting as cf does: a boolean, of which true is standard output, or else a file's path.
func tracesTo(setting string, out *os.File) bool {
	if strings.EqualFold(setting, "true") {
		return true
	}
	if on, err := strconv.ParseBool(setting); err == nil || setting == "" {
		return on
	}
	file, err := os.Stat(setting)
	if err != nil {
		return false // cf makes a new one
	}
	mine, err := out.Stat()
	return err == nil && os.SameFile(file, mine)
}

// ParentArgs is the command line of the cf that started the plugin, without its name; nil where the system does not show
// it.
func ParentArgs() []string {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/cmdline")
	if err != nil {
		return nil
	}
	words := strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00")
	return words[1:]
}
