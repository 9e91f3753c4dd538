package fakecf

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// installedPlugins is the config file in the folder of plugins.
type installedPlugins struct{ Plugins map[string]installedPlugin }

type installedPlugin struct {
	Name     string `json:"-"` // the key in Plugins
	Location string
	Version  VersionType
	Commands []Command
}

// coreCommands are some names that no plugin may take.
var coreCommands = []string{"app", "apps", "push", "p", "ssh", "login", "l", "target", "t", "logs", "help", "h", "plugins", "install-plugin", "uninstall-plugin", "curl"}

func (c *CF) pluginDir() string {
	return filepath.Join(cmp.Or(c.PluginHome, c.Home), ".cf", "plugins")
}

func (c *CF) plugins() (installedPlugins, error) {
	all := installedPlugins{Plugins: map[string]installedPlugin{}}
	data, err := os.ReadFile(filepath.Join(c.pluginDir(), "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	return all, err
}

func (all installedPlugins) sorted() []installedPlugin {
	var list []installedPlugin
	for name, p := range all.Plugins {
		p.Name = name
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b installedPlugin) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return list
}

func (c *CF) write(all installedPlugins) error {
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.pluginDir(), "config.json"), data, 0o600)
}

// find gives the plugin that has a command of a name or alias.
func (c *CF) find(name string) (installedPlugin, Command, error) {
	all, err := c.plugins()
	if err != nil {
		return installedPlugin{}, Command{}, err
	}
	for _, p := range all.sorted() {
		for _, command := range p.Commands {
			if command.Name == name || command.Alias == name && name != "" {
				return p, command, nil
			}
		}
	}
	return installedPlugin{}, Command{}, words("'%s' is not a registered command. See 'cf help -a'", name)
}

func (c *CF) list() error {
	all, err := c.plugins()
	if err != nil {
		return err
	}
	fmt.Fprint(c.Stdout, "Listing installed plugins...\n\n")
	fmt.Fprintln(c.Stdout, "plugin   version   command name   command help")
	for _, p := range all.sorted() {
		for _, command := range p.Commands {
			name := command.Name
			if command.Alias != "" {
				name += ", " + command.Alias
			}
			fmt.Fprintf(c.Stdout, "%s   %s   %s   %s\n", p.Name, p.Version, name, command.HelpText)
		}
	}
	fmt.Fprint(c.Stdout, "\nUse 'cf repo-plugins' to list plugins in registered repos available to install.\n")
	return nil
}

// install asks a copy of the program what it is, before anything of an older one is touched.
func (c *CF) install(args []string) error {
	force := slices.Contains(args, "-f")
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "-f" })
	if len(args) != 1 {
		return words("Incorrect Usage: the required argument `PLUGIN_NAME_OR_LOCATION` was not provided")
	}
	if _, err := os.Stat(args[0]); err != nil {
		return words("Plugin %s not found on disk or in any registered repo.\nUse 'cf repo-plugins' to list plugins available in the repos.", args[0])
	}
	if !force && !c.confirmed(args[0]) {
		fmt.Fprintln(c.Stdout, "Plugin installation cancelled.")
		return nil
	}
	if err := os.MkdirAll(c.pluginDir(), 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(c.pluginDir(), "temp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	program := filepath.Join(temp, "plugin")
	if err := copyFile(args[0], program, 0o700); err != nil {
		return err
	}
	about, err := c.tell(program, "SendMetadata")
	if err != nil || about.Name == "" || len(about.Commands) == 0 {
		return words("File is not a valid cf CLI plugin binary.")
	}
	return c.add(about, program, force)
}

func (c *CF) confirmed(path string) bool {
	fmt.Fprint(c.Stdout, "Attention: Plugins are binaries written by potentially untrusted authors.\nInstall and use plugins at your own risk.\n")
	fmt.Fprintf(c.Stdout, "Do you want to install the plugin %s? [yN]: ", path)
	answer, _ := bufio.NewReader(c.Stdin).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// add installs a program that is a plugin, in place of an older one of its name.
func (c *CF) add(about PluginMetadata, program string, force bool) error {
	all, err := c.plugins()
	if err != nil {
		return err
	}
	if clashes := all.clashes(about); len(clashes) > 0 {
		return words("Plugin %s v%s could not be installed as it contains commands with names that are already used: %s.", about.Name, about.Version, strings.Join(clashes, ", "))
	}
	if _, there := all.Plugins[about.Name]; there && !force {
		return words("Plugin %s %s could not be installed. A plugin with that name is already installed.\nTIP: Use 'cf install-plugin -f' to force a reinstall.", about.Name, about.Version)
	} else if there {
		fmt.Fprintf(c.Stdout, "Plugin %s %s is already installed. Uninstalling existing plugin...\n", about.Name, about.Version)
		if err := c.remove(about.Name); err != nil {
			return err
		}
		fmt.Fprintf(c.Stdout, "OK\n\nPlugin %s successfully uninstalled.\n", about.Name)
	}
	fmt.Fprintf(c.Stdout, "Installing plugin %s...\n", about.Name)
	place := filepath.Join(c.pluginDir(), about.Name)
	if err := copyFile(program, place, 0o755); err != nil {
		return err
	}
	if all, err = c.plugins(); err != nil {
		return err
	}
	all.Plugins[about.Name] = installedPlugin{Location: place, Version: about.Version, Commands: about.Commands}
	if err := c.write(all); err != nil {
		return err
	}
	fmt.Fprintf(c.Stdout, "OK\n\nPlugin %s %s successfully installed.\n", about.Name, about.Version)
	return nil
}

// clashes are the names and aliases that cf or another plugin has.
func (all installedPlugins) clashes(about PluginMetadata) []string {
	taken := slices.Clone(coreCommands)
	for name, p := range all.Plugins {
		if name == about.Name {
			continue
		}
		for _, command := range p.Commands {
			taken = append(taken, command.Name, command.Alias)
		}
	}
	var clashes []string
	for _, command := range about.Commands {
		for _, name := range []string{command.Name, command.Alias} {
			if name != "" && slices.Contains(taken, name) {
				clashes = append(clashes, name)
			}
		}
	}
	return clashes
}

func (c *CF) uninstall(name string) error {
	all, err := c.plugins()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all.sorted(), func(p installedPlugin) bool { return strings.EqualFold(p.Name, name) })
	if at < 0 {
		return words("Plugin %s does not exist.", name)
	}
	p := all.sorted()[at]
	fmt.Fprintf(c.Stdout, "Uninstalling plugin %s...\n", p.Name)
	if err := c.remove(p.Name); err != nil {
		return err
	}
	fmt.Fprintf(c.Stdout, "OK\n\nPlugin %s %s successfully uninstalled.\n", p.Name, p.Version)
	return nil
}

// remove tells a plugin that it goes, and removes it whatever it answers. An answer other than 0 is an error all the same.
func (c *CF) remove(name string) error {
	all, err := c.plugins()
	if err != nil {
		return err
	}
	p := all.Plugins[name]
	_, told := c.tell(p.Location, "CLI-MESSAGE-UNINSTALL")
	if told != nil {
		told = words("The plugin's uninstall method returned an unexpected error.\nThe plugin uninstall will proceed. Contact the plugin author if you need help.\n%w", told)
	}
	if err := os.Remove(p.Location); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(told, err)
	}
	delete(all.Plugins, name)
	return errors.Join(c.write(all), told)
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(mode), out.Close())
}
