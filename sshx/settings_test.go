package sshx_test

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/sshx"
)

// sign makes a certificate of a user's key and gives its file, which is not beside the key.
func sign(t *testing.T, ca, key string, args ...string) string {
	t.Helper()
	run(t, "ssh-keygen", append(append([]string{"-q", "-s", ca, "-I", "me"}, args...), key+".pub")...)
	file := filepath.Join(t.TempDir(), "certificate")
	if err := os.Rename(key+"-cert.pub", file); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCertificateFile: a certificate that is not beside its key is offered, whether a file or the agent has the key, as
// with ssh; and where it is of no use, the hint gives the reason, which is never a line missing in authorized_keys.
func TestCertificateFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := keygen(t, filepath.Join(dir, "ca"), "ed25519", ""), keygen(t, filepath.Join(dir, "otherca"), "ed25519", "")
	s := newSSHD(t, "TrustedUserCAKeys "+ca+".pub")
	for _, kind := range []string{"ed25519", "rsa"} {
		key := keygen(t, filepath.Join(dir, kind), kind, "", bits(kind)...)
		cert := sign(t, ca, key, "-n", "root")
		dial(t, s.login(t, "IdentityFile "+key, "CertificateFile "+cert), s.addr())
		dial(t, s.login(t, "IdentityFile none", "CertificateFile "+cert, "IdentityAgent "+startAgent(t, key)), s.addr())
		dial(t, s.login(t, "IdentityFile "+key+".pub", "IdentitiesOnly yes", "CertificateFile "+cert, "IdentityAgent "+startAgent(t, key)), s.addr())
	}
	s.log.waitFor(t, "-CERT SHA256", 6)
	key := keygen(t, filepath.Join(dir, "key"), "ed25519", "")
	for name, c := range map[string]struct {
		cert  string
		words []string
	}{
		"missing":         {filepath.Join(dir, "nowhere"), []string{"nowhere", "cannot be read", "no such file"}},
		"no certificate":  {key + ".pub", []string{"key.pub", "is no certificate"}},
		"another key":     {sign(t, ca, keygen(t, filepath.Join(dir, "another"), "ed25519", ""), "-n", "root"), []string{"was not offered", "no private key", "IdentityFile"}},
		"another user":    {sign(t, ca, key, "-n", "ann,bob"), []string{"was not accepted", "ann, bob", "not for root"}},
		"expired":         {sign(t, ca, key, "-n", "root", "-V", "20200101:20200102"), []string{"has expired on 2020-01-0"}},
		"not yet":         {sign(t, ca, key, "-n", "root", "-V", "20400101:20400102"), []string{"not valid before 20", "clock"}},
		"of a host":       {sign(t, ca, key, "-n", "root", "-h"), []string{"one of a host"}},
		"other authority": {sign(t, other, key, "-n", "root"), []string{"was not accepted", "TrustedUserCAKeys", "ssh-keygen -L"}},
	} {
		err := refuse(t, s.login(t, "IdentityFile "+key, "CertificateFile "+c.cert), s.addr())
		wantError(t, err, sshx.KindLoginRefused, append(c.words, filepath.Base(c.cert))...)
		if strings.Contains(hint(err), "authorized_keys") {
			t.Errorf("%s: %s", name, hint(err))
		}
	}
	// With CertificateFile none is looked for beside the key.
	run(t, "ssh-keygen", "-q", "-s", ca, "-I", "me", "-n", "root", key+".pub")
	dial(t, s.login(t, "IdentityFile "+key), s.addr())
	refuse(t, s.login(t, "IdentityFile "+key, "CertificateFile "+filepath.Join(dir, "nowhere")), s.addr())
}

// TestPubkeyAcceptedAlgorithms: what is left out is not offered; what is put in is.
func TestPubkeyAcceptedAlgorithms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rsa := keygen(t, filepath.Join(dir, "rsa"), "rsa", "", "-b", "2048")
	s := newSSHD(t)
	s.authorize(t, rsa)
	wantError(t, refuse(t, s.login(t, "IdentityFile "+s.key, "PubkeyAcceptedAlgorithms -ssh-ed25519*"), s.addr()), sshx.KindLoginRefused, "left out by PubkeyAcceptedAlgorithms")
	wantError(t, refuse(t, s.login(t, "IdentityFile "+rsa, "PubkeyAcceptedKeyTypes ssh-ed25519"), s.addr()), sshx.KindLoginRefused, "left out by PubkeyAcceptedAlgorithms")
	wantError(t, refuse(t, s.login(t, "IdentityFile "+rsa, "RequiredRSASize 3072"), s.addr()), sshx.KindLoginRefused, "2048 bits", "RequiredRSASize wants 3072")
	dial(t, s.login(t, "IdentityFile "+rsa, "PubkeyAcceptedAlgorithms rsa-sha2-256", "RequiredRSASize 2048"), s.addr())
	s.log.waitFor(t, "Accepted publickey", 1)
	old := newSSHD(t, "PubkeyAcceptedAlgorithms ssh-rsa") // SHA-1
	old.authorize(t, rsa)
	refuse(t, old.login(t, "IdentityFile "+rsa), old.addr())
	dial(t, old.login(t, "IdentityFile "+rsa, "PubkeyAcceptedAlgorithms ssh-rsa"), old.addr())
}

