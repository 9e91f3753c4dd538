// Package demo is three instances of a small web shop to capture on, without a network and without rights: SSH servers
// in this process, whose tcpdump shows a made-up conversation. It captures nothing itself.
package demo

import (
	"crypto/rand"
	"errors"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/sshserver"
)

// Instance is what it takes to log in to one of the three.
type Instance struct {
	Name     string // Web, App or DB
	Address  string // host:port on the loopback interface
	HostKey  ssh.PublicKey
	User     string
	Password string
}

// Demo is the three instances, running.
type Demo struct {
	Instances []Instance // in the order in which a request goes through them

	servers []*sshserver.Server
}

// Start starts the instances; Close ends them.
func Start() (*Demo, error) {
	d, traffic := &Demo{}, &Traffic{Seed: 1}
	for _, role := range roles {
		instance := Instance{Name: role, User: "demo", Password: rand.Text()}
		server := &sshserver.Server{User: instance.User, Password: instance.Password, Handler: traffic.Helper(role)}
		if err := server.Start(); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		instance.Address, instance.HostKey = server.Addr(), server.PublicKey()
		d.Instances = append(d.Instances, instance)
		d.servers = append(d.servers, server)
	}
	return d, nil
}

// Close cuts what still runs and waits for its end.
func (d *Demo) Close() error {
	var errs []error
	for _, server := range d.servers {
		errs = append(errs, server.Close())
	}
	return errors.Join(errs...)
}
