package remote

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// bed is an instance: a network namespace in which only lo is up, with users
// of every login shell and a tcpdump that they may run.
type bed struct {
	ns      string
	dir     string // users may enter it
	capable string // tcpdump with the capability to capture
	key     ssh.Signer
	users   map[string]string // of login shells
	logins  []string          // the shells' names
}

func newBed(t *testing.T, shells ...string) *bed {
	t.Helper()
	needRoot(t)
	need(t, "ip", "tcpdump", "useradd", "usermod", "userdel", "setcap", "busybox")
	b := &bed{dir: openDir(t), ns: fmt.Sprintf("sprt%d-%d", os.Getpid(), beds()), users: map[string]string{}}
	b.namespace(t)
	b.capable = filepath.Join(b.dir, "tcpdump")
	do(t, "cp", where(t, "tcpdump"), b.capable)
	do(t, "setcap", "cap_net_raw,cap_net_admin=ep", b.capable)
	b.makeKey(t)
	do(t, "ln", "-s", where(t, "busybox"), filepath.Join(b.dir, "ash"))
	for _, sh := range shells {
		b.addUser(t, sh)
	}
	return b
}

var bedCount int
var bedLock sync.Mutex

func beds() int {
	bedLock.Lock()
	defer bedLock.Unlock()
	bedCount++
	return bedCount
}

func (b *bed) namespace(t *testing.T) {
	do(t, "ip", "netns", "add", b.ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", b.ns).Run() })
	do(t, "ip", "-n", b.ns, "link", "set", "lo", "up")
}

// addUser makes a user with the login shell, if it is installed.
func (b *bed) addUser(t *testing.T, sh string) {
	path := filepath.Join(b.dir, "ash")
	if sh != "ash" {
		var err error
		if path, err = exec.LookPath(sh); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			return
		}
	}
	name := fmt.Sprintf("%s-%s", b.ns, sh)
	t.Cleanup(func() { retry("userdel", name) })
	if out, err := retry("useradd", "-M", "-N", "-d", b.dir, "-s", path, "-p", "*", name); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	b.users[sh] = name
	b.logins = append(b.logins, sh)
}

// retry runs a program that may find the password file locked.
func retry(name string, args ...string) (out []byte, err error) {
	for range 50 {
		if out, err = exec.Command(name, args...).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("lock")) {
			return out, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return out, err
}

// sudoers gives a user a rule of sudo's.
func (b *bed) sudoers(t *testing.T, rules string) {
	t.Helper()
	need(t, "sudo")
	path := "/etc/sudoers.d/" + b.ns
	t.Cleanup(func() { os.Remove(path) })
	if err := os.WriteFile(path, []byte(rules+"\n"), 0o440); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) makeKey(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if b.key, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	authorized := ssh.MarshalAuthorizedKey(b.key.PublicKey())
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(b.dir, ".ssh") // dropbear looks there
	for path, content := range map[string][]byte{
		filepath.Join(b.dir, "host_key"): pem.EncodeToMemory(block),
		filepath.Join(b.dir, "keys"):     authorized,
	} {
		mode := os.FileMode(0o600)
		if strings.HasSuffix(path, "keys") {
			mode = 0o644
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "authorized_keys"), authorized, 0o644); err != nil {
		t.Fatal(err)
	}
}

// left lists the processes in the namespace except the servers.
func (b *bed) left(servers ...int) func() []string {
	var want unix.Stat_t
	unix.Stat("/run/netns/"+b.ns, &want)
	return func() []string {
		return alive(func(pid int, _ []string) bool {
			for _, s := range servers {
				if pid == s {
					return false
				}
			}
			var st unix.Stat_t
			return unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) == nil && st.Ino == want.Ino
		})
	}
}

