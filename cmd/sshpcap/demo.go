package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/demo"
	"github.com/sshpcap/sshpcap/sshx"
)

func demoCommand(signals *signals) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "capture on three built-in instances: no network, no rights, no set-up",
		Description: "Three SSH servers inside this program play the parts of a small web shop: web, app and db.\n" +
			"They are captured on as real hosts are. Each packet between two of them is seen by both.",
		Flags:        demoFlags(),
		OnUsageError: usage,
		Action:       func(c *cli.Context) error { return runDemo(c, signals) },
	}
}

// demoFlags are those of a capture that make sense here, with the demo's defaults.
func demoFlags() []cli.Flag {
	names := []string{"output", "format", "overwrite", "duration", "count", "max-size", "grace", "window", "buffer", "progress", "quiet", "report"}
	var flags []cli.Flag
	for _, f := range captureFlags() {
		if !slices.Contains(names, f.Names()[0]) {
			continue
		}
		switch f := f.(type) {
		case *cli.StringFlag:
			if f.Name == "output" {
				f.Value = "demo.pcapng"
			}
		case *cli.DurationFlag:
			if f.Name == "duration" {
				f.Value, f.DefaultText = 5*time.Second, "5s"
			}
		}
		flags = append(flags, f)
	}
	return flags
}

func runDemo(c *cli.Context, signals *signals) error {
	if c.NArg() > 0 {
		return &usageError{fmt.Sprintf("demo takes no target, and there is %q", c.Args().First()), "to capture on it: sshpcap capture " + c.Args().First()}
	}
	cfg, err := captureConfig(c)
	if err != nil {
		return err
	}
	s, err := newSession(c, cfg, signals)
	if err != nil {
		return err
	}
	defer s.display.close()
	shop, err := demo.Start()
	if err != nil {
		return err
	}
	defer shop.Close()
	var dialer sshx.Dialer
	for _, in := range shop.Instances {
		s.cfg.Instances = append(s.cfg.Instances, demoInstance(&dialer, in))
	}
	s.cfg.Comment = "sshpcap demo: a small web shop, captured on its three instances"
	status := s.run()
	if status == exitOK && s.cfg.Output.File == nil {
		s.display.report(func(w io.Writer) { howToOpen(w, cfg) })
	}
	return exit(status)
}

// demoInstance logs in to a built-in server, of which everything is known.
func demoInstance(d *sshx.Dialer, in demo.Instance) capture.Instance {
	host, port, _ := net.SplitHostPort(in.Address)
	number, _ := strconv.Atoi(port)
	endpoint := sshx.Endpoint{
		Target:          in.Name,
		Host:            host,
		Port:            number,
		User:            in.User,
		HostKeyCallback: ssh.FixedHostKey(in.HostKey),
		Auth: func(context.Context) ([]ssh.AuthMethod, error) {
			return []ssh.AuthMethod{ssh.Password(in.Password)}, nil
		},
	}
	return capture.Instance{
		Name:       in.Name,
		Interfaces: []string{"eth0"},
		Dial:       func(ctx context.Context) (*sshx.Conn, error) { return d.DialEndpoint(ctx, endpoint) },
	}
}

func howToOpen(w io.Writer, cfg capture.Config) {
	path := cfg.Output.Path
	fmt.Fprintf(w, "\nOpen it:       wireshark %s\n", path)
	if cfg.Output.Format == capture.Pcapng {
		fmt.Fprintf(w, "Or in a shell: tshark -r %s -T fields -e frame.time_epoch -e frame.interface_name -e _ws.col.Info | head -40\n", path)
	}
}
