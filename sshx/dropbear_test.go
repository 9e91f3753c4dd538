package sshx_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sshpcap/sshpcap/sshx"
)

// newDropbear starts a dropbear in a mount namespace in which /root is a directory of the test's: it reads authorized_keys
// nowhere else.
func newDropbear(t *testing.T) (addr string, client *sshx.Dialer) {
	t.Helper()
	if _, err := exec.LookPath("dropbear"); err != nil {
		t.Skip("no dropbear")
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace: %s", out)
	}
	dir := t.TempDir()
	run(t, "dropbearkey", "-t", "ed25519", "-f", filepath.Join(dir, "host"))
	key := keygen(t, filepath.Join(dir, "user"), "ed25519", "")
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, ".ssh", "authorized_keys"), read(t, key+".pub"))
	addr = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	l := newLog()
	start(t, l, "unshare", "-m", "sh", "-c", `mount --bind "$1" /root && shift && exec dropbear "$@"`, "sh", home,
		"-F", "-E", "-r", filepath.Join(dir, "host"), "-p", addr, "-P", filepath.Join(dir, "pid"))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("dropbear:\n%s", l)
		}
	})
	l.waitFor(t, "Not backgrounding", 1)
	return addr, &sshx.Dialer{ConfigFile: "none", Login: "root", Identities: []string{key}, InsecureIgnoreHostKey: true}
}

// dropbear answers the end of a session only when the command has ended.
func TestDropbear(t *testing.T) {
	t.Parallel()
	addr, d := newDropbear(t)
	c := dial(t, d, addr)
	if got := output(t, c, "echo hello"); got != "hello\n" {
		t.Errorf("output %q", got)
	}
	other := begin(t, c, "cat")
	p := begin(t, c, "trap '' HUP INT TERM; echo $$; exec sleep 1000")
	killLater(t, p)
	closeWhileReading(t, p)
	if err := p.Wait(); !errors.Is(err, sshx.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
	fmt.Fprintln(other.Stdin, "alive")
	other.Stdin.Close()
	if out, _ := io.ReadAll(other.Stdout); string(out) != "alive\n" {
		t.Errorf("the other session gave %q", out)
	}
}
