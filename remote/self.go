package remote

import (
	"fmt"
	"net/netip"
	"strings"
)

// End is a filter for the TCP packets from and to an address with a port: one end of a connection, or a service.
func End(a netip.AddrPort) string { return end(plainAddr(a.Addr()).String(), int(a.Port())) }

// NamedEnd is [End] where the address may be a name, which the instance looks up. It is "" for one that no filter can hold.
func NamedEnd(host string, port int) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return end(plainAddr(a).String(), port)
	}
	if host == "" || strings.Trim(host, nameBytes) != "" {
		return ""
	}
	return end(`\`+host, port) // a name may be a word of the language, too
}

const nameBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

// Service is a filter for the TCP packets between an address and a service.
func Service(client netip.Addr, service netip.AddrPort) string {
	return fmt.Sprintf("tcp and host %s and host %s and port %d", plainAddr(client), plainAddr(service.Addr()), service.Port())
}

func end(host string, port int) string {
	return fmt.Sprintf("tcp and ((src host %[1]s and src port %[2]d) or (dst host %[1]s and dst port %[2]d))", host, port)
}

// plainAddr is the address as packets show it: without a scope, and never IPv4 in the dress of IPv6.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// AnyOf is a filter for what one of several lets through; "" without any.
func AnyOf(filters ...string) string {
	if len(filters) == 1 {
		return filters[0]
	}
	var b strings.Builder
	for i, f := range filters {
		if i > 0 {
			b.WriteString(" or ")
		}
		b.WriteString("(" + f + ")")
	}
	return b.String()
}
