package sshx_test

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sshpcap/sshpcap/sshx"
)

// sshTrusts reports whether the machine's ssh takes the host key of a target, and what it says. It offers no key.
func sshTrusts(t *testing.T, file, target string) (bool, string) {
	t.Helper()
	out, _ := exec.CommandContext(within(t, testTime), "ssh", "-F", file, "-oBatchMode=yes", "-oPreferredAuthentications=none", target).CombinedOutput()
	denied, failed := strings.Contains(string(out), "Permission denied"), strings.Contains(string(out), "Host key verification failed")
	if denied == failed {
		t.Errorf("ssh %s: %s", target, out)
	}
	return denied, string(out)
}

// trusts reports the same of ours.
func trusts(t *testing.T, file, target string) (bool, error) {
	t.Helper()
	c, err := (&sshx.Dialer{ConfigFile: file}).Dial(within(t, testTime), target)
	if err == nil {
		c.Close()
	}
	switch sshx.KindOf(err) {
	case sshx.KindLoginRefused:
		return true, nil
	case sshx.KindUnknownHostKey, sshx.KindChangedHostKey, sshx.KindRevokedHostKey, sshx.KindBadHostCert:
		return false, err
	}
	t.Errorf("neither the host key nor the login was refused: %v", err)
	return false, err
}

// some runs functions, some at a time: most of the time of a connection that is refused is waited.
func some(functions []func()) {
	var wg sync.WaitGroup
	next := make(chan func())
	for range 6 {
		wg.Go(func() {
			for f := range next {
				f()
			}
		})
	}
	for _, f := range functions {
		next <- f
	}
	close(next)
	wg.Wait()
}

// port22 gives a loopback address on which port 22 is free; "" when there is none.
func port22() string {
	for _, ip := range []string{"127.77.0.1", "127.77.0.2", "127.77.0.3"} {
		if l, err := net.Listen("tcp", ip+":22"); err == nil {
			l.Close()
			return ip
		}
	}
	return ""
}

// hashNames hashes the names of lines with ssh-keygen, which leaves those with a marker alone.
func hashNames(t *testing.T, lines string) string {
	t.Helper()
	lines, marked := strings.CutPrefix(lines, "@cert-authority ")
	name := write(t, filepath.Join(t.TempDir(), "hashed"), lines)
	run(t, "ssh-keygen", "-q", "-H", "-f", name)
	if text := read(t, name); !strings.HasPrefix(text, "|1|") {
		t.Fatalf("not hashed: %q", text)
	}
	if marked {
		return "@cert-authority " + read(t, name)
	}
	return read(t, name)
}