// TestAlgorithmsOfConfig: the server has one algorithm of each kind only, and ssh_config decides whether it is used.
func TestAlgorithmsOfConfig(t *testing.T) {
	t.Parallel()
	s := newSSHD(t, "Ciphers aes256-ctr", "MACs hmac-sha2-512", "KexAlgorithms diffie-hellman-group1-sha1")
	wantError(t, refuse(t, s.client(t), s.addr()), sshx.KindNoCommonCrypto, "KexAlgorithms +NAME")
	const group1 = "KexAlgorithms +diffie-hellman-group1-sha1"
	dial(t, s.client(t, group1), s.addr())
	dial(t, s.client(t, group1, "Ciphers ^aes256-ctr", "MACs hmac-sha2-512", "RekeyLimit 1M"), s.addr())
	for _, limit := range []string{"Ciphers -aes256-*", "Ciphers aes128-ctr", "MACs hmac-sha2-256", "HostKeyAlgorithms rsa-sha2-512"} {
		wantError(t, refuse(t, s.client(t, group1, limit), s.addr()), sshx.KindNoCommonCrypto, "ssh_config limits the algorithms")
	}
}

// TestHostKeyAlgorithms: the server shows the key that is asked for. Without a list, or with one that is only added to
// or taken from, that one is asked for which is known.
func TestHostKeyAlgorithms(t *testing.T) {
	t.Parallel()
	ecdsa := keygen(t, filepath.Join(t.TempDir(), "ecdsa"), "ecdsa", "")
	s := newSSHD(t, "HostKey "+ecdsa)
	for _, known := range []string{s.hostKey, ecdsa} {
		line := fmt.Sprintf("[127.0.0.1]:%d %s", s.port, read(t, known+".pub"))
		for config, wants := range map[string]string{"HostKeyAlgorithms ssh-ed25519": s.hostKey, "HostKeyAlgorithms ecdsa-sha2-nistp256,ssh-ed25519": ecdsa, "HostKeyAlgorithms ^ecdsa*": ecdsa,
			"HostKeyAlgorithms +ssh-rsa": known, "HostKeyAlgorithms -rsa*": known} {
			d, _ := s.knowing(t, line, config)
			if wants == known {
				dial(t, d, s.addr())
			} else {
				wantError(t, refuse(t, d, s.addr()), sshx.KindChangedHostKey, fingerprint(t, wants))
			}
		}
	}
	short := newSSHD(t, "HostKey "+keygen(t, filepath.Join(t.TempDir(), "rsa"), "rsa", "", "-b", "2048"))
	wantError(t, refuse(t, short.client(t, "HostKeyAlgorithms rsa-sha2-512", "RequiredRSASize 3072"), short.addr()), sshx.KindNoCommonCrypto, "2048 bits", "RequiredRSASize")
}

