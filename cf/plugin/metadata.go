package plugin

import (
	"context"
	"errors"
)

// Metadata is what cf install-plugin is told: cf keeps it, and shows it in cf plugins and cf help COMMAND.
type Metadata struct {
	Name     string // as in cf uninstall-plugin NAME; also the file's name in cf's folder of plugins
	Version  Version
	MinCLI   Version // the oldest cf that will do; zero is any
	Commands []Command
}

// Version is what a version looks like to cf. All zero is shown as N/A.
type Version struct{ Major, Minor, Build int }

// Command is one command that the plugin adds to cf. cf takes the texts for templates: they must be without "{{".
type Command struct {
	Name  string
	Alias string // "" is none
	Help  string // one line, for cf help and cf plugins
	Usage string // the synopsis and what goes with it; cf indents only the first line, by three
	// Options are the flags' descriptions by their names without dashes: cf writes -n for a key of one letter and else
	// --name. A key "name, -n" gives "--name, -n".
	Options map[string]string
}

// SendMetadata answers CommandMetadata. It waits no longer than ctx, and no longer than 10 s.
func SendMetadata(ctx context.Context, port string, m Metadata) error {
	conn, err := Dial(ctx, port)
	if err != nil {
		return err
	}
	accepted, err := ask[bool](ctx, conn, callTimeout, "SetPluginMetadata", m.wire())
	if err == nil && !accepted {
		err = &Error{Problem: "cf has not accepted the plugin's description"}
	}
	return errors.Join(err, conn.Close())
}

// These are what goes over the wire. gob matches structs by the names of their fields: they are those of cf's package
// code.cloudfoundry.org/cli/plugin, and must stay so.
type (
	wireMetadata struct {
		Name           string
		Version        wireVersion
		LibraryVersion wireVersion // of cf's plugin library, which is not used: zero
		MinCliVersion  wireVersion
		Commands       []wireCommand
	}
	wireVersion struct{ Major, Minor, Build int }
	wireCommand struct {
		Name         string
		Alias        string
		HelpText     string
		UsageDetails wireUsage
	}
	wireUsage struct {
		Usage   string
		Options map[string]string
	}
)

func (m Metadata) wire() wireMetadata {
	w := wireMetadata{Name: m.Name, Version: wireVersion(m.Version), MinCliVersion: wireVersion(m.MinCLI)}
	for _, c := range m.Commands {
		w.Commands = append(w.Commands, wireCommand{
			Name: c.Name, Alias: c.Alias, HelpText: c.Help, UsageDetails: wireUsage{Usage: c.Usage, Options: c.Options},
		})
	}
	return w
}
