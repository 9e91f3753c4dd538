package remote

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExclusion: what a script leaves out is the same in every shell, and every link type's compiler takes it, in front
// of the user's filter and by itself.
func TestExclusion(t *testing.T) {
	t.Parallel()
	need(t, "tcpdump")
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip(err)
	}
	tests := []struct {
		name, connection, want string
		c                      Command
	}{
		{name: "plain", connection: "10.0.0.9 50123 10.0.0.2 22", want: end("10.0.0.9", 50123)},
		{name: "mapped", connection: "::ffff:10.0.0.9 50123 ::ffff:10.0.0.2 22", want: end("10.0.0.9", 50123)},
		{name: "scope", connection: "fe80::1%eth0 50123 fe80::2%eth0 22", want: end("fe80::1", 50123)},
		{name: "same as seen from here", connection: "10.0.0.9 50123 10.0.0.2 22", c: Command{Beside: end("10.0.0.9", 50123)}, want: end("10.0.0.9", 50123)},
		{name: "another from here", connection: "127.0.0.1 50123 127.0.0.1 2222", c: Command{Beside: end("10.0.0.9", 40001)},
			want: "(" + end("127.0.0.1", 50123) + ") or (" + end("10.0.0.9", 40001) + ")"},
		{name: "siblings", connection: "10.0.0.9 50123 10.0.0.2 22", c: Command{Siblings: true},
			want: "(" + end("10.0.0.9", 50123) + ") or (tcp and host 10.0.0.9 and host 10.0.0.2 and port 22)"},
		{name: "not told", want: "tcp port 22"},
		{name: "nonsense", connection: "10.0.0.9 $(id) 10.0.0.2 22", want: "tcp port 22"},
		{name: "not told, but seen from here", c: Command{Beside: end("10.0.0.9", 40001)}, want: end("10.0.0.9", 40001)},
	}
	for _, shell := range [][]string{{"dash"}, {"bash"}, {"busybox", "sh"}} {
		need(t, shell[0])
		for _, test := range tests {
			for _, filter := range []string{"", "udp or port 53"} {
				t.Run(shell[0]+"/"+test.name+"/"+filter, func(t *testing.T) {
					c := test.c
					c.Filter = filter
					excluded, e := excludes(t, shell, c, test.connection)
					if excluded != test.want {
						t.Errorf("it says that it excludes\n%s, want\n%s", excluded, test.want)
					}
					if filter != "" && !strings.HasSuffix(e, ") and ("+filter+")") || !strings.Contains(e, test.want) {
						t.Errorf("filter %s", e)
					}
					for _, link := range []string{"EN10MB", "LINUX_SLL", "LINUX_SLL2", "RAW", "NULL", "IEEE802_11_RADIO", "PPP"} {
						if out, err := exec.Command(tcpdump, "-y", link, "-d", e).CombinedOutput(); err != nil {
							t.Errorf("%s: %v: %s: %s", link, err, out, e)
						}
					}
				})
			}
		}
	}
}

