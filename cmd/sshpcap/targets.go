package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
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

// serverKey is the same for targets that end at the same server.
func serverKey(end sshx.Endpoint) string {
	key := fmt.Sprintf("%s %d", strings.ToLower(end.Host), cmp.Or(end.Port, 22))
	for _, jump := range end.Jumps {
		key += " " + serverKey(jump)
	}
	return key
}

// loginKey is the same for targets that cannot be told apart: by another user or key, a gateway may lead elsewhere.
func loginKey(end sshx.Endpoint) string {
	return fmt.Sprintf("%s %q %q %q", serverKey(end), end.User, end.Identities, end.Certificates)
}

// hosts makes instances of targets that are SSH hosts.
func hosts(c *cli.Context, d *sshx.Dialer, targets []string) ([]capture.Instance, error) {
	if err := d.ReadConfig(); err != nil {
		return nil, err
	}
	instances := make([]capture.Instance, len(targets))
	ends := make(map[int]sshx.Endpoint) // by target, of those that make sense
	same := make(map[string]string)     // targets by what they resolve to
	servers := make(map[string]int)     // how many targets are at a server
	for i, target := range targets {
		end, err := d.Resolve(target)
		if sshx.KindOf(err) == sshx.KindConfig {
			instances[i] = senseless(c, target, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", target, err)
		}
		// Two connections to one host would each capture what the other one captures, for ever.
		if other, ok := same[loginKey(end)]; ok {
			return nil, &usageError{fmt.Sprintf("%s and %s are the same host", other, target), "name each host once"}
		}
		same[loginKey(end)], ends[i] = target, end
		servers[serverKey(end)]++
	}
	relays := relays(ends)
	for i, end := range ends {
		instances[i] = host(c, targets[i])
		in := &instances[i]
		in.Port, in.Relays = end.Port, relays[serverKey(end)]
		if servers[serverKey(end)] > 1 {
			in.Server = serverKey(end)
		}
		in.Dial = func(ctx context.Context) (*sshx.Conn, error) { return d.DialEndpoint(ctx, end) }
	}
	return instances, nil
}

// host is what a target's name tells of an instance.
func host(c *cli.Context, target string) capture.Instance {
	return capture.Instance{
		Name:       strings.TrimPrefix(target, "ssh://"),
		Target:     target,
		Interfaces: unique(c.StringSlice("interface")),
	}
}

// senseless is a target of which ssh_config makes no sense. It fails like one that does not answer, and alone.
func senseless(c *cli.Context, target string, err error) capture.Instance {
	in := host(c, target)
	in.Dial = func(context.Context) (*sshx.Conn, error) { return nil, err }
	return in
}

// relays are what jump hosts connect to for the endpoints, as HOST:PORT, by the jump host's serverKey.
func relays(ends map[int]sshx.Endpoint) map[string][]string {
	all := make(map[string][]string)
	for _, end := range ends {
		for i, jump := range end.Jumps {
			to := end
			if i+1 < len(end.Jumps) {
				to = end.Jumps[i+1]
			}
			jump.Jumps = end.Jumps[:i]
			key := serverKey(jump)
			all[key] = unique(append(all[key], net.JoinHostPort(to.Host, strconv.Itoa(cmp.Or(to.Port, 22)))))
		}
	}
	for _, to := range all {
		slices.Sort(to)
	}
	return all
}