// TestMethods: which ways to log in are tried, in which order, and how often a password is asked for.
func TestMethods(t *testing.T) {
	t.Parallel()
	key := keygen(t, filepath.Join(t.TempDir(), "k"), "ed25519", "")
	addr := passwordServer(t, false)
	ask := func(asked *int, answer string, config ...string) *sshx.Dialer {
		d := client(t, t.TempDir(), append(config, "IdentityFile "+key)...)
		d.InsecureIgnoreHostKey = true
		d.Prompt = func(context.Context, sshx.Prompt) (string, error) { *asked++; return answer, nil }
		return d
	}
	for _, c := range []struct {
		config string
		asked  int
		words  []string
	}{
		{"NumberOfPasswordPrompts 1", 1, []string{"tried: password"}},
		{"NumberOfPasswordPrompts 0", 0, []string{"tried: nothing"}},
		{"BatchMode yes", 0, []string{"tried: nothing", "BatchMode in ssh_config"}},
		{"PasswordAuthentication no", 0, []string{"the server takes password, which ssh_config switches off", "PasswordAuthentication"}},
		{"PreferredAuthentications publickey", 0, []string{"the server takes password, which ssh_config switches off", "PreferredAuthentications"}},
	} {
		n := 0
		wantError(t, refuse(t, ask(&n, "wrong", c.config), addr), sshx.KindLoginRefused, c.words...)
		if n != c.asked {
			t.Errorf("%s: asked %d times, want %d", c.config, n, c.asked)
		}
	}
	d := ask(new(int), "wrong", "BatchMode yes", "IdentityFile "+keygen(t, filepath.Join(t.TempDir(), "locked"), "ed25519", "secret", "-m", "PEM"))
	s := newSSHD(t, "PasswordAuthentication yes", "KbdInteractiveAuthentication yes")
	s.authorize(t, strings.Fields(read(t, d.ConfigFile))[3])
	wantError(t, refuse(t, d, s.addr()), sshx.KindEncryptedKey, "BatchMode in ssh_config", "ssh-add")
	// A server that takes both: the preferred one goes first.
	n := 0
	d = s.login(t, "IdentityFile "+s.key, "PreferredAuthentications password,publickey", "NumberOfPasswordPrompts 2")
	d.Prompt = func(context.Context, sshx.Prompt) (string, error) { n++; return "wrong", nil }
	dial(t, d, s.addr())
	if n != 2 {
		t.Errorf("asked %d times", n)
	}
	d = s.login(t, "IdentityFile "+s.key, "PubkeyAuthentication no", "BatchMode yes")
	wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "tried: nothing")
	// One that has nothing to ask by keyboard-interactive still takes passwords.
	n = 0
	d = s.login(t, "IdentityFile none", "NumberOfPasswordPrompts 2")
	d.Prompt = func(context.Context, sshx.Prompt) (string, error) { n++; return "wrong", nil }
	wantError(t, refuse(t, d, s.addr()), sshx.KindLoginRefused, "tried: keyboard-interactive, password, password)")
	if n != 2 {
		t.Errorf("asked %d times", n)
	}
	// What was taken already is not what is wrong.
	both := newSSHD(t, "PasswordAuthentication yes", "AuthenticationMethods publickey,password")
	wantError(t, refuse(t, both.client(t), both.addr()), sshx.KindLoginRefused, "the server took publickey and wants more: password")
}

// TestBind: the server sees the address that we connect from.
func TestBind(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	dial(t, s.client(t, "BindAddress 127.0.0.42"), s.addr())
	s.log.waitFor(t, "Connection from 127.0.0.42 ", 1)
	dial(t, s.client(t, "BindInterface lo", "AddressFamily inet", "TCPKeepAlive no"), s.addr())
	for config, words := range map[string][]string{
		"BindAddress 192.0.2.77":  {"BindAddress 192.0.2.77", "cannot assign"},
		"BindAddress ::1":         {"BindAddress ::1", "another family"},
		"BindInterface nosuchnic": {"BindInterface nosuchnic", "no such network interface"},
	} {
		wantError(t, refuse(t, s.client(t, config), s.addr()), sshx.KindUnreachable, append(words, "ssh_config")...)
	}
	wantError(t, refuse(t, s.client(t, "AddressFamily inet6"), s.addr()), sshx.KindUnreachable, "no address of the family inet6", "AddressFamily")
}

// TestConnectionAttempts: a server that is not there yet is tried again.
func TestConnectionAttempts(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	e := resolve(t, s.client(t, "ConnectionAttempts 3"), s.addr())
	tries := 0
	d := s.client(t, "ConnectionAttempts 3")
	e.DialTCP = dialling(&tries, 2)
	c, err := d.DialEndpoint(within(t, testTime), e)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if tries != 3 {
		t.Errorf("%d tries", tries)
	}
	e.ConnectionAttempts, tries = 2, 0
	if _, err = d.DialEndpoint(within(t, testTime), e); sshx.KindOf(err) != sshx.KindRefused || tries != 2 {
		t.Errorf("%d tries: %v", tries, err)
	}
}

