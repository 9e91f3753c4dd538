package sshx_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/sshx"
)

// documented gives the rows of docs/ssh_config.md: what becomes of a keyword, by its name in lower case.
func documented(t *testing.T) map[string]string {
	t.Helper()
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| (`.*) \\| ([a-z ]+) \\|.*\\|$").FindAllStringSubmatch(read(t, "../docs/ssh_config.md"), -1) {
		for _, name := range regexp.MustCompile("`([A-Za-z0-9]+)`").FindAllStringSubmatch(m[1], -1) {
			rows[strings.ToLower(name[1])] = m[2]
		}
	}
	return rows
}

// TestKeywordTable: the table in the docs has a row for every keyword that is known here, with what becomes of it; and
// every keyword that the machine's ssh and its manual page have is known.
func TestKeywordTable(t *testing.T) {
	t.Parallel()
	known, rows := sshx.Treatments(), documented(t)
	for name, what := range known {
		if rows[name] != what {
			t.Errorf("%s is %q, and %q in docs/ssh_config.md", name, what, rows[name])
		}
	}
	for name := range rows {
		if _, ok := known[sshx.CanonicalKeyword(name)]; !ok {
			t.Errorf("%s is in docs/ssh_config.md only", name)
		}
	}
	theirs := []string{}
	for name := range sshG(t, "none", "host") {
		theirs = append(theirs, name)
	}
	theirs = append(theirs, manual(t)...)
	if len(theirs) < 60 {
		t.Errorf("ssh has %d keywords", len(theirs))
	}
	for _, name := range theirs {
		if _, ok := known[sshx.CanonicalKeyword(name)]; !ok {
			t.Errorf("%s is a keyword of ssh that is not known", name)
		}
	}
}

// manual gives the keywords of ssh_config(5), where it is installed.
func manual(t *testing.T) (names []string) {
	t.Helper()
	f, err := os.Open("/usr/share/man/man5/ssh_config.5.gz")
	if err != nil {
		t.Log("no manual page: ", err)
		return nil
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm ([A-Z]\w+)$`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, strings.ToLower(m[1]))
	}
	return names
}

// TestNotes: what is set and not supported is named once, however many hosts there are, and nothing else is.
func TestNotes(t *testing.T) {
	t.Parallel()
	d := configured(t, "IgnoreUnknown Fancy*\nFancyThing yes\nOddThing yes\nCompression yes\nCheckHostIP no\nVerifyHostKeyDNS ask\nSendEnv LANG LC_*\nForwardX11 yes\n"+
		"GSSAPIAuthentication yes\nHashKnownHosts yes\nControlMaster auto\nControlPath ~/.ssh/%C\nRSAAuthentication yes\nUseRoaming no\nRekeyLimit 1G 1h\nCiphers aes128-ctr,aes999-ctr\n"+
		"Host b\nSetEnv A=b\nIPQoS none\n")
	var w warnings
	d.Warn = w.add
	for _, host := range []string{"a", "b", "c"} {
		resolve(t, d, host)
	}
	all := strings.Join(w.all(), "\n")
	for _, want := range []string{":3: OddThing is not a keyword", ":4: Compression is not supported: ", ":6: VerifyHostKeyDNS is not supported: ", ":15: the time in RekeyLimit is not supported",
		":16: Ciphers: not supported here, and left out: aes999-ctr", ":18: SetEnv is not supported: "} {
		if strings.Count(all, want) != 1 {
			t.Errorf("not once %q in\n%s", want, all)
		}
	}
	if len(w.all()) != 6 {
		t.Errorf("%d notes:\n%s", len(w.all()), all)
	}
}

