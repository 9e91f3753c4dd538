package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

// bindError is why an address of this machine cannot be used.
type bindError struct {
	keyword, value string
	err            error
}

func (e *bindError) Error() string { return e.keyword + " " + e.value + ": " + e.err.Error() }
func (e *bindError) Unwrap() error { return e.err }

// dialDirect makes a TCP connection, by the address family and from the address that are wanted.
func (e *Endpoint) dialDirect(ctx context.Context, network, address string) (net.Conn, error) {
	network += map[string]string{"inet": "4", "inet6": "6"}[e.AddressFamily]
	d := &net.Dialer{}
	if e.NoTCPKeepAlive {
		d.KeepAlive = -1
	}
	if e.BindAddress == "" && e.BindInterface == "" {
		return d.DialContext(ctx, network, address)
	}
	from, err := e.localAddresses(ctx)
	if err != nil {
		return nil, err
	}
	return e.dialFrom(ctx, d, from, network, address)
}

// dialFrom tries the host's addresses one after the other, as ssh does, each from the first address of ours that is of
// the same family.
func (e *Endpoint) dialFrom(ctx context.Context, d *net.Dialer, from []netip.Addr, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	to, err := net.DefaultResolver.LookupNetIP(ctx, "ip"+network[len("tcp"):], host)
	if err != nil {
		return nil, err
	}
	last := e.bindError(errors.New("it is of another family than the host's addresses"))
	for _, ip := range to {
		ip = ip.Unmap()
		i := slices.IndexFunc(from, func(a netip.Addr) bool { return a.Is4() == ip.Is4() })
		if i < 0 {
			continue
		}
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from[i], 0))
		conn, err := d.DialContext(ctx, network, net.JoinHostPort(ip.String(), port))
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		if call, ok := errors.AsType[*os.SyscallError](err); ok && call.Syscall == "bind" {
			err = e.bindError(call.Err)
		}
		last = err
	}
	return nil, last
}

func (e *Endpoint) bindError(err error) error {
	if e.BindAddress != "" {
		return &bindError{"BindAddress", e.BindAddress, err}
	}
	return &bindError{"BindInterface", e.BindInterface, err}
}

// localAddresses gives those of BindAddress, else those of BindInterface.
func (e *Endpoint) localAddresses(ctx context.Context) ([]netip.Addr, error) {
	if e.BindAddress != "" {
		from, err := net.DefaultResolver.LookupNetIP(ctx, "ip", e.BindAddress)
		if err != nil {
			return nil, e.bindError(err)
		}
		for i := range from {
			from[i] = from[i].Unmap()
		}
		return from, nil
	}
	nic, err := net.InterfaceByName(e.BindInterface)
	if err != nil {
		return nil, e.bindError(errors.New("no such network interface"))
	}
	addrs, err := nic.Addrs()
	if err != nil {
		return nil, e.bindError(err)
	}
	return usable(addrs, nic.Name), nil
}

// usable puts addresses that are good on their link only behind others.
func usable(addrs []net.Addr, zone string) (list []netip.Addr) {
	var behind []netip.Addr
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		switch ip := prefix.Addr(); {
		case err != nil:
		case ip.Is6() && ip.IsLinkLocalUnicast():
			behind = append(behind, ip.WithZone(zone))
		case ip.IsLoopback(), ip.IsLinkLocalUnicast():
			behind = append(behind, ip)
		default:
			list = append(list, ip)
		}
	}
	return append(list, behind...)
}

// explainBind is about an address of this machine.
func explainBind(b *bindError) error {
	return &Error{Kind: KindUnreachable, Problem: fmt.Sprintf("cannot connect from %s %s: %s", b.keyword, oneLine(b.value), plain(b.err)), Err: b.err,
		Tip: "it must be an address or an interface of this machine; correct " + b.keyword + " in ssh_config"}
}

// isNoAnswer reports whether trying again may help though there is nothing to wait for.
func (k Kind) isNoAnswer() bool { return k == KindRefused || k == KindUnreachable }

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
