package sshx_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/sshx"
)

// hosts gives a client with a Host block for each server, and their keys known.
func hosts(t *testing.T, servers map[string]*sshd, config ...string) *sshx.Dialer {
	t.Helper()
	dir := t.TempDir()
	known := ""
	var blocks []string
	for name, s := range servers {
		known += s.knownLine(t)
		blocks = append(blocks, "Host "+name, "HostName 127.0.0.1", fmt.Sprint("Port ", s.port), "IdentityFile "+s.key)
	}
	blocks = append(append(config, blocks...), "Host *", "UserKnownHostsFile "+write(t, filepath.Join(dir, "known_hosts"), known))
	return client(t, dir, blocks...)
}

func TestTwoHops(t *testing.T) {
	t.Parallel()
	a, b, target := newSSHD(t), newSSHD(t), newSSHD(t)
	servers := map[string]*sshd{"a": a, "b": b, "target": target}
	for name, d := range map[string]*sshx.Dialer{
		"several hops":     hosts(t, servers, "Host target", "ProxyJump a,b"),
		"own configs":      hosts(t, servers, "Host target", "ProxyJump b", "Host b", "ProxyJump a"),
		"command line":     hosts(t, servers, "Host target", "ProxyJump nowhere.invalid"),
		"jump matches all": hosts(t, servers, "Host a", "ProxyJump none", "Host b", "ProxyJump a", "Host *", "ProxyJump b"),
	} {
		if name == "command line" {
			d.Jump = "a,b"
		}
		before := a.log.count("Accepted publickey")
		c := dial(t, d, "target")
		// The target sees the last jump host, which is this machine too; each connection is seen by its own server.
		if got := output(t, c, "echo $SSH_CONNECTION"); !strings.HasPrefix(got, "127.0.0.1 ") || !strings.HasSuffix(got, fmt.Sprintf(" %d\n", target.port)) {
			t.Errorf("%s: SSH_CONNECTION %q", name, got)
		}
		if c.RemoteAddr().String() != a.addr() {
			t.Errorf("%s: the first hop is %v", name, c.RemoteAddr())
		}
		a.log.exactly(t, "Accepted publickey", before+1) // the first jump host was used once
		c.Close()
	}
	d := hosts(t, servers, "Host target", "ProxyJump a")
	d.Jump = "none"
	if c := dial(t, d, "target"); c.RemoteAddr().String() != target.addr() {
		t.Errorf("-J none went to %v", c.RemoteAddr())
	}
}

// All targets behind a jump host share its connection, which ends with the last of them.
func TestJumpShared(t *testing.T) {
	t.Parallel()
	jump := newSSHD(t, "MaxStartups 100", "MaxSessions 100")
	targets := map[string]*sshd{"jump": jump}
	var names []string
	for i := range 3 {
		name := fmt.Sprint("t", i)
		targets[name] = newSSHD(t, "MaxStartups 100")
		names = append(names, name)
	}
	d := hosts(t, targets, "Host t*", "ProxyJump jump")
	var conns []*sshx.Conn
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			e, err := d.Resolve(names[i%len(names)])
			if err != nil {
				t.Error(err)
				return
			}
			e.NoShare = true
			c, err := d.DialEndpoint(within(t, testTime), e)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		})
	}
	wg.Wait()
	jump.log.exactly(t, "Accepted publickey", 1)
	for _, c := range conns[1:] {
		c.Close()
	}
	output(t, conns[0], "true")
	if jump.log.count("Connection closed by") != 0 {
		t.Error("the jump host was left early")
	}
	conns[0].Close()
	jump.log.waitFor(t, "Connection closed by", 1, "Connection reset by peer") // by what was still on its way to us
}

