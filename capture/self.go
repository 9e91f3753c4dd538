package capture

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// beside is a filter for what carries the capture of an instance, beside the connection that it knows itself: that one as
// we see it, which differs behind a proxy, all of ours if it may have others, and those that it makes for us as a jump host.
func (in *instance) beside(conn *sshx.Conn, siblings, names bool) string {
	var all []string
	local, server := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	if !conn.Jumped() && local.IsValid() {
		all = append(all, remote.End(local))
		if siblings && server.IsValid() {
			all = append(all, remote.Service(local.Addr(), server))
		}
	}
	for _, relay := range in.Relays {
		host, port := splitRelay(relay)
		if _, err := netip.ParseAddr(host); err != nil && !names {
			continue
		}
		if end := remote.NamedEnd(host, port); end != "" {
			all = append(all, end)
		}
	}
	return remote.AnyOf(all...)
}

// namesRelays reports whether names of hosts have to be looked up to leave out what the instance makes for us.
func (in *instance) namesRelays() bool {
	for _, relay := range in.Relays {
		host, _ := splitRelay(relay)
		if _, err := netip.ParseAddr(host); err != nil {
			return true
		}
	}
	return false
}

func splitRelay(relay string) (host string, port int) {
	host, text, _ := net.SplitHostPort(relay)
	port, _ = strconv.Atoi(text)
	return host, port
}

// addrPort is the address of a TCP connection; not valid for any other.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}