// TestKnownHostsLikeSSH: for every known_hosts file, on port 22 and on another one, of a server with a certificate and of
// one without, ssh and sshx agree on which host key is taken.
func TestKnownHostsLikeSSH(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := func(name, kind string) string {
		return strings.TrimSpace(read(t, keygen(t, filepath.Join(dir, name), kind, "")+".pub"))
	}
	ca, otherCA, other, ecdsa, host := key("ca", "ed25519"), key("otherca", "ed25519"), key("other", "ed25519"), key("ecdsa", "ecdsa"), key("host", "ed25519")
	run(t, "ssh-keygen", "-q", "-s", filepath.Join(dir, "ca"), "-I", "host", "-h", "-n", "127.0.0.1", filepath.Join(dir, "host.pub"))
	options := []string{"MaxStartups 100", "HostKey " + filepath.Join(dir, "host")}
	ip22 := port22()
	if ip22 != "" {
		options = append(options, "ListenAddress "+ip22+":22")
	} else {
		t.Log("port 22 is taken on every address: not tried there")
	}
	plain := newSSHD(t, options...)
	certified := newSSHD(t, "MaxStartups 100", "HostKey "+filepath.Join(dir, "host"), "HostCertificate "+filepath.Join(dir, "host-cert.pub"))
	const hashed, stricter, on22 = 1, 2, 4 // stricter: ssh takes it; sshd(8) has it that a revoked key "must not ever be accepted"
	type row struct {
		lines string
		flags int
	}
	var compare []func()
	check := func(ip string, port int, rows []row) {
		at := fmt.Sprintf("[%s]:%d", ip, port)
		if port == 22 {
			at = ip
		}
		// AT is the name with the port.
		fill := strings.NewReplacer("AT ", at+" ", "BARE ", ip+" ", "HOSTKEY", host, "OTHERCA", otherCA, "OTHER", other, "ECDSA", ecdsa, "CA", ca)
		for i, row := range rows {
			if port == 22 && row.flags&on22 == 0 {
				continue
			}
			text := fill.Replace(row.lines) + "\n"
			if row.flags&hashed != 0 {
				text = hashNames(t, text)
			}
			known := write(t, filepath.Join(dir, fmt.Sprintf("known%d-%d", port, i)), text)
			file := write(t, known+".config", fmt.Sprintf("IdentityFile none\nUserKnownHostsFile %s\nGlobalKnownHostsFile none\nUser root\nIdentityAgent none\n"+
				"KexAlgorithms curve25519-sha256\nStrictHostKeyChecking yes\nHost target\nHostName %s\nPort %d\n", known, ip, port))
			compare = append(compare, func() {
				theirs, said := sshTrusts(t, file, "target")
				ours, err := trusts(t, file, "target")
				if want := theirs && row.flags&stricter == 0; ours != want {
					t.Errorf("port %d, %q (%d): taken %t, want %t: %v\nssh: %s", port, row.lines, row.flags, ours, want, err, said)
				}
				if row.flags&stricter != 0 && !theirs {
					t.Errorf("port %d, %q: ssh does not take it either", port, row.lines)
				}
			})
		}
	}
	rows := []row{
		{"", on22},
		{"AT HOSTKEY", on22},
		{"BARE HOSTKEY", 0},
		{"AT HOSTKEY", hashed | on22},
		{"BARE HOSTKEY", hashed},
		{"BARE OTHER\nBARE HOSTKEY", hashed | on22},
		{"* HOSTKEY", on22},
		{"127.* HOSTKEY", on22},
		{"[127.*]:* HOSTKEY", on22},
		{"[127.0.0.1]:1 HOSTKEY", on22},
		{"[127.0.0.1]:1,127.0.0.1 HOSTKEY", 0},
		{"127.*,!127.0.0.1 HOSTKEY", 0},
		{"*,![127.0.0.1]:* HOSTKEY", 0},
		{"AT OTHER", on22},
		{"AT ECDSA", on22},
		{"BARE OTHER", 0},
		{"AT OTHER\nBARE HOSTKEY", 0},
		{"AT OTHER\nBARE HOSTKEY", hashed},
		{"AT HOSTKEY\nBARE OTHER", 0},
		{"* OTHER\nBARE HOSTKEY", 0},
		{"127.* OTHER\nBARE HOSTKEY", on22},
		{"@cert-authority AT HOSTKEY", 0},
		{"@revoked AT HOSTKEY\nAT HOSTKEY", on22},
		{"@revoked BARE HOSTKEY\nBARE HOSTKEY", 0},
		{"@revoked BARE HOSTKEY\nAT HOSTKEY", stricter},
		{"@revoked elsewhere HOSTKEY\nAT HOSTKEY", stricter},
		{"nonsense\nBARE HOSTKEY", 0},
	}
	check("127.0.0.1", plain.port, rows)
	if ip22 != "" {
		check(ip22, 22, rows)
	}
	check("127.0.0.1", certified.port, []row{
		{"BARE HOSTKEY", 0},
		{"AT OTHER\nBARE HOSTKEY", stricter}, // to ssh it has changed only if there is no certificate
		{"@cert-authority AT CA", 0},
		{"@cert-authority BARE CA", 0},
		{"@cert-authority BARE CA", hashed},
		{"@cert-authority * CA", 0},
		{"@cert-authority 127.* CA", 0},
		{"@cert-authority AT OTHERCA", 0},
		{"@cert-authority BARE OTHERCA", 0},
		{"@cert-authority AT OTHERCA\n@cert-authority BARE CA", 0},
		{"@cert-authority * OTHERCA\nAT HOSTKEY", 0},
		{"@cert-authority BARE OTHERCA\nBARE HOSTKEY", 0},
		{"@cert-authority BARE CA\nAT OTHER", 0},
		{"AT CA", 0},
		{"@revoked * CA\n@cert-authority AT CA", 0},
		{"@revoked BARE CA\n@cert-authority BARE CA", 0},
		{"@revoked BARE HOSTKEY\n@cert-authority BARE CA", 0},
	})
	some(compare)
}

