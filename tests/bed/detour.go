package bed

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// In is the host's address in one of its nets.
func (h *Host) In(net int) string { return h.addrs[net] }

// Config makes an SSH configuration of lines in front of the client's, and returns its path.
func (b *Bed) Config(lines string) string {
	b.t.Helper()
	config, err := os.ReadFile(b.SSHConfig())
	must(b.t, err)
	return b.WriteFile("more_config", 0o644, lines+string(config))
}

// Redirect has the kernel give connections to a port to the SSH server: by nft, or by iptables.
func (h *Host) Redirect(port int, nft bool) {
	h.bed.t.Helper()
	if nft {
		must(h.bed.t, h.run("nft", fmt.Sprintf(`table ip detour {
	chain arriving { type nat hook prerouting priority -100; tcp dport %d redirect to :%d; }
}`, port, h.Port)))
		return
	}
	must(h.bed.t, h.run("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", strconv.Itoa(port), "-j", "REDIRECT", "--to-ports", strconv.Itoa(h.Port)))
}

// Proxy has a program carry connections to a port to the SSH server.
func (h *Host) Proxy(port int) {
	h.bed.t.Helper()
	proxy := h.Command("socat", fmt.Sprintf("TCP-LISTEN:%d,fork,reuseaddr", port), fmt.Sprintf("TCP:127.0.0.1:%d", h.Port))
	must(h.bed.t, proxy.Start())
	h.bed.t.Cleanup(func() { proxy.Process.Kill(); proxy.Wait() })
	WaitFor(h.bed.t, 10*time.Second, h.Name+": the proxy listens", func() bool { return listens(proxy.Process.Pid, port) })
}

// Disguise gives connections from the hub to a port another address's port on the wire, which the client cannot know.
func (b *Bed) Disguise(port int) {
	b.t.Helper()
	must(b.t, b.Hub.run("iptables", "-t", "nat", "-A", "POSTROUTING", "-p", "tcp", "--dport", strconv.Itoa(port), "-j", "SNAT",
		"--to-source", address(0, 1)+":20000-29999"))
}

// Tunnel connects the hub and the host by a tunnel of the kind that ip-link(8) knows, and returns the host's address in it. A port of 0 is
// for kinds that have none.
func (h *Host) Tunnel(kind string, port int) string {
	h.bed.t.Helper()
	hub, far := address(0, 1), h.addrs[0]
	for _, end := range []struct {
		host              *Host
		local, peer, addr string
	}{{h.bed.Hub, hub, far, "10.99.0.1/24"}, {h, far, hub, "10.99.0.2/24"}} {
		link := []string{"link", "add", "tunnel", "type", kind, "local", end.local, "remote", end.peer}
		switch kind {
		case "vxlan":
			link = append(link, "id", "7", "dstport", strconv.Itoa(port))
		case "geneve":
			link = []string{"link", "add", "tunnel", "type", kind, "remote", end.peer, "id", "7", "dstport", strconv.Itoa(port)}
		}
		if err := end.host.ip(link...); err != nil {
			h.bed.t.Skip("needs a kernel with " + kind + ": " + err.Error())
		}
		must(h.bed.t, end.host.ip("addr", "add", end.addr, "dev", "tunnel"))
		must(h.bed.t, end.host.ip("link", "set", "tunnel", "up"))
	}
	return "10.99.0.2"
}
