package cf

import (
	"fmt"
	"strings"
	"time"
)

// Instance is one instance of a process of an app.
type Instance struct {
	App, Process string
	Index        int
	State        string // RUNNING, STARTING, STOPPING, CRASHED, DOWN or UNKNOWN
	Details      string // what the platform says about the state; often empty

	AppGUID     string
	ProcessGUID string
	GUID        string        // changes when the instance is started anew; "" when it has no container
	Cell        string        // address of the machine it is on
	InternalIP  string        // address of its container
	Uptime      time.Duration // as of when the platform was asked
	Ports       []Port

	// Deployment is "" but while a rolling deployment runs, when there are two processes of one type: then it tells
	// apart the instances of the later one.
	Deployment string
}

// Port is a port of an instance, in the container and on its cell. 0 is none.
type Port struct {
	External, Internal                 int
	ExternalTLSProxy, InternalTLSProxy int
}

// Found are the instances that a Target means.
type Found struct {
	Running []Instance
	Skipped []Instance // those that are not running
}

// sshPort is the port of the SSH server in every container.
const sshPort = 2222

// Name is the name in files and messages, such as shop/web/0.
func (in Instance) Name() string {
	name := fmt.Sprintf("%s/%s/%d", in.App, in.Process, in.Index)
	if in.Deployment != "" {
		name += "~" + in.Deployment
	}
	return name
}

// HostName is the name as a host's, such as shop-web-0.
func (in Instance) HostName() string {
	return strings.Map(func(r rune) rune {
		if r < 128 && (r == '-' || r == '.' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, in.Name())
}

// Shell is a line of a shell that runs a command there, the word that comes behind it, by the cf CLI. It is the same for
// all instances of a process: INDEX stands for which.
func (in Instance) Shell() string {
	line := "cf ssh " + shellWord(in.App)
	if in.Process != "web" {
		line += " --process " + shellWord(in.Process)
	}
	return line + " -i INDEX -c"
}

// SelfFilter is an expression (pcap-filter syntax) for the packets of our own SSH connection, as seen in the container.
func (in Instance) SelfFilter() string {
	filter := fmt.Sprintf("tcp port %d", sshPort)
	for _, p := range in.Ports {
		if p.Internal == sshPort && p.InternalTLSProxy > 0 {
			filter += fmt.Sprintf(" or tcp port %d", p.InternalTLSProxy)
		}
	}
	return filter
}
