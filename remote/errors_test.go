package remote

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failed runs a line on this machine by the words before it, with standard
// input kept open, until it ends by itself.
func failed(t *testing.T, line string, before ...string) (*Log, int) {
	t.Helper()
	cmd := exec.Command(before[0], append(before[1:len(before):len(before)], "-c", line)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	log := new(Log)
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(20*time.Second, func() { stdin.Close() })
	defer stop.Stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return log, cmd.ProcessState.ExitCode()
}

// TestRealErrors brings every failure about with the programs themselves.
func TestRealErrors(t *testing.T) {
	t.Parallel()
	needRoot(t)
	need(t, "tcpdump", "dumpcap", "sudo", "setpriv", "chroot", "busybox")
	b := newBed(t, "sh", "bash", "zsh")
	downBed := b.ns + "d"
	do(t, "ip", "netns", "add", downBed)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", downBed).Run() })
	stranger, limited, tty := b.users["sh"], b.users["bash"], b.users["zsh"]
	b.sudoers(t, limited+" ALL=(root) NOPASSWD: /bin/true\n"+limited+" ALL=(nobody) NOPASSWD: ALL\n"+
		"Defaults:"+tty+" requiretty\n"+tty+" ALL=(root) NOPASSWD: ALL")

	root := []string{"sh"}
	as := func(name string) []string {
		return []string{"setpriv", "--reuid", name, "--regid", "65534", "--clear-groups", "--", "sh"}
	}
	down := []string{"ip", "netns", "exec", downBed, "sh"}
	jail := []string{"chroot", b.jail(t), "/bin/sh"}
	poor := []string{"chroot", "--userspec=65534:65534", b.jail(t), "/bin/sh"}

	for _, tt := range []struct {
		name   string
		before []string
		c      Command
		kind   Kind
		words  string
	}{
		{"syntax", root, Command{Interface: "lo", Filter: "tcp port"}, BadFilter, "syntax error"},
		{"dash", root, Command{Interface: "lo", Filter: "-w /tmp/x", NoSelfFilter: true}, BadFilter, "syntax error"},
		{"parentheses", root, Command{Interface: "lo", Filter: "tcp) or (udp"}, BadFilter, "syntax error"},
		{"unknown host", root, Command{Interface: "lo", Filter: "host nope.invalid"}, BadFilter, "unknown host 'nope.invalid'"},
		{"rejects", root, Command{Interface: "lo", Filter: "ip and ip6"}, BadFilter, "rejects all packets"},
		{"link type", root, Command{Interface: "any", Filter: "vlan"}, BadFilter, "no VLAN support"},
		{"wifi", root, Command{Interface: "lo", Filter: "radio[0] == 1"}, BadFilter, "not present"},
		{"link layer", root, Command{Interface: "lo", Filter: "wlan host 1"}, BadFilter, "illegal link layer"},
		{"port", root, Command{Interface: "lo", Filter: "port 99999"}, BadFilter, "illegal port number 99999"},
		{"interface", root, Command{Interface: "nope0"}, NoInterface, "nope0"},
		{"interface's index", root, Command{Interface: "999"}, NoInterface, ""},
		{"down", down, Command{Interface: "lo"}, InterfaceDown, "lo: That device is not up"},
		{"snaplen", root, Command{Interface: "lo", Snaplen: 300000}, BadSnaplen, "300000"},
		{"permission", as("nobody"), Command{Interface: "lo"}, NoPermission, "permission"},
		{"dumpcap: syntax", root, Command{Helper: "dumpcap", Interface: "lo", Filter: "tcp port"}, BadFilter, "filter: syntax error"},
		{"dumpcap: interface", root, Command{Helper: "dumpcap", Interface: "nope0"}, NoInterface, "nope0"},
		{"dumpcap: down", down, Command{Helper: "dumpcap", Interface: "lo"}, InterfaceDown, "lo"},
		{"dumpcap: permission", as("nobody"), Command{Helper: "dumpcap", Interface: "lo"}, NoPermission, "permission"},
		{"no such name", root, Command{Helper: "nosuchdump"}, NoHelper, "no capture program"},
		{"no such path", root, Command{Helper: "/nope/tcpdump"}, NoHelper, "/nope/tcpdump"},
		{"not a program", as("nobody"), Command{Helper: "/etc/passwd"}, NoPermission, ""},
		{"nothing there", jail, Command{}, NoHelper, "no capture program"},
		{"no sudo", poor, Command{Helper: "/bin/busybox", Sudo: true}, NoSudo, ""},
		{"sudo, stranger", as(stranger), Command{Sudo: true}, SudoPassword, ""},
		{"sudo, limited", as(limited), Command{Sudo: true}, SudoPassword, ""},
		{"sudo, tty", as(tty), Command{Sudo: true}, SudoTTY, ""},
		{"sudo, interface", root, Command{Sudo: true, Interface: "nope0"}, NoInterface, ""},
		{"nologin", []string{"/usr/sbin/nologin"}, Command{}, NoShell, "exit status 1"}, // its words go to standard output
		{"false", []string{"false"}, Command{}, NoShell, "without a word"},
		{"restricted", []string{"bash", "-r"}, Command{}, NoShell, "restricted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log, status := failed(t, tt.c.Line(), tt.before...)
			f := log.Failure(status)
			if f == nil || f.Kind != tt.kind || !strings.Contains(f.Problem, tt.words) {
				t.Fatalf("status %d: %+v, want %v with %q; %+v", status, f, tt.kind, tt.words, log.now())
			}
			checkFailure(t, f)
			t.Logf("%s\nhint: %s", f.Problem, f.Tip)
		})
	}
}

