package sshx_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sshpcap/sshpcap/sshx"
)

// knowing gives a client whose known_hosts holds lines; "" is no file at all.
func (s *sshd) knowing(t *testing.T, lines string, config ...string) (d *sshx.Dialer, known string) {
	t.Helper()
	dir := t.TempDir()
	known = filepath.Join(dir, "ssh", "known_hosts")
	if lines != "" {
		if err := os.Mkdir(filepath.Dir(known), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, known, lines)
	}
	return client(t, dir, append(config, "Host *", "IdentityFile "+s.key, "UserKnownHostsFile "+known)...), known
}

func refuse(t *testing.T, d *sshx.Dialer, target string) error {
	t.Helper()
	c, err := d.Dial(within(t, testTime), target)
	if err == nil {
		c.Close()
		t.Fatal("let in")
	}
	return err
}

func fingerprint(t *testing.T, key string) string {
	t.Helper()
	return strings.Fields(run(t, "ssh-keygen", "-l", "-f", key+".pub"))[1]
}

func TestUnknownHostKey(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	d, known := s.knowing(t, "")
	err := refuse(t, d, s.addr())
	wantError(t, err, sshx.KindUnknownHostKey, "unknown host key", "ED25519", fingerprint(t, s.hostKey), known, "--skip-host-validation")
	if _, err := os.Stat(known); err == nil {
		t.Error("known_hosts was made")
	}
	// The line of the hint is right as it stands.
	line := regexp.MustCompile(`(?m)^\[127.*$`).FindString(hint(err))
	d, _ = s.knowing(t, line)
	dial(t, d, s.addr())

	d, _ = s.knowing(t, "")
	d.InsecureIgnoreHostKey = true
	dial(t, d, s.addr())
}

func TestChangedHostKey(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	other := keygen(t, filepath.Join(t.TempDir(), "other"), "ed25519", "")
	ecdsa := keygen(t, filepath.Join(t.TempDir(), "other"), "ecdsa", "")
	for _, key := range []string{other, ecdsa} {
		for _, strict := range []string{"yes", "ask", "accept-new", "no"} {
			lines := "# a comment\n" + fmt.Sprintf("[127.0.0.1]:%d %s", s.port, read(t, key+".pub"))
			d, known := s.knowing(t, lines, "StrictHostKeyChecking "+strict)
			wantError(t, refuse(t, d, s.addr()), sshx.KindChangedHostKey, "CHANGED", known+":2", fingerprint(t, s.hostKey), "ssh-keygen -R")
			if read(t, known) != lines {
				t.Error("known_hosts was written")
			}
		}
	}
}

func TestRevokedHostKey(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	d, known := s.knowing(t, s.knownLine(t)+"@revoked * "+read(t, s.hostKey+".pub"), "StrictHostKeyChecking no")
	wantError(t, refuse(t, d, s.addr()), sshx.KindRevokedHostKey, "REVOKED", known+":2", fingerprint(t, s.hostKey))
}

// All ways in which ssh-keygen and ssh write a host's name.
func TestKnownHosts(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	pub := read(t, s.hostKey+".pub")
	dir := t.TempDir()
	hashed := write(t, filepath.Join(dir, "hashed"), s.knownLine(t))
	run(t, "ssh-keygen", "-q", "-H", "-f", hashed)
	if !strings.HasPrefix(read(t, hashed), "|1|") {
		t.Fatal("not hashed")
	}
	for name, lines := range map[string]string{
		"hashed":          read(t, hashed),
		"several names":   fmt.Sprintf("web,[127.0.0.1]:%d,web.example %s", s.port, pub),
		"pattern":         "127.0.0.* " + pub,
		"no line end":     strings.TrimSpace(s.knownLine(t)),
		"other key first": s.knownLine(t) + fmt.Sprintf("[127.0.0.1]:%d %s", s.port, read(t, keygen(t, filepath.Join(dir, "rsa"), "ecdsa", "")+".pub")),
		"CR LF":           strings.ReplaceAll(s.knownLine(t), "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := s.knowing(t, lines)
			dial(t, d, s.addr())
		})
	}
	t.Run("negated", func(t *testing.T) {
		d, _ := s.knowing(t, fmt.Sprintf("[127.0.0.*]:%d,![127.0.0.1]:%d %s", s.port, s.port, pub))
		wantError(t, refuse(t, d, s.addr()), sshx.KindUnknownHostKey)
	})
	t.Run("alias", func(t *testing.T) {
		d, _ := s.knowing(t, "the-alias "+pub, "HostKeyAlias the-alias")
		dial(t, d, s.addr())
	})
	t.Run("second file", func(t *testing.T) {
		second := write(t, filepath.Join(t.TempDir(), "with space"), s.knownLine(t))
		d := client(t, t.TempDir(), "IdentityFile "+s.key, fmt.Sprintf("UserKnownHostsFile %q %q", "/nonexistent/known", second))
		dial(t, d, s.addr())
	})
	t.Run("wrong lines", func(t *testing.T) {
		var w warnings
		d, known := s.knowing(t, "nonsense\n\nhost ssh-new-type AAAA\n"+s.knownLine(t))
		d.Warn = w.add
		dial(t, d, s.addr())
		if all := strings.Join(w.all(), "\n"); !strings.Contains(all, known+":1: line left out") || !strings.Contains(all, known+":3: line left out") {
			t.Errorf("warnings: %q", all)
		}
		d, known = s.knowing(t, "nonsense\n"+fmt.Sprintf("[127.0.0.1]:%d %s", s.port, read(t, keygen(t, filepath.Join(dir, "changed"), "ed25519", "")+".pub")))
		wantError(t, refuse(t, d, s.addr()), sshx.KindChangedHostKey, known+":2")
	})
}