// inside calls f on a thread in the namespace.
func (b *bed) inside(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		ns, err := os.Open("/run/netns/" + b.ns)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// server is an SSH server on the instance.
type server struct {
	name string
	pid  int // 0: in this process
	dial func() (net.Conn, error)
}

// listen starts a server program in the namespace and waits until it accepts.
func (b *bed) listen(t *testing.T, name, addr string, args ...string) server {
	t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", b.ns}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %.1500s", name, log.String())
		}
	})
	s := server{name: name, pid: cmd.Process.Pid}
	s.dial = func() (c net.Conn, err error) {
		b.inside(t, func() error { c, err = net.Dial("tcp", addr); return nil })
		return c, err
	}
	waitFor(t, 10*time.Second, func() []string {
		c, err := s.dial()
		if err != nil {
			return []string{err.Error()}
		}
		c.Close()
		return nil
	})
	return s
}

func (b *bed) openssh(t *testing.T, addr string) server {
	need(t, "sshd")
	os.MkdirAll("/run/sshd", 0o755)
	host, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(b.dir, "sshd_config"+port)
	text := fmt.Sprintf("ListenAddress [%s]:%s\nHostKey %s/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"+
		"AuthorizedKeysFile %s/keys\nMaxStartups 100\nMaxSessions 100\nPrintMotd no\nPrintLastLog no\nUseDNS no\n", host, port, b.dir, b.dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b.listen(t, "openssh", addr, where(t, "sshd"), "-D", "-e", "-f", config)
}

func (b *bed) dropbear(t *testing.T, addr string) server {
	need(t, "dropbear", "dropbearkey")
	args := []string{where(t, "dropbear"), "-F", "-E", "-p", addr}
	for _, kind := range []string{"ed25519", "rsa"} { // without the second it ends at what Go's client offers
		key := filepath.Join(b.dir, "dropbear_"+kind)
		do(t, "dropbearkey", "-t", kind, "-f", key)
		args = append(args, "-r", key)
	}
	return b.listen(t, "dropbear", addr, args...)
}

// login opens a connection for the user.
func (b *bed) login(t *testing.T, s server, name string) (*ssh.Client, net.Conn) {
	t.Helper()
	c, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	conn, chans, reqs, err := ssh.NewClientConn(c, "instance", &ssh.ClientConfig{
		User: name, Auth: []ssh.AuthMethod{ssh.PublicKeys(b.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatalf("%s: %s: %v", s.name, name, err)
	}
	return ssh.NewClient(conn, chans, reqs), c
}

// embedded is a server on golang.org/x/crypto/ssh, of the kind that runs the
// command as the child of a process and tells it nothing of the connection.
func (b *bed) embedded(t *testing.T) server {
	need(t, "setpriv")
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(b.key)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.serve(c, config) })
		}
	})
	return server{name: "x/crypto", dial: func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }}
}

func (b *bed) serve(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	conn, chans, reqs, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { ssh.DiscardRequests(reqs) })
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			for r := range reqs {
				if r.Type == "exec" && len(r.Payload) > 4 {
					line := string(r.Payload[4:])
					wg.Go(func() { b.exec(ch, conn.User(), line) })
				}
				r.Reply(r.Type == "exec", nil)
			}
		})
	}
}

// asRoot in front of a user's name is root with that user's login shell, on the embedded server.
const asRoot = "root-as-"

func (b *bed) exec(ch ssh.Channel, name, line string) {
	defer ch.Close()
	name, root := strings.CutPrefix(name, asRoot)
	u, err := user.Lookup(name)
	if err != nil {
		return
	}
	if root {
		u.Uid = "0"
	}
	entry := strings.Split(string(bytes.TrimSpace(output("getent", "passwd", name))), ":")
	cmd := exec.Command("ip", "netns", "exec", b.ns, "setpriv", "--reuid", u.Uid, "--regid", u.Gid, "--clear-groups", "--",
		entry[len(entry)-1], "-c", line)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + b.dir}
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return
	}
	if cmd.Start() != nil {
		return
	}
	go func() { io.Copy(stdin, ch); stdin.Close() }()
	cmd.Wait()
	ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(cmd.ProcessState.ExitCode())}))
}

func where(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func do(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v %s", name, args, err, out)
	}
}

func output(name string, args ...string) []byte {
	out, _ := exec.Command(name, args...).Output()
	return out
}
