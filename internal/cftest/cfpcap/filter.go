package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/net/bpf"
)

// setFilter compiles the filter with tcpdump and what the helper excludes by itself.
func (c *capture) setFilter(o config) error {
	expression := o.filter
	if own := ownFilter(o.iface); own != "" && expression != "" {
		expression = own + " and (" + expression + ")"
	} else if own != "" {
		expression = own
	}
	if expression == "" {
		return nil
	}
	name := "EN10MB"
	if c.linkType == cooked {
		name = "LINUX_SLL"
	}
	var stderr bytes.Buffer
	// The helper's own snaplen does not count: it is in what the program returns, and cannot be 0 there.
	cmd := exec.Command("tcpdump", "-ddd", "-s", "262144", "-y", name, "--", expression)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/bin:/usr/sbin", "LC_ALL=C")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return errors.New(reason(stderr.String()))
	}
	program, err := assemble(out)
	if err != nil {
		return err
	}
	c.vm, err = bpf.NewVM(program)
	return err
}

// ownFilter is what the helper excludes by itself: SSH on lo, and the TLS proxy in front of it on eth0.
func ownFilter(iface string) string {
	switch iface {
	case "lo":
		return "not tcp port 2222"
	case "eth0":
		var ports []struct {
			Internal         int `json:"internal"`
			InternalTLSProxy int `json:"internal_tls_proxy"`
		}
		json.Unmarshal([]byte(os.Getenv("CF_INSTANCE_PORTS")), &ports) // nothing where there are none
		for _, p := range ports {
			if p.Internal == 2222 && p.InternalTLSProxy != 0 {
				return fmt.Sprintf("not tcp port %d", p.InternalTLSProxy)
			}
		}
	}
	return ""
}

// reason leaves of tcpdump's words those of libpcap.
func reason(stderr string) string {
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "tcpdump: "); ok && !strings.HasPrefix(text, "data link type ") {
			return strings.TrimPrefix(text, "can't parse filter expression: ")
		}
	}
	return strings.TrimSpace(stderr)
}

// assemble reads what tcpdump -ddd writes: how many instructions, then one on a line.
func assemble(text []byte) ([]bpf.Instruction, error) {
	in := bytes.NewReader(text)
	var n int
	if _, err := fmt.Fscan(in, &n); err != nil {
		return nil, err
	}
	raw := make([]bpf.RawInstruction, 0, min(n, 4096))
	for range n {
		var r bpf.RawInstruction
		if _, err := fmt.Fscan(in, &r.Op, &r.Jt, &r.Jf, &r.K); err != nil {
			return nil, err
		}
		raw = append(raw, r)
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		return nil, errors.New("instructions that are not known")
	}
	return program, nil
}