// TestProgramsAndLibraries: what would run a program or load a library is in the way only where something depends on it.
func TestProgramsAndLibraries(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	ran := filepath.Join(t.TempDir(), "ran")
	command := "KnownHostsCommand /usr/bin/touch " + ran
	library := []string{"PKCS11Provider /usr/lib/opensc.so", "SecurityKeyProvider /usr/lib/sk.so"}
	dial(t, s.client(t, append(library, command)...), s.addr())
	for _, strict := range []string{"yes", "no"} { // no: the command may know another key
		d, known := s.knowing(t, "", command, "StrictHostKeyChecking "+strict)
		wantError(t, refuse(t, d, s.addr()), sshx.KindUnknownHostKey, "KnownHostsCommand is not supported", "ssh_config:1: ", fingerprint(t, s.hostKey), "known_hosts")
		if _, err := os.Stat(known); err == nil {
			t.Error("the key was added")
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command was run")
	}
	for _, line := range append(library, "SmartcardDevice /usr/lib/x.so") {
		wantError(t, refuse(t, s.login(t, "IdentityFile none", line), s.addr()), sshx.KindLoginRefused, strings.Fields(line)[0], "loads a library", "agent")
	}
	wantError(t, refuse(t, s.login(t, "IdentityFile none", "ControlPath ~/.ssh/%C"), s.addr()), sshx.KindLoginRefused, "ControlPath")
	for _, line := range []string{"PKCS11Provider none", "SecurityKeyProvider internal"} {
		wantError(t, refuse(t, s.login(t, "IdentityFile none", line), s.addr()), sshx.KindLoginRefused, "authorized_keys")
	}
}

// TestRevokedHostKeys: of every file, ssh and sshx agree on which host key is taken.
func TestRevokedHostKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := keygen(t, filepath.Join(dir, "ca"), "ed25519", ""), keygen(t, filepath.Join(dir, "other"), "ed25519", "")
	key := keygen(t, filepath.Join(dir, "host"), "ed25519", "")
	run(t, "ssh-keygen", "-q", "-s", ca, "-I", "the host", "-h", "-z", "1000", "-n", "127.0.0.1", key+".pub")
	plain, certified := newSSHD(t, "MaxStartups 100", "HostKey "+key), newSSHD(t, "MaxStartups 100", "HostKey "+key, "HostCertificate "+key+"-cert.pub")
	files := map[string]string{"nowhere": filepath.Join(dir, "nowhere"), "a directory": dir}
	text := func(name, content string) {
		files[name] = write(t, filepath.Join(dir, "text"+fmt.Sprint(len(files))), content)
	}
	text("empty", "")
	text("other keys", "# a comment\n\n"+read(t, other+".pub"))
	text("the key", read(t, other+".pub")+read(t, key+".pub"))
	text("the authority", read(t, ca+".pub"))
	text("the certificate", read(t, key+"-cert.pub"))
	text("nonsense", "nonsense\n")
	text("cut KRL", "SSHKRL\n\x00\x00\x00")
	list := func(name, spec string, args ...string) {
		file := filepath.Join(dir, "krl"+fmt.Sprint(len(files)))
		run(t, "ssh-keygen", append([]string{"-q", "-k", "-f", file}, append(args, write(t, file+".spec", spec))...)...)
		files["KRL: "+name] = file
	}
	list("nothing", "")
	list("key", "key: "+read(t, key+".pub"))
	list("sha1", "sha1: "+read(t, key+".pub"))
	list("sha256", "sha256: "+read(t, key+".pub"))
	list("hash", "hash: "+fingerprint(t, key)+"\n")
	list("other", "key: "+read(t, other+".pub")+"sha256: "+read(t, other+".pub"))
	list("authority", "key: "+read(t, ca+".pub"))
	list("serial", "serial: 1000\n", "-s", ca+".pub")
	list("serials", "serial: 1-10\nserial: 900-1100\n", "-s", ca+".pub")
	list("bitmap", "serial: 990\nserial: 993\nserial: 1000\nserial: 1003\nserial: 1005\nserial: 1009\n", "-s", ca+".pub")
	list("not in bitmap", "serial: 990\nserial: 993\nserial: 999\nserial: 1003\nserial: 1005\nserial: 1009\n", "-s", ca+".pub")
	list("any authority", "serial: 1000\n", "-s", "none")
	list("other authority", "serial: 1000\n", "-s", other+".pub")
	list("ID", "id: the host\n", "-s", ca+".pub")
	list("other ID", "id: another host\n", "-s", ca+".pub")
	var compare []func()
	for name, file := range files {
		for i, s := range []*sshd{plain, certified} {
			if s == plain && regexp.MustCompile("serial|bitmap|authority|ID").MatchString(name) {
				continue // about certificates
			}
			known := write(t, filepath.Join(t.TempDir(), "known_hosts"), "@cert-authority 127.0.0.1 "+read(t, ca+".pub")+"127.0.0.1 "+read(t, key+".pub"))
			config := write(t, known+".config", fmt.Sprintf("RevokedHostKeys %s\nIdentityFile none\nUserKnownHostsFile %s\nGlobalKnownHostsFile none\nUser root\nIdentityAgent none\n"+
				"KexAlgorithms curve25519-sha256\nHostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com,ssh-ed25519\nHost target\nHostName 127.0.0.1\nPort %d\n", file, known, s.port))
			compare = append(compare, func() {
				theirs, said := sshTrusts(t, config, "target")
				ours, err := trusts(t, config, "target")
				if ours != theirs {
					t.Errorf("%s, certificate %d: taken %t, ssh has %t: %v\nssh: %s", name, i, ours, theirs, err, said)
				}
				if err != nil {
					wantError(t, err, sshx.KindRevokedHostKey, file)
				}
			})
		}
	}
	some(compare)
}

