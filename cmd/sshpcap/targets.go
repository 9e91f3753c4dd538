package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/sshx"
)

// expandTargets replaces each @FILE by the targets that stand in it, and leaves out what is named twice.
func expandTargets(args []string) ([]string, error) {
	var targets []string
	for _, arg := range args {
		if !strings.HasPrefix(arg, "@") {
			targets = append(targets, arg)
			continue
		}
		listed, err := readTargets(arg[1:])
		if err != nil {
			return nil, err
		}
		targets = append(targets, listed...)
	}
	if len(targets) == 0 {
		return nil, &usageError{"no target", "name what to capture on: sshpcap capture [flags] [USER@]HOST[:PORT]… or @FILE"}
	}
	return unique(targets), nil
}

// readTargets reads a file with one target a line. Empty lines and those that begin with # do not count.
func readTargets(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &usageError{err.Error(), "@FILE names a file with one target a line"}
	}
	defer f.Close()
	var targets []string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff")) // Windows writes a byte order mark
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.ContainsAny(line, " \t") || strings.HasPrefix(line, "@"):
			return nil, &usageError{fmt.Sprintf("%s:%d: %q is not a target", path, n, line), "one target a line: [USER@]HOST[:PORT]"}
		default:
			targets = append(targets, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, &usageError{fmt.Sprintf("%s: %v", path, err), "@FILE names a text file with one target a line"}
	}
	return targets, nil
}

func unique(targets []string) []string {
	var out []string
	seen := make(map[string]bool)
	for _, t := range targets {
		if !seen[t] {
			out, seen[t] = append(out, t), true
		}
	}
	return out
}

// hostKey is the same for targets that end at the same server.
func hostKey(end sshx.Endpoint) string {
	key := fmt.Sprintf("%s %d", strings.ToLower(end.Host), end.Port)
	for _, jump := range end.Jumps {
		key += " " + hostKey(jump)
	}
	return key
}

// hosts makes instances of targets that are SSH hosts.
func hosts(c *cli.Context, d *sshx.Dialer, targets []string) ([]capture.Instance, error) {
	if err := d.ReadConfig(); err != nil {
		return nil, err
	}
	var instances []capture.Instance
	same := make(map[string]string) // by the host that a target resolves to
	for _, target := range targets {
		end, err := d.Resolve(target)
		if sshx.KindOf(err) == sshx.KindConfig {
			instances = append(instances, senseless(c, target, err))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", target, err)
		}
		// Two connections to one host would each capture what the other one captures, for ever.
		if other, ok := same[hostKey(end)]; ok {
			return nil, &usageError{fmt.Sprintf("%s and %s are the same host", other, target), "name each host once"}
		}
		same[hostKey(end)] = target
		instances = append(instances, capture.Instance{
			Name:       strings.TrimPrefix(target, "ssh://"),
			Target:     target,
			Port:       end.Port,
			Interfaces: unique(c.StringSlice("interface")),
			Dial:       func(ctx context.Context) (*sshx.Conn, error) { return d.DialEndpoint(ctx, end) },
		})
	}
	return instances, nil
}

// senseless is a target of which ssh_config makes no sense. It fails like one that does not answer, and alone.
func senseless(c *cli.Context, target string, err error) capture.Instance {
	return capture.Instance{
		Name:       strings.TrimPrefix(target, "ssh://"),
		Target:     target,
		Interfaces: unique(c.StringSlice("interface")),
		Dial:       func(context.Context) (*sshx.Conn, error) { return nil, err },
	}
}
