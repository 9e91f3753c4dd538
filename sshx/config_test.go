package sshx_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/sshx"
)

func configured(t *testing.T, text string) *sshx.Dialer {
	t.Helper()
	return &sshx.Dialer{ConfigFile: write(t, filepath.Join(t.TempDir(), "ssh_config"), text)}
}

func resolve(t *testing.T, d *sshx.Dialer, target string) sshx.Endpoint {
	t.Helper()
	e, err := d.Resolve(target)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	return e
}

// What Resolve says must be what the machine's ssh says of the same file.
func TestResolveLikeSSH(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "included"), "Host inc*\n  Port 2200\n  User included\nUser never\n")
	text := `# comment
port=2001
  HostKeyAlias  shared
Host web*.example !web9.example
	HostName %h.internal
	User "deploy"
	IdentityFile ~/.ssh/id_%h_%r # a comment
	IdentityFile "/with space/k#1" # another
	IdentityFile %d/keys/b
	UserKnownHostsFile ~/a "/b c" /d
	StrictHostKeyChecking accept-new
	ConnectTimeout 1m
	ServerAliveInterval 20
	ServerAliveCountMax 7
Host db?
	Port 2002
	IdentitiesOnly yes
	IdentityFile /k/${SSHX_TEST}/%p-%n-%u
Include ` + dir + `/inclu*
Match originalhost m1,m2 user root
	User nope
Match host *.internal
	ServerAliveCountMax 9
Match host m3 !user root
	HostName m3.matched
Match all
	HashKnownHosts yes
Host *
	User fallback
	StrictHostKeyChecking no
	IdentityFile /last
`
	t.Setenv("SSHX_TEST", "env")
	d := configured(t, text)
	for _, target := range []string{"web1.example", "web9.example", "db1", "db", "db12", "inc1", "m1", "m2", "m3", "other", "Other.example"} {
		e := resolve(t, d, target)
		ssh := sshG(t, d.ConfigFile, target)
		for key, got := range map[string]string{
			"hostname": e.Host, "port": fmt.Sprint(e.Port), "user": e.User,
			"hostkeyalias":        e.HostKeyAlias,
			"identityfile":        strings.Join(e.Identities, " "),
			"identitiesonly":      yesNo(e.IdentitiesOnly),
			"hashknownhosts":      yesNo(e.HashKnownHosts),
			"connecttimeout":      orNone(e.ConnectTimeout),
			"serveraliveinterval": fmt.Sprint(int(e.KeepAlive.Seconds())),
		} {
			want := strings.Join(ssh[key], " ")
			switch key {
			case "identityfile":
				want = strings.ReplaceAll(expand(t, want, e, target, home), "~/", home+"/")
			case "hostname":
				want = strings.ToLower(want)
				got = strings.ToLower(got)
			}
			if got != want {
				t.Errorf("%s: %s is %q, ssh has %q", target, key, got, want)
			}
		}
	}
	e := resolve(t, d, "web1.example")
	if want := []string{home + "/a", "/b c", "/d"}; fmt.Sprint(e.KnownHosts[:3]) != fmt.Sprint(want) {
		t.Errorf("UserKnownHostsFile %q", e.KnownHosts)
	}
	if e.StrictHostKey != sshx.StrictAcceptNew || e.KeepAliveMax != 7 || e.ConnectTimeout != time.Minute {
		t.Errorf("%+v", e)
	}
}

// expand does what ssh -G leaves undone in IdentityFile.
func expand(t *testing.T, s string, e sshx.Endpoint, target, home string) string {
	t.Helper()
	user := strings.TrimSpace(run(t, "id", "-un"))
	return strings.NewReplacer("%h", e.Host, "%r", e.User, "%d", home, "%p", fmt.Sprint(e.Port), "%n", target, "%u", user,
		"${SSHX_TEST}", "env").Replace(s)
}