// krlText writes a list: its sections stand behind the header.
func krlText(sections ...[]byte) []byte {
	text := append([]byte("SSHKRL\n\x00\x00\x00\x00\x01"), make([]byte, 3*8+2*4)...)
	for _, s := range sections {
		text = append(text, s...)
	}
	return text
}

func krlSection(kind byte, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data))), data...)
}

func krlString(s []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// TestKRLIsNotReadInPart: what is not known in a list refuses every key.
func TestKRLIsNotReadInPart(t *testing.T) {
	t.Parallel()
	key := publicKey(t, keygen(t, filepath.Join(t.TempDir(), "k"), "ed25519", "")+".pub")
	extension := func(critical byte) []byte {
		return append(append(krlString([]byte("x@y")), critical), krlString(nil)...)
	}
	signed := append(krlSection(4, key.Marshal()), krlString([]byte("signature"))...)
	sum, sum1 := sha256.Sum256(key.Marshal()), sha1.Sum(key.Marshal())
	for name, c := range map[string]struct {
		text []byte
		word string // "" for a key that is not revoked
	}{
		"empty":              {krlText(), ""},
		"signed":             {krlText(signed), ""},
		"behind a signature": {krlText(signed, krlSection(2, krlString(key.Marshal()))), "REVOKED"},
		"sha256":             {krlText(krlSection(5, krlString(sum[:]))), "REVOKED"},
		"sha1":               {krlText(krlSection(3, krlString(sum1[:]))), "REVOKED"},
		"unknown section":    {krlText(krlSection(9, nil)), "unknown kind 9"},
		"extension":          {krlText(krlSection(255, extension(0))), ""},
		"critical extension": {krlText(krlSection(255, extension(1))), "x@y"},
		"certificates":       {krlText(krlSection(1, append(make([]byte, 8), krlSection(0x77, nil)...))), "unknown kind 119"},
		"cut":                {krlText(krlSection(2, krlString(key.Marshal())[:20])), "too early"},
		"version":            {append([]byte("SSHKRL\n\x00\x00\x00\x00\x02"), make([]byte, 32)...), "version 2"},
	} {
		file := write(t, filepath.Join(t.TempDir(), "krl"), string(c.text))
		switch err := sshx.Revoked(file, key); {
		case c.word == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.word != "":
			wantError(t, err, sshx.KindRevokedHostKey, c.word, file)
		}
	}
}

func publicKey(t testing.TB, file string) ssh.PublicKey {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(read(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// FuzzRevoked: no file makes reading it fail other than by an error, and one that lets the key in no longer does with the
// key behind it.
func FuzzRevoked(f *testing.F) {
	key := publicKey(f, keygen(f, filepath.Join(f.TempDir(), "k"), "ed25519", "")+".pub")
	for _, text := range [][]byte{nil, []byte("# x\n"), krlText(), krlText(krlSection(2, krlString([]byte("key")))), krlText(krlSection(1, append(make([]byte, 8), krlSection(0x22, append(make([]byte, 8), krlString([]byte{1})...))...)))} {
		f.Add(text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(dir, "revoked")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := sshx.Revoked(name, key); err != nil {
			printable(t, strings.ReplaceAll(err.Error(), name, ""))
			return
		}
		var with []byte
		if strings.HasPrefix(string(text), "SSHKRL\n\x00") {
			with = append(text, krlSection(2, krlString(key.Marshal()))...)
		} else {
			with = append(append(text, '\n'), ssh.MarshalAuthorizedKey(key)...)
		}
		if err := os.WriteFile(name, with, 0o600); err != nil {
			t.Fatal(err)
		}
		if sshx.Revoked(name, key) == nil {
			t.Errorf("%q lets the key in", with)
		}
	})
}

// dialling refuses so many connections.
func dialling(tries *int, refused int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if *tries++; *tries <= refused {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}