// jail is a file system that has a busybox and nothing else.
func (b *bed) jail(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(b.dir, "jail")
	if err != nil {
		t.Fatal(err)
	}
	do(t, "chmod", "755", dir)
	for _, d := range []string{"bin", "dev"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	do(t, "cp", where(t, "busybox"), filepath.Join(dir, "bin/busybox"))
	for _, word := range strings.Fields(string(output("ldd", where(t, "busybox")))) { // nothing where it is static
		if strings.HasPrefix(word, "/") {
			do(t, "cp", "-L", "--parents", word, dir)
		}
	}
	for _, name := range []string{"sh", "id", "sleep", "date"} {
		do(t, "ln", "-s", "busybox", filepath.Join(dir, "bin", name))
	}
	do(t, "mknod", "-m", "666", filepath.Join(dir, "dev/null"), "c", "1", "3")
	return dir
}

// TestInterfaceGone takes the interface away during the capture.
func TestInterfaceGone(t *testing.T) {
	t.Parallel()
	b := newBed(t, "sh")
	for _, helper := range []string{"tcpdump", "dumpcap"} {
		t.Run(helper, func(t *testing.T) {
			need(t, helper)
			do(t, "ip", "-n", b.ns, "link", "add", "gone0", "type", "veth", "peer", "name", "gone1")
			do(t, "ip", "-n", b.ns, "link", "set", "gone0", "up")
			log := new(Log)
			cmd := exec.Command("ip", "netns", "exec", b.ns, "sh", "-c", Command{Helper: helper, Interface: "gone0"}.Line())
			cmd.Stderr = log
			r := begun(t, cmd)
			if _, err := io.ReadFull(r.stdout, make([]byte, 24)); err != nil {
				t.Fatal(err)
			}
			do(t, "ip", "-n", b.ns, "link", "del", "gone0")
			io.Copy(io.Discard, r.stdout)
			cmd.Wait()
			f := log.Failure(cmd.ProcessState.ExitCode())
			if f == nil || f.Kind != InterfaceGone {
				t.Errorf("status %d: %+v; %+v", cmd.ProcessState.ExitCode(), f, log.now())
			}
		})
	}
}
