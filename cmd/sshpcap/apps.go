package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/sshx"
)

// appPrefix begins a target that is an app on Cloud Foundry.
const appPrefix = "cf:"

// apps are targets on Cloud Foundry.
type apps struct {
	client     *cf.Client
	dialer     *sshx.Dialer
	targets    []cf.Target
	follow     bool     // instances may come later
	interfaces []string // to capture on; none = eth0
}

// parseApps separates the targets on Cloud Foundry from the others.
func parseApps(targets []string) (apps []cf.Target, others []string, err error) {
	for _, target := range targets {
		text, ok := strings.CutPrefix(target, appPrefix)
		if !ok {
			others = append(others, target)
			continue
		}
		app, err := cf.ParseTarget(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", target, err)
		}
		apps = append(apps, app)
	}
	return apps, others, nil
}

// loggedIn is the client of whoever logged in with the cf CLI.
func loggedIn(skipHostValidation bool, warn func(string)) (*cf.Client, error) {
	path, err := cf.ConfigPath()
	if err != nil {
		return nil, err
	}
	config, err := cf.ReadConfig(path)
	if err != nil {
		return nil, err
	}
	return cf.NewClient(cf.Options{Config: config, SkipHostValidation: skipHostValidation, Warn: warn})
}

// instances are those of the apps that run. skip is told of those that do not.
func (a *apps) instances(ctx context.Context, meanwhile bool, skip func(cf.Instance)) ([]capture.Instance, error) {
	var problem error
	var out []capture.Instance
	seen := make(map[string]bool)
	for _, target := range a.targets {
		found, err := a.find(ctx, target)
		switch {
		case err != nil && a.follow && waits(err, meanwhile): // what was found is given all the same
		case err != nil && meanwhile:
			problem = cmp.Or(problem, err) // which says nothing about the other apps
			continue
		case err != nil:
			return nil, err
		}
		for _, in := range found.Skipped {
			skip(in)
		}
		for _, in := range found.Running {
			if !seen[in.Name()] {
				seen[in.Name()] = true
				out = append(out, a.instance(in))
			}
		}
	}
	return out, problem
}

// find gives the instances of a target that can be logged in to, as far as the platform says.
func (a *apps) find(ctx context.Context, target cf.Target) (cf.Found, error) {
	found, err := a.client.Instances(ctx, target)
	if len(found.Running) > 0 {
		if disabled := a.client.CheckSSH(ctx, found.Running[0]); disabled != nil {
			return cf.Found{}, disabled
		}
	}
	return found, err
}

// waits reports whether an instance that is not there now may come later.
func waits(err error, meanwhile bool) bool {
	kind := cf.KindOf(err)
	return kind == cf.KindNotRunning || meanwhile && kind == cf.KindNoInstance // scaled down
}

// discover is instances for a capture that goes on meanwhile.
func (a *apps) discover(ctx context.Context) ([]capture.Instance, error) {
	return a.instances(ctx, true, func(cf.Instance) {})
}

func (a *apps) instance(in cf.Instance) capture.Instance {
	interfaces := a.interfaces
	if len(interfaces) == 0 {
		interfaces = []string{"eth0"}
	}
	address, _ := netip.ParseAddr(in.InternalIP) // none is none
	return capture.Instance{
		Name:        in.Name(),
		ID:          fmt.Sprintf("%s/%d", in.ProcessGUID, in.Index),
		Target:      appPrefix + in.Name(),
		Kind:        capture.Container,
		Shell:       in.Shell(),
		Interfaces:  interfaces,
		Fallback:    "cf-pcap",
		SelfFilter:  in.SelfFilter(),
		Description: fmt.Sprintf("cell %s, internal address %s, process %s, instance %s", in.Cell, in.InternalIP, in.ProcessGUID, in.GUID),
		Address:     address,
		HostName:    in.HostName(),
		Dial: func(ctx context.Context) (*sshx.Conn, error) {
			return a.dialer.DialEndpoint(ctx, a.client.Endpoint(in))
		},
		Explain: func(ctx context.Context, err error) error { return a.client.Explain(ctx, in, err) },
	}
}