// A server with keys of several kinds shows the one that is known.
func TestKnownAlgorithm(t *testing.T) {
	t.Parallel()
	extra := keygen(t, filepath.Join(t.TempDir(), "ecdsa"), "ecdsa", "")
	rsa := keygen(t, filepath.Join(t.TempDir(), "rsa"), "rsa", "", "-b", "2048")
	s := newSSHD(t, "HostKey "+extra, "HostKey "+rsa)
	for _, key := range []string{s.hostKey, extra, rsa} {
		d, _ := s.knowing(t, fmt.Sprintf("[127.0.0.1]:%d %s", s.port, read(t, key+".pub")))
		dial(t, d, s.addr())
	}
}

func TestAcceptNew(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	for _, strict := range []string{"accept-new", "no"} {
		for _, hash := range []string{"yes", "no"} {
			d, known := s.knowing(t, "", "StrictHostKeyChecking "+strict, "HashKnownHosts "+hash)
			var w warnings
			d.Warn = w.add
			e, err := d.Resolve(s.addr())
			if err != nil {
				t.Fatal(err)
			}
			e.NoShare = true
			var wg sync.WaitGroup
			for range 8 { // each sees the key as new
				wg.Go(func() {
					c, err := d.DialEndpoint(within(t, testTime), e)
					if err != nil {
						t.Error(err)
						return
					}
					c.Close()
				})
			}
			wg.Wait()
			if n := strings.Count(read(t, known), "\n"); n != 1 {
				t.Errorf("%d lines", n)
			}
			if hashed := strings.HasPrefix(read(t, known), "|1|"); hashed != (hash == "yes") {
				t.Errorf("HashKnownHosts %s: %q", hash, read(t, known))
			}
			if all := w.all(); len(all) != 1 || !strings.Contains(all[0], "added to "+known) || !strings.Contains(all[0], fingerprint(t, s.hostKey)) {
				t.Errorf("warnings: %q", all)
			}
			if info, err := os.Stat(known); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			run(t, "ssh-keygen", "-F", fmt.Sprintf("[127.0.0.1]:%d", s.port), "-f", known) // it finds what we wrote
		}
	}
	// A last line without its end stays a line of its own.
	d, known := s.knowing(t, "# no line end", "StrictHostKeyChecking accept-new")
	dial(t, d, s.addr())
	if text := read(t, known); !strings.HasPrefix(text, "# no line end\n[127.0.0.1]") {
		t.Errorf("known_hosts: %q", text)
	}
	// Where nothing can be written nobody is let in.
	d, _ = s.knowing(t, "", "StrictHostKeyChecking accept-new", "UserKnownHostsFile /proc/nope/known_hosts")
	wantError(t, refuse(t, d, s.addr()), sshx.KindKnownHosts, "/proc/nope")
}

func TestHostCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := keygen(t, filepath.Join(dir, "ca"), "ed25519", "")
	certified := func(kind string, args ...string) *sshd {
		key := keygen(t, filepath.Join(t.TempDir(), "h"), kind, "")
		run(t, "ssh-keygen", append([]string{"-q", "-s", ca, "-I", "the host", "-h"}, append(args, key+".pub")...)...)
		s := newSSHD(t, "HostKey "+key, "HostCertificate "+key+"-cert.pub")
		s.hostKey = key
		return s
	}
	authority := "@cert-authority 127.0.0.* " + read(t, ca+".pub")
	good := certified("ed25519", "-n", "127.0.0.1")
	d, _ := good.knowing(t, authority)
	dial(t, d, good.addr())
	ecdsa := certified("ecdsa", "-n", "127.0.0.1") // another kind than the authority's
	d, _ = ecdsa.knowing(t, authority)
	dial(t, d, ecdsa.addr())
	// Without the authority the key in the certificate counts.
	d, _ = good.knowing(t, good.knownLine(t))
	dial(t, d, good.addr())
	d, _ = good.knowing(t, "")
	wantError(t, refuse(t, d, good.addr()), sshx.KindUnknownHostKey, fingerprint(t, good.hostKey))
	d, _ = good.knowing(t, authority+"@revoked * "+read(t, ca+".pub"))
	wantError(t, refuse(t, d, good.addr()), sshx.KindRevokedHostKey, "REVOKED")

	wrong := certified("ed25519", "-n", "elsewhere")
	d, _ = wrong.knowing(t, authority)
	wantError(t, refuse(t, d, wrong.addr()), sshx.KindBadHostCert, "the host", "elsewhere")

	old := certified("ed25519", "-n", "127.0.0.1", "-V", "20200101:20200102")
	d, _ = old.knowing(t, authority)
	wantError(t, refuse(t, d, old.addr()), sshx.KindBadHostCert, "expired")

	// A server with a plain key where an authority is known is unknown, not changed.
	plain := newSSHD(t)
	d, _ = plain.knowing(t, authority)
	wantError(t, refuse(t, d, plain.addr()), sshx.KindUnknownHostKey)
}