func yesNo(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

func orNone(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return fmt.Sprint(int(d.Seconds()))
}

func sshG(t *testing.T, file, target string) map[string][]string {
	t.Helper()
	out, err := exec.Command("ssh", "-G", "-F", file, target).Output()
	if err != nil {
		exit, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("ssh -G %s: %v\n%s\n%s", target, err, exit.Stderr, read(t, file))
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[key] = append(found[key], value)
	}
	return found
}

func TestConfigPrecedence(t *testing.T) {
	t.Parallel()
	d := configured(t, "Host web\nUser conf\nPort 2000\nConnectTimeout 3\nIdentityFile /conf\nServerAliveInterval 0\nUserKnownHostsFile none\n")
	e := resolve(t, d, "web")
	if e.User != "conf" || e.Port != 2000 || e.ConnectTimeout != 3*time.Second || e.KeepAlive >= 0 || e.KnownHosts[0] != os.DevNull {
		t.Errorf("%+v", e)
	}
	d.Login, d.Identities, d.ConnectTimeout = "flag", []string{"/flag"}, time.Second
	e = resolve(t, d, "web")
	if e.User != "flag" || e.ConnectTimeout != time.Second || fmt.Sprint(e.Identities) != "[/flag /conf]" {
		t.Errorf("%+v", e)
	}
	e = resolve(t, d, "ssh://me@web:22")
	if e.User != "me" || e.Port != 22 {
		t.Errorf("%+v", e)
	}
	d = &sshx.Dialer{ConfigFile: "none", Jump: "a@b:3,[::1]:4"}
	e = resolve(t, d, "web")
	if len(e.Jumps) != 2 || e.Jumps[0].User != "a" || e.Jumps[0].Port != 3 || e.Jumps[1].Host != "::1" || e.Jumps[1].Port != 4 || e.Port != 22 {
		t.Errorf("%+v", e)
	}
	if len(e.DefaultIdentities) == 0 || len(e.Identities) != 0 {
		t.Errorf("identities %q, %q", e.Identities, e.DefaultIdentities)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for text, words := range map[string][]string{
		"Host web\nPort nope": {":2: ", "nope"},
		"Port 70000":          {":1: "},
		"\n\nHost web\n\tStrictHostKeyChecking eh": {":4: ", "eh"},
		"Host web\nUser":                 {":2: ", "no value"},
		"<html>":                         {":1: ", "<html>"},
		"Host \"web":                     {":1: ", "quote"},
		"ConnectTimeout soon":            {":1: ", "soon"},
		"ServerAliveInterval 5x":         {":1: ", "5x"},
		"ServerAliveCountMax many":       {":1: ", "many"},
		"IdentityFile /a/%z":             {":1: ", "%z"},
		"IdentityFile ${SSHX_NOT_SET}/a": {":1: ", "${SSHX_NOT_SET}"},
		"HostName %n.x":                  {":1: ", "%n"},
		"ProxyCommand nc %h %p":          {":1: ", "ProxyCommand is not supported", "--jump"},
		"Match nonsense x":               {":1: ", "nonsense"},
		"Match host":                     {":1: ", "host"},
		"ProxyJump a:b":                  {":1: ", "a:b"},
	} {
		_, err := configured(t, text).Resolve("web")
		wantError(t, err, sshx.KindConfig, append(words, "ssh_config:")...)
	}
	_, err := (&sshx.Dialer{ConfigFile: "/nonexistent/config"}).Resolve("web")
	wantError(t, err, sshx.KindConfig, "/nonexistent/config", "-F")
	dir := t.TempDir()
	name := filepath.Join(dir, "loop")
	_, err = (&sshx.Dialer{ConfigFile: write(t, name, "Include "+name+"\n")}).Resolve("web")
	wantError(t, err, sshx.KindConfig, name+":1: ", "too deep")
	inner := write(t, filepath.Join(dir, "inner"), "Host x\nPort nope\nHost *\n\nPort bad\n")
	_, err = (&sshx.Dialer{ConfigFile: write(t, filepath.Join(dir, "outer"), "Include "+inner+"\n")}).Resolve("web")
	wantError(t, err, sshx.KindConfig, inner+":5: ")
	// ProxyJump before ProxyCommand, and the other way round.
	if e := resolve(t, configured(t, "ProxyJump j\nProxyCommand nc\nHost j\nProxyJump none"), "web"); len(e.Jumps) != 1 {
		t.Errorf("jumps %v", e.Jumps)
	}
	if e := resolve(t, configured(t, "ProxyCommand none # direct\nPort 3"), "web"); e.Port != 3 {
		t.Errorf("port %d", e.Port)
	}
}

// What a Match block asks for that cannot be checked leaves out the block, not the file.
func TestUnsupportedMatch(t *testing.T) {
	t.Parallel()
	d := configured(t, "Match exec \"touch /nonexistent/x\"\n  User a\n  Port 1\nMatch localnetwork 10.0.0.0/8 host web\n  Port 2\nHost web\n  Port 3\n")
	var w warnings
	d.Warn = w.add
	if e := resolve(t, d, "web"); e.Port != 3 || e.User == "a" {
		t.Errorf("%+v", e)
	}
	resolve(t, d, "web2")
	all := w.all()
	if len(all) != 2 || !strings.Contains(all[0], ":1: ") || !strings.Contains(all[0], "exec") || !strings.Contains(all[1], ":4: ") {
		t.Errorf("warnings %q", all)
	}
}

// The default files are those of ssh, and may both be missing.
func TestDefaultConfig(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	var d sshx.Dialer
	if e := resolve(t, &d, "web"); e.Host != "web" || !strings.HasPrefix(e.KnownHosts[0], home) {
		t.Errorf("%+v", e)
	}
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, ".ssh", "config"), "Include more\nHost web\nHostName web.internal\n")
	write(t, filepath.Join(home, ".ssh", "more"), "Host web\nPort 2022\n")
	var d2 sshx.Dialer
	if e := resolve(t, &d2, "web"); e.Host != "web.internal" || e.Port != 2022 {
		t.Errorf("%+v", e)
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]sshx.Target{
		"web":                         {Host: "web"},
		"web:2022":                    {Host: "web", Port: 2022},
		"me@web":                      {User: "me", Host: "web"},
		"me@corp@web:1":               {User: "me@corp", Host: "web", Port: 1},
		"ssh://me@web:22":             {User: "me", Host: "web", Port: 22},
		"SSH://web/":                  {Host: "web"},
		"ssh://a%40b@web":             {User: "a@b", Host: "web"},
		"[2001:db8::1]:22":            {Host: "2001:db8::1", Port: 22},
		"[fe80::1%eth0]":              {Host: "fe80::1%eth0"},
		"2001:db8::1":                 {Host: "2001:db8::1"},
		"me@[::1]":                    {User: "me", Host: "::1"},
		"cf:c2e0a-1234/0@ssh.cf:2222": {User: "cf:c2e0a-1234/0", Host: "ssh.cf", Port: 2222},
	} {
		got, err := sshx.ParseTarget(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "@web", "web:", "web:0", "web:65536", "web:+1", "web:ssh", "[::1", "[::1]x", "[::1]:", "a:b:c", "-oProxyCommand=x",
		"-x@web", "a b", "web\n", "we\x1bb", "ssh://", "ssh://web/path", "ssh://%zz", "ssh://%0aweb", "me@", ":22", "[]:22", "*", "web;id", "`id`", "$(id)"} {
		got, err := sshx.ParseTarget(s)
		if err == nil {
			t.Errorf("%q is %+v", s, got)
			continue
		}
		wantError(t, err, sshx.KindTarget)
	}
}

// FuzzParseTarget: what is accepted is written back so that it means the same, and is fit to print.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"web", "me@web:22", "ssh://me@[::1]:22/", "2001:db8::1", "ssh://a%40b@c", "[fe80::1%eth0]:1", "a:b:c", "%", "@", "[", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := sshx.ParseTarget(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%q: error %q", s, err)
			}
			return
		}
		if strings.ContainsAny(got.Host+got.User, " \n\r\t\x00\x1b;`\"'") || got.Host == "" || got.Host[0] == '-' {
			t.Errorf("%q is %+v", s, got)
		}
		again, err := sshx.ParseTarget(got.String())
		if err != nil || again != got {
			t.Errorf("%q is %+v, %q is %+v, %v", s, got, got.String(), again, err)
		}
	})
}

// FuzzConfig: no file makes Resolve panic, and every error is one line that names the file.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"Host web\n\tPort 22\n", "Match host a,b !user x\nUser y\n", "=x", "Host \"a b\" c # d\n", "ProxyJump a,b:3\n",
		"IdentityFile \"%d/x\" # y\r\n", "UserKnownHostsFile a \"b c\"\n", "Host !*\n", "\u2063match7 x", "Host \u2063match0\n", "Port = 3 # x"} {
		f.Add(s)
	}
	name := filepath.Join(f.TempDir(), "ssh_config")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(strings.ToLower(s), "include") {
			t.Skip("would read other files")
		}
		if err := os.WriteFile(name, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		d := sshx.Dialer{ConfigFile: name}
		if _, err := d.Resolve("web"); err != nil && strings.ContainsAny(err.Error(), "\n\r\x1b") {
			t.Errorf("%q: %q", s, err)
		}
	})
}
