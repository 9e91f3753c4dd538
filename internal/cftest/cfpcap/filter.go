package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
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
	cmd := exec.Command(compiler(), "-ddd", "-s", "262144", "-y", name, "--", expression)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/bin:/usr/sbin", "LC_ALL=C")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return errors.New(reason(stderr.String()))
	}
	raw, err := assemble(out)
	if err != nil {
		return err
	}
	if c.linkType != cooked {
		return attach(c.fd, raw)
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		return errors.New("instructions that are not known")
	}
	c.vm, err = bpf.NewVM(program)
	return err
}

// compilerName is the name of a tcpdump beside the helper, for containers that have none to be found.
const compilerName = "compile-filter"

func compiler() string {
	if path, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(path), compilerName)
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return "tcpdump"
}

// attach has the kernel filter: what does not pass takes no place in the ring.
func attach(fd int, raw []bpf.RawInstruction) error {
	var filter []unix.SockFilter
	for _, r := range raw {
		filter = append(filter, unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K})
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
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
func assemble(text []byte) (raw []bpf.RawInstruction, err error) {
	in := bytes.NewReader(text)
	var n int
	if _, err := fmt.Fscan(in, &n); err != nil {
		return nil, err
	}
	for range n {
		var r bpf.RawInstruction
		if _, err := fmt.Fscan(in, &r.Op, &r.Jt, &r.Jf, &r.K); err != nil {
			return nil, err
		}
		raw = append(raw, r)
	}
	if len(raw) == 0 {
		return nil, errors.New("no instructions")
	}
	return raw, nil
}
