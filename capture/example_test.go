package capture_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/sshx"
)

// Two hosts for ten seconds, in one file. The hosts' names, users, keys and jump hosts come from ~/.ssh/config.
func ExampleRun() {
	var dialer sshx.Dialer
	cfg := capture.Config{
		Output:   capture.Output{Path: "web.pcapng"},
		Filter:   "tcp port 443",
		Duration: 10 * time.Second,
	}
	for _, host := range []string{"web1", "web2"} {
		cfg.Instances = append(cfg.Instances, capture.Instance{
			Name: host,
			Dial: func(ctx context.Context) (*sshx.Conn, error) { return dialer.Dial(ctx, host) },
		})
	}
	report, err := capture.Run(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	for _, instance := range report.Instances {
		fmt.Println(instance.Name, instance.State, instance.Problem)
	}
}