// TestKnownHostsOfJumps: what holds for a target holds for its jump hosts.
func TestKnownHostsOfJumps(t *testing.T) {
	t.Parallel()
	jump, target := newSSHD(t), newSSHD(t)
	a, b := "127.0.0.1 "+read(t, jump.hostKey+".pub"), "127.0.0.1 "+read(t, target.hostKey+".pub")
	for name, lines := range map[string]string{"both": a + b, "hashed": hashNames(t, a+b), "the jump host's": a, "the target's": b} {
		known := write(t, filepath.Join(t.TempDir(), "known_hosts"), lines)
		file := write(t, known+".config", fmt.Sprintf("Host jump\nPort %d\nIdentityFile %s\nHost target\nPort %d\nIdentityFile %s\nProxyJump jump\nHost *\nHostName 127.0.0.1\n"+
			"UserKnownHostsFile %s\nGlobalKnownHostsFile none\nUser root\nIdentityAgent none\nStrictHostKeyChecking yes\n", jump.port, jump.key, target.port, target.key, known))
		out, err := exec.CommandContext(within(t, testTime), "ssh", "-F", file, "-oBatchMode=yes", "target", "true").CombinedOutput()
		if good := name == "both" || name == "hashed"; (err == nil) != good {
			t.Errorf("%s: ssh: %v\n%s", name, err, out)
		}
		d := &sshx.Dialer{ConfigFile: file}
		if err == nil {
			dial(t, d, "target")
		} else {
			wantError(t, refuse(t, d, "target"), sshx.KindUnknownHostKey, "unknown host key")
		}
	}
}

// TestBareLineIsNoChange: a key that differs from that of a line without the port is unknown, as in ssh, and is added
// with its port where new keys are.
func TestBareLineIsNoChange(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	other := "127.0.0.1 " + read(t, keygen(t, filepath.Join(t.TempDir(), "other"), "ed25519", "")+".pub")
	d, _ := s.knowing(t, other)
	wantError(t, refuse(t, d, s.addr()), sshx.KindUnknownHostKey, "unknown host key", fmt.Sprintf("[127.0.0.1]:%d ssh-ed25519", s.port))
	d, known := s.knowing(t, other, "StrictHostKeyChecking accept-new")
	dial(t, d, s.addr())
	if got := read(t, known); got != other+s.bareLine(t) {
		t.Errorf("known_hosts: %q", got)
	}
}

// bareLine is knownLine without the comment.
func (s *sshd) bareLine(t *testing.T) string {
	return strings.Join(strings.Fields(s.knownLine(t))[:3], " ") + "\n"
}

// TestCertificateThatIsNoGood: an expired certificate does not take the trust from a key that is known itself, as in ssh;
// where it is not, it is the certificate that is wrong.
func TestCertificateThatIsNoGood(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := keygen(t, filepath.Join(dir, "ca"), "ed25519", "")
	key := keygen(t, filepath.Join(dir, "h"), "ed25519", "")
	run(t, "ssh-keygen", "-q", "-s", ca, "-I", "h", "-h", "-n", "127.0.0.1", "-V", "20200101:20200102", key+".pub")
	s := newSSHD(t, "HostKey "+key, "HostCertificate "+key+"-cert.pub")
	s.hostKey = key
	authority := "@cert-authority 127.0.0.1 " + read(t, ca+".pub")
	d, _ := s.knowing(t, authority+s.knownLine(t), "StrictHostKeyChecking yes")
	dial(t, d, s.addr())
	if ok, said := sshTrusts(t, d.ConfigFile, fmt.Sprintf("ssh://127.0.0.1:%d", s.port)); !ok {
		t.Errorf("ssh does not take it: %s", said)
	}
	for _, strict := range []string{"yes", "no"} {
		d, _ = s.knowing(t, authority, "StrictHostKeyChecking "+strict)
		wantError(t, refuse(t, d, s.addr()), sshx.KindBadHostCert, "expired")
	}
}