// excludes runs a command's script with a helper that repeats its filter.
func excludes(t *testing.T, shell []string, c Command, connection string) (says, filter string) {
	t.Helper()
	dir := t.TempDir()
	c.Helper = filepath.Join(dir, "tcpdump")
	if err := os.WriteFile(c.Helper, []byte("#!/bin/sh\nfor e; do :; done\nprintf '%s' \"$e\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shell[0], append(shell[1:], "-c", c.Line())...)
	cmd.Env = append(os.Environ(), "SSH_CONNECTION="+connection)
	var log Log
	cmd.Stderr = &log
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %+v", err, log.Failure(-1))
	}
	return log.Report().SelfFilter, string(out)
}

// TestExcludedPackets has tcpdump tell which packets of a file the expression leaves out: those of the connection, in whatever
// carries it, and no others.
func TestExcludedPackets(t *testing.T) {
	t.Parallel()
	need(t, "tcpdump", "dash")
	const ours, other, server = 50123, 50124, 22
	plain := func(src, dst string, from, to int) []byte {
		return ipv4(6, src, dst, cat(be16(from), be16(to), make([]byte, 16)))
	}
	udp := func(port int, payload ...[]byte) []byte {
		inside := cat(payload...)
		return ipv4(17, "192.0.2.1", "192.0.2.2", cat(be16(40000), be16(port), be16(8+len(inside)), be16(0), inside))
	}
	ethernet := func(packet []byte) []byte { return cat(make([]byte, 12), be16(0x800), packet) }
	gre := func(flags, kind int, rest ...[]byte) []byte {
		return ipv4(47, "192.0.2.1", "192.0.2.2", cat(be16(flags), be16(kind), cat(rest...)))
	}
	var carried []func([]byte) []byte
	carried = append(carried,
		func(p []byte) []byte { return p },
		func(p []byte) []byte { return udp(4789, make([]byte, 8), ethernet(p)) },
		func(p []byte) []byte { return udp(8472, make([]byte, 8), ethernet(p)) },
		func(p []byte) []byte { return udp(6081, make([]byte, 8), ethernet(p)) },
		func(p []byte) []byte {
			return udp(6081, []byte{2, 0, 0x65, 0x58, 0, 0, 0, 0}, make([]byte, 8), ethernet(p))
		},
		func(p []byte) []byte { return ipv4(4, "192.0.2.1", "192.0.2.2", p) },
		func(p []byte) []byte { return gre(0, 0x800, p) },
		func(p []byte) []byte { return gre(0x2000, 0x800, make([]byte, 4), p) },
		func(p []byte) []byte { return gre(0xb000, 0x800, make([]byte, 12), p) },
		func(p []byte) []byte { return gre(0x2000, 0x6558, make([]byte, 4), ethernet(p)) },
	)
	_, e := excludes(t, []string{"dash"}, Command{Beside: end("198.51.100.7", 40001)}, "10.0.0.9 50123 10.0.0.2 2222")
	for i, carry := range carried {
		for _, test := range []struct {
			packet []byte
			out    bool
		}{
			{plain("10.0.0.9", "10.0.0.2", ours, server), true},
			{plain("10.0.0.2", "10.0.0.9", server, ours), true},
			{plain("10.0.0.2", "10.0.0.9", 443, ours), true},
			{plain("10.0.0.9", "10.0.0.2", other, server), false},
			{plain("10.0.0.9", "10.0.0.2", other, ours), false}, // a service on a port of that number
			{plain("10.0.0.8", "10.0.0.2", ours, server), false},
			{plain("198.51.100.7", "10.0.0.2", 40001, 443), i == 0},
			{plain("198.51.100.7", "10.0.0.2", 40002, 443), false},
			{ipv4(17, "10.0.0.9", "10.0.0.2", cat(be16(ours), be16(server), make([]byte, 16))), i > 0}, // told by addresses and ports only
		} {
			if got := !passes(t, e, ethernet(carry(test.packet))); got != test.out {
				t.Errorf("carried %d: %x: left out %v", i, test.packet, got)
			}
		}
	}
}

// passes reports whether tcpdump takes a packet.
func passes(t *testing.T, filter string, packet []byte) bool {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.pcap")
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint32(le.AppendUint32(b, 65535), 1)
	b = le.AppendUint32(le.AppendUint32(append(b, make([]byte, 8)...), uint32(len(packet))), uint32(len(packet)))
	if err := os.WriteFile(file, append(b, packet...), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tcpdump", "-nr", file, "-w", "-", filter).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, filter)
	}
	return len(out) > 24
}

func be16(n int) []byte          { return []byte{byte(n >> 8), byte(n)} }
func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func ipv4(protocol byte, src, dst string, payload []byte) []byte {
	a, b := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	head := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0}
	copy(head[2:], be16(20+len(payload)))
	return cat(head, a[:], b[:], payload)
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		host string
		want string
	}{
		{"10.0.0.1", "tcp and ((src host 10.0.0.1 and src port 22) or (dst host 10.0.0.1 and dst port 22))"},
		{"fe80::1%eth0", "tcp and ((src host fe80::1 and src port 22) or (dst host fe80::1 and dst port 22))"},
		{"::ffff:10.0.0.1", "tcp and ((src host 10.0.0.1 and src port 22) or (dst host 10.0.0.1 and dst port 22))"},
		{"port", `tcp and ((src host \port and src port 22) or (dst host \port and dst port 22))`},
		{"", ""}, {"a) or (b", ""}, {"a b", ""}, {"$(id)", ""},
	} {
		if got := NamedEnd(test.host, 22); got != test.want {
			t.Errorf("%q: %s", test.host, got)
		}
		if a, err := netip.ParseAddr(test.host); err == nil && End(netip.AddrPortFrom(a, 22)) != test.want {
			t.Errorf("%s: %s", a, End(netip.AddrPortFrom(a, 22)))
		}
	}
}