// randomConfig is a configuration of blocks with settings that may stand there more than once.
func randomConfig(r *rand.Rand) string {
	values := map[string][]string{
		"AddressFamily": {"any", "inet", "inet6", "INET"}, "BindAddress": {"127.0.0.1", "\"::1\""}, "BindInterface": {"eth0", "lo"},
		"ConnectionAttempts": {"1", "3"}, "NumberOfPasswordPrompts": {"1", "5"}, "BatchMode": {"yes", "no"}, "TCPKeepAlive": {"yes", "no"}, "KeepAlive": {"no"},
		"PasswordAuthentication": {"yes", "no"}, "KbdInteractiveAuthentication": {"yes", "no"}, "ChallengeResponseAuthentication": {"no"},
		"PubkeyAuthentication": {"yes", "no"}, "DSAAuthentication": {"no"}, "RequiredRSASize": {"2048", "3072"}, "RekeyLimit": {"1G", "16M none", "default", "500k"},
		"CertificateFile": {"/c/a", "/c/b", "\"/c/c d\""}, "IdentityFile": {"/k/a", "/k/b"}, "RevokedHostKeys": {"/r/a", "/r/b", "none"}, "IdentitiesOnly": {"yes", "no"},
		"PreferredAuthentications": {"publickey", "password,publickey", "gssapi-with-mic,keyboard-interactive"}, "User": {"ann", "bob"}, "Port": {"23", "2222"},
		"HostName": {"%h.internal", "x%%y", "10.0.0.1"}, "StrictHostKeyChecking": {"yes", "no", "accept-new"}, "HostKeyAlias": {"al", "ias"},
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	blocks := []string{"Host a*", "Host *b !ab", "Host ?", "Match host *.internal", "Match originalhost a,b", "Match user ann", "Match all", "Match final host *.internal", "Match final all",
		"Match canonical", "Match !final user bob", "Host *.internal"}
	var b strings.Builder
	for range 1 + r.IntN(7) {
		if b.Len() > 0 || r.IntN(2) == 0 {
			b.WriteString(blocks[r.IntN(len(blocks))] + "\n")
		}
		for range 1 + r.IntN(8) {
			name := names[r.IntN(len(names))]
			fmt.Fprintf(&b, "\t%s %s\n", name, values[name][r.IntN(len(values[name]))])
		}
	}
	return b.String()
}

// TestSettingsLikeSSH: whatever stands in a configuration, ssh -G and Resolve have the same of it.
func TestSettingsLikeSSH(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 40 {
		text := randomConfig(r)
		d := configured(t, text)
		for _, target := range []string{"a", "ab", "cb"} {
			e, theirs := resolve(t, d, target), sshG(t, d.ConfigFile, target)
			for key, got := range settingsOf(e) {
				want := strings.Join(theirs[key], " ")
				if got != canonicalValue(key, want) {
					t.Fatalf("seed %d, %s: %s is %q, ssh has %q\n%s", seed, target, key, got, want, text)
				}
			}
		}
	}
}

// settingsOf writes an endpoint as ssh -G does.
func settingsOf(e sshx.Endpoint) map[string]string {
	family, rekey := e.AddressFamily, "0 0"
	if family == "" {
		family = "any"
	}
	if e.RekeyBytes != 0 {
		rekey = fmt.Sprint(e.RekeyBytes) + " 0"
	}
	return map[string]string{
		"addressfamily": family, "bindaddress": e.BindAddress, "bindinterface": e.BindInterface, "connectionattempts": fmt.Sprint(e.ConnectionAttempts),
		"numberofpasswordprompts": fmt.Sprint(e.PasswordPrompts), "batchmode": yesNo(e.NoPrompt), "tcpkeepalive": yesNo(!e.NoTCPKeepAlive),
		"rekeylimit": rekey, "certificatefile": strings.Join(e.Certificates, " "), "identityfile": strings.Join(e.Identities, " "), "revokedhostkeys": e.RevokedHostKeys,
		"identitiesonly": yesNo(e.IdentitiesOnly), "user": e.User, "port": fmt.Sprint(e.Port), "hostname": e.Host, "hostkeyalias": e.HostKeyAlias,
	}
}

// canonicalValue gives what ssh -G prints in the form of settingsOf.
func canonicalValue(key, value string) string {
	if key == "identityfile" && strings.HasPrefix(value, "~") {
		return "" // its defaults
	}
	return value
}

// TestMethodsLikeSSH: which ways to log in there are, and in which order.
func TestMethodsLikeSSH(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "publickey keyboard-interactive password",
		"PreferredAuthentications password,gssapi-with-mic,publickey":  "password publickey",
		"PasswordAuthentication no":                                    "publickey keyboard-interactive",
		"ChallengeResponseAuthentication no\nPubkeyAuthentication no":  "password",
		"PubkeyAuthentication unbound":                                 "publickey keyboard-interactive password",
		"PreferredAuthentications password\nPasswordAuthentication no": "",
	} {
		if got := strings.Join(resolve(t, configured(t, text+"\n"), "h").Methods, " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestAlgorithmsLikeSSH: what +, -, ^ and patterns make of a list is what ssh makes of it.
func TestAlgorithmsLikeSSH(t *testing.T) {
	t.Parallel()
	presets := sshG(t, "none", "h")
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	for key, query := range map[string]string{"ciphers": "cipher", "macs": "mac", "kexalgorithms": "kex", "hostkeyalgorithms": "HostKeyAlgorithms",
		"pubkeyacceptedalgorithms": "PubkeyAcceptedAlgorithms", "casignaturealgorithms": "key-sig"} {
		all := strings.Fields(run(t, "ssh", "-Q", query))
		if key == "casignaturealgorithms" {
			all = slices.DeleteFunc(all, func(s string) bool { return strings.Contains(s, "-cert-") })
		}
		preset := strings.Split(presets[key][0], ",")
		for range 15 {
			sign := []string{"", "+", "-", "^"}[r.IntN(4)]
			var words []string
			for range 1 + r.IntN(3) {
				word := all[r.IntN(len(all))]
				if r.IntN(3) == 0 && (sign == "-" || strings.HasSuffix(query, "Algorithms")) { // else ssh takes no patterns
					word = word[:1+r.IntN(len(word)-1)] + "*"
				}
				words = append(words, word)
			}
			value := sign + strings.Join(words, ",")
			got, missing := sshx.Assemble(preset, all, value)
			if len(got) == 0 {
				continue // an error to ssh
			}
			file := write(t, filepath.Join(t.TempDir(), "config"), key+" "+value+"\n")
			if want := sshG(t, file, "h")[key]; len(want) != 1 || strings.Join(got, ",") != want[0] || len(missing) > 0 {
				t.Errorf("seed %d: %s %s: %s (without %v), ssh has %v", seed, key, value, strings.Join(got, ","), missing, want)
			}
		}
		ours, every := sshx.AlgorithmChoices(key)
		for _, name := range ours {
			if !slices.Contains(every, name) {
				t.Errorf("%s: %s is used by default, and cannot be named", key, name)
			}
		}
	}
	_, err := configured(t, "Ciphers aes999-ctr\n").Resolve("h")
	wantError(t, err, sshx.KindConfig, ":1: ", "aes999-ctr", "no algorithm")
}

// TestTokensLikeSSH: the tokens that may stand in a file name mean what they mean to ssh, which prints the names of the
// identities that it looks for.
func TestTokensLikeSSH(t *testing.T) {
	t.Setenv("SSHX_TOKEN", "env%h")
	const tokens = "/t/%%/%C/%d/%h/%i/%k/%L/%l/%n/%p/%r/%u/${SSHX_TOKEN}"
	for _, more := range []string{"", "HostKeyAlias al\n", "Port 2222\nUser ann\nHostName 127.0.0.9\n"} {
		text := more + "IdentityFile " + tokens + "\nCertificateFile " + tokens + "\nUserKnownHostsFile " + tokens + "\nRevokedHostKeys " + tokens +
			"\nIdentityAgent " + tokens + "\n"
		d := configured(t, text)
		e := resolve(t, d, "h")
		out, _ := command("ssh", "-v", "-F", d.ConfigFile, "-oProxyCommand=false", "h").CombinedOutput()
		m := regexp.MustCompile(`identity file (.*) type -1`).FindStringSubmatch(string(out))
		if m == nil {
			t.Fatalf("ssh -v: %s", out)
		}
		for what, got := range map[string]string{"IdentityFile": e.Identities[0], "CertificateFile": e.Certificates[0], "UserKnownHostsFile": e.KnownHosts[0],
			"RevokedHostKeys": e.RevokedHostKeys, "IdentityAgent": e.Agent} {
			if got != m[1] {
				t.Errorf("%q: %s is\n%s, ssh has\n%s", more, what, got, m[1])
			}
		}
	}
	e := resolve(t, configured(t, "Host a b\nProxyJump none\nHost *\nIdentityFile /t/%j\nProxyJump a,ann@b:3\n"), "h")
	if e.Identities[0] != "/t/b" {
		t.Errorf("%%j is %q", e.Identities[0])
	}
	if e := resolve(t, configured(t, "GlobalKnownHostsFile /t/%h ~/x\n"), "h"); e.KnownHosts[2] != "/t/%h" {
		t.Errorf("GlobalKnownHostsFile %q: ssh has no tokens there", e.KnownHosts)
	}
	for _, text := range []string{"IdentityFile /%f", "UserKnownHostsFile /%K", "RevokedHostKeys /%T", "HostName %p", "ProxyJump %d", "CertificateFile /%H", "IdentityAgent /%t"} {
		_, err := configured(t, text+"\n").Resolve("h")
		wantError(t, err, sshx.KindConfig, ":1: ", "is not known here")
	}
}

// TestOneSenselessHost: what is wrong with one host is an error of that host.
func TestOneSenselessHost(t *testing.T) {
	t.Parallel()
	d := configured(t, "Host bad\nProxyCommand nc %h %p\nHost worse\nAddressFamily ipx\nHost shut\nRefuseConnection moved to new.example\nHost *\nPort 23\n")
	if err := d.ReadConfig(); err != nil {
		t.Fatal(err)
	}
	for host, words := range map[string][]string{"bad": {":2: ", "ProxyCommand is not supported", "--jump"}, "worse": {":4: ", "ipx", "inet6"}, "shut": {":6: ", "moved to new.example"}} {
		_, err := d.Resolve(host)
		wantError(t, err, sshx.KindConfig, words...)
	}
	if e := resolve(t, d, "good"); e.Port != 23 {
		t.Errorf("%+v", e)
	}
	wantError(t, configured(t, "Host \"x\n").ReadConfig(), sshx.KindConfig, ":1: ")
}