func TestJumpErrors(t *testing.T) {
	t.Parallel()
	jump, target := newSSHD(t), newSSHD(t)
	closed := newSSHD(t, "AllowTcpForwarding no")
	servers := map[string]*sshd{"jump": jump, "target": target, "closed": closed}
	silentAddr := listen(t, silent)
	dead := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	_, silentPort, _ := net.SplitHostPort(silentAddr)
	d := hosts(t, servers, "ConnectTimeout 1")
	for name, test := range map[string]struct {
		jump, target string
		kind         sshx.Kind
		words        []string
	}{
		"jump refuses":      {dead, "target", sshx.KindRefused, []string{"jump host 127.0.0.1: connection refused"}},
		"jump unknown":      {"nowhere.invalid", "target", sshx.KindUnknownHost, []string{"jump host nowhere.invalid: "}},
		"no forwarding":     {"closed", "target", sshx.KindJump, []string{"jump host closed: will not connect on", "AllowTcpForwarding"}},
		"target refuses":    {"jump", dead, sshx.KindJump, []string{"jump host jump: cannot reach " + dead + ": Connection refused"}},
		"unknown there":     {"jump", "nowhere.invalid", sshx.KindJump, []string{"jump host jump: cannot reach nowhere.invalid:22"}},
		"silent there":      {"jump", silentAddr, sshx.KindTimeout, []string{"port " + silentPort + " accepted the connection, but said nothing within 1s"}},
		"silent jump":       {silentAddr, "target", sshx.KindTimeout, []string{"jump host 127.0.0.1: port " + silentPort}},
		"second hop":        {"jump," + dead, "target", sshx.KindJump, []string{"jump host jump: cannot reach " + dead}},
		"second hop silent": {"jump," + silentAddr, "target", sshx.KindTimeout, []string{"jump host 127.0.0.1: port " + silentPort}},
		"login at the jump": {"nobody@jump", "target", sshx.KindLoginRefused, []string{"jump host jump: login refused for user nobody"}},
		"bad jump":          {"jump:x", "target", sshx.KindTarget, []string{"jump:x"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &sshx.Dialer{ConfigFile: d.ConfigFile, Jump: test.jump}
			wantError(t, refuse(t, d, test.target), test.kind, test.words...)
		})
	}
}

func TestJumpCircle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := client(t, dir, "Host a", "ProxyJump b", "Host b", "ProxyJump a", "Host c", "ProxyJump c", "Host d", "ProxyJump a,b")
	_, err := d.Resolve("a")
	wantError(t, err, sshx.KindConfig, "circle", "root@a:22 -> root@b:22")
	_, err = d.Resolve("d")
	wantError(t, err, sshx.KindConfig, "circle")
	if e, err := d.Resolve("c"); err != nil || len(e.Jumps) != 0 {
		t.Errorf("a host that is its own jump host: %v, %v", e.Jumps, err)
	}
}

// The jump host dies: what ran through it says so.
func TestJumpLost(t *testing.T) {
	t.Parallel()
	jump, target := newSSHD(t), newSSHD(t)
	d := hosts(t, map[string]*sshd{"jump": jump, "target": target}, "Host target", "ProxyJump jump")
	direct := dial(t, d, "jump")
	p := begin(t, direct, "echo $PPID; exec cat")
	pid := killLater(t, p)
	c := dial(t, d, "target") // shares the connection to the jump host
	jump.log.exactly(t, "Accepted publickey", 1)
	remote := begin(t, c, "cat")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := remote.Wait()
	if !errors.Is(err, sshx.ErrLost) || !strings.Contains(err.Error(), "jump host jump: ") {
		t.Errorf("Wait: %v", err)
	}
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Error("the connection through the dead jump host lives")
	}
	// A new dial makes everything anew.
	c.Close()
	direct.Close()
	output(t, dial(t, d, "target"), "true")
}

// A jump host that stops answering in the middle of a dial through it: the dial ends in time, and all goes away in the end.
func TestJumpHole(t *testing.T) {
	t.Parallel()
	jump, target := newSSHD(t), newSSHD(t)
	hole := make(chan struct{})
	addr := listen(t, func(c net.Conn) { swallow(c, jump.addr(), hole) })
	_, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	known := write(t, filepath.Join(dir, "known_hosts"), fmt.Sprintf("[127.0.0.1]:%s %s", port, read(t, jump.hostKey+".pub"))+target.knownLine(t))
	d := client(t, dir, "IdentityFile "+jump.key, "IdentityFile "+target.key, "UserKnownHostsFile "+known)
	direct := dial(t, d, addr)
	e, err := d.Resolve(target.addr())
	if err != nil {
		t.Fatal(err)
	}
	j, err := d.Resolve(addr)
	if err != nil {
		t.Fatal(err)
	}
	e.Jumps = []sshx.Endpoint{j}
	e.ConnectTimeout = 300 * time.Millisecond
	close(hole)
	_, err = d.DialEndpoint(context.Background(), e)
	wantError(t, err, sshx.KindTimeout, "within 300ms")
	direct.Close()
}
