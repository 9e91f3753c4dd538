// Package fakecf is a cf CLI for tests: it does to a plugin what cf does, from installing to ^C, with the config file and
// the plugin folder of a real one. It has no command that talks to apps.
package fakecf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// CF is one run of cf. Its files are of the operating system because a plugin inherits them: they may be its terminal.
type CF struct {
	Home           string // where .cf/config.json is
	PluginHome     string // where .cf/plugins is; "" is Home
	Trace          string // CF_TRACE: a boolean, of which true is Stdout, or a file's path
	Stdin          *os.File
	Stdout, Stderr *os.File
}

// FromEnv finds the folders as cf does, in CF_HOME, else HOME, and CF_PLUGIN_HOME.
func FromEnv(getenv func(string) string) CF {
	return CF{Home: cmp.Or(getenv("CF_HOME"), getenv("HOME")), PluginHome: getenv("CF_PLUGIN_HOME"), Trace: getenv("CF_TRACE")}
}

// Build makes the program in a folder and gives its path, which ends in /cf.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "cf")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/sshpcap/sshpcap/internal/cftest/fakecf/cf")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// errSilent ends cf with status 1 and no word: the plugin has said what there was to say.
var errSilent = errors.New("the plugin has failed")

// words is an error in cf's own words, which begin and end otherwise than ours.
func words(format string, args ...any) error { return spoken{fmt.Errorf(format, args...)} }

type spoken struct{ error }

// Run runs a command line, which is without the program's name, and gives the exit status. Nothing catches signals: ^C
// ends the process where it stands.
func (c *CF) Run(args []string) int {
	err := c.run(args)
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, errSilent):
		fmt.Fprintf(c.Stderr, "%v\nFAILED\n", err)
	}
	return 1
}

func (c *CF) run(args []string) error {
	if len(args) == 0 {
		return c.help()
	}
	rest := args[1:]
	switch args[0] {
	case "install-plugin":
		return c.install(rest)
	case "uninstall-plugin":
		if len(rest) != 1 {
			return words("Incorrect Usage: the required argument `PLUGIN_NAME` was not provided")
		}
		return c.uninstall(rest[0])
	case "plugins":
		return c.list()
	case "help":
		if len(rest) == 0 {
			return c.help()
		}
		return c.helpFor(rest[0])
	}
	installed, command, err := c.find(args[0])
	if err != nil {
		return err
	}
	// A help flag anywhere shows the help, even as another flag's value.
	if slices.ContainsFunc(rest, func(a string) bool { return a == "-h" || a == "--help" || a == "--h" }) {
		return c.helpFor(command.Name)
	}
	if at := slices.Index(rest, "-v"); at >= 0 { // cf's own, and only the first
		rest = slices.Delete(slices.Clone(rest), at, at+1)
		c.Trace = "true"
	}
	return c.start(installed.Location, append([]string{command.Name}, rest...))
}

// start runs a command of a plugin, which has cf's standard files. Whatever other status than 0 it ends with becomes 1.
func (c *CF) start(program string, args []string) error {
	service, err := c.serve()
	if err != nil {
		return err
	}
	defer service.close()
	cmd := exec.Command(program, append([]string{service.port()}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	if err := cmd.Run(); err != nil {
		return errSilent
	}
	return nil
}

// tell sends a plugin one of the protocol's own commands. Its standard input is empty.
func (c *CF) tell(program, command string) (PluginMetadata, error) {
	service, err := c.serve()
	if err != nil {
		return PluginMetadata{}, err
	}
	defer service.close()
	cmd := exec.Command(program, service.port(), command)
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	err = cmd.Run()
	return service.metadata(), err
}

func (c *CF) help() error {
	plugins, err := c.plugins()
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Stdout, "Commands offered by installed plugins:")
	for _, p := range plugins.sorted() {
		for _, command := range p.Commands {
			fmt.Fprintf(c.Stdout, "  %s\n", command.Name)
		}
	}
	return nil
}

// helpFor shows what a plugin has said about a command, in the form of cf help for its own.
func (c *CF) helpFor(name string) error {
	_, command, err := c.find(name)
	if err != nil {
		return err
	}
	command.help(c.Stdout)
	return nil
}

func (command Command) help(w io.Writer) {
	usage := strings.ReplaceAll(command.UsageDetails.Usage, "CF_NAME", "cf")
	fmt.Fprintf(w, "NAME:\n   %s - %s\n\nUSAGE:\n   %s\n", command.Name, command.HelpText, usage)
	if command.Alias != "" {
		fmt.Fprintf(w, "\nALIAS:\n   %s\n", command.Alias)
	}
	if len(command.UsageDetails.Options) == 0 {
		return
	}
	names, width := []string{}, 0
	for name := range command.UsageDetails.Options {
		names = append(names, name)
		width = max(width, len(option(name)))
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	fmt.Fprint(w, "\nOPTIONS:\n")
	for _, name := range names {
		fmt.Fprintf(w, "   %-*s%s\n", width+6, option(name), command.UsageDetails.Options[name])
	}
}

// option writes an option's name as cf does: by the key's length, dashes counted, and then without those.
func option(key string) string {
	if len(key) == 1 {
		return "-" + key
	}
	return "--" + strings.Trim(key, "-")
}
