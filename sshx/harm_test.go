package sshx_test

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/sshx"
)

// harmless checks that a server never had reason to defend itself. Whoever takes more than it gives others away is
// thrown out by newer ones for a while (PerSourcePenalties, from OpenSSH 9.8 on): so older ones must not drop or refuse
// anything either, but what a test expects.
func (s *sshd) harmless(t *testing.T, but ...string) {
	t.Helper()
	if out, err := exec.Command("/usr/sbin/sshd", "-T", "-f", filepath.Join(s.dir, "config")).Output(); err != nil || !strings.Contains(string(out), "persourcepenalties") {
		t.Log("this sshd has no PerSourcePenalties: its log reports whether it would have had a reason")
	}
	for _, words := range []string{"beginning MaxStartups throttling", "drop connection", "penalty", "Timeout before authentication",
		"Failed publickey", "Invalid user", "Too many authentication failures", "no more sessions"} {
		if n := s.log.count(words); n > 0 && !slices.Contains(but, words) {
			t.Errorf("%d times %q in the server's log", n, words)
		}
	}
}

// alone gives an endpoint that shares its connection with nobody, as those behind Cloud Foundry's proxy.
func alone(t *testing.T, d *sshx.Dialer, target string) sshx.Endpoint {
	t.Helper()
	e, err := d.Resolve(target)
	if err != nil {
		t.Fatal(err)
	}
	e.NoShare = true
	return e
}

// everybody dials n times at once and returns the connections that came about.
func everybody(t *testing.T, d *sshx.Dialer, n int, e sshx.Endpoint) (conns []*sshx.Conn) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			c, err := d.DialEndpoint(within(t, 3*time.Minute), e)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, c)
		})
	}
	all.Wait()
	return conns
}

func closeAll(conns []*sshx.Conn) {
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(func() { c.Close() })
	}
	all.Wait()
}

// 200 logins at a server as it comes from the package.
func TestManyLogins(t *testing.T) {
	t.Parallel()
	const n = 200
	s := newSSHD(t)
	d := s.client(t)
	begin := time.Now()
	conns := everybody(t, d, n, alone(t, d, s.addr()))
	t.Logf("%d logins in %v", n, time.Since(begin))
	closeAll(conns)
	s.log.exactly(t, "Accepted publickey", n)
	s.harmless(t)
}

// An agent with many keys, of which the last one is right: the server counts each other one that is offered as a
// failure. Only those who log in first have to find that out.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	const n, wrong = 60, 5 // MaxAuthTries is 6
	s := newSSHD(t)
	var keys []string
	for i := range wrong {
		keys = append(keys, keygen(t, filepath.Join(s.dir, fmt.Sprint("wrong", i)), "ed25519", ""))
	}
	d := s.login(t, "Host 127.0.0.1", "IdentityAgent "+startAgent(t, append(keys, s.key)...), "IdentityFile none")
	conns := everybody(t, d, n, alone(t, d, s.addr()))
	closeAll(conns)
	s.log.exactly(t, "Accepted publickey", n)
	if got := s.log.count("Failed publickey"); got > 2*wrong*8 {
		t.Errorf("%d keys were offered in vain", got)
	}
	s.harmless(t, "Failed publickey")
}

// many is a server at n addresses of this machine, for a client that knows it.
func many(t *testing.T, n int, server *sshserver.Server) (endpoints []sshx.Endpoint) {
	t.Helper()
	server.Address = "0.0.0.0:0"
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	_, text, _ := net.SplitHostPort(server.Addr())
	port, _ := strconv.Atoi(text)
	for i := range n {
		endpoints = append(endpoints, sshx.Endpoint{
			Host: fmt.Sprintf("127.0.%d.%d", 1+i/200, 1+i%200), Port: port, User: "u",
			HostKeyCallback: ssh.FixedHostKey(server.PublicKey()), ConnectTimeout: time.Minute,
		})
	}
	return endpoints
}

// dialAll dials all endpoints at once.
func dialAll(t *testing.T, d *sshx.Dialer, endpoints []sshx.Endpoint) (conns []*sshx.Conn) {
	t.Helper()
	conns = make([]*sshx.Conn, len(endpoints))
	var all sync.WaitGroup
	for i, e := range endpoints {
		all.Go(func() {
			var err error
			if conns[i], err = d.DialEndpoint(within(t, time.Minute), e); err != nil {
				t.Errorf("%s: %v", e.Host, err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

// Hundreds ask the agent at once: its queue is shorter than that.
func TestManyAskTheAgent(t *testing.T) {
	t.Parallel()
	key := keygen(t, filepath.Join(t.TempDir(), "key"), "ed25519", "")
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(read(t, key+".pub")))
	if err != nil {
		t.Fatal(err)
	}
	endpoints, sock := many(t, 400, &sshserver.Server{AuthorizedKeys: []ssh.PublicKey{public}}), startAgent(t, key)
	for i := range endpoints {
		endpoints[i].Agent = sock
	}
	closeAll(dialAll(t, new(sshx.Dialer), endpoints))
}

// 200 hosts behind a jump host as it comes from the package, which allows ten sessions: what it connects on is none.
func TestManyBehindJump(t *testing.T) {
	t.Parallel()
	const n = 200
	jump := newSSHD(t)
	d := jump.client(t)
	bastion, err := d.Resolve(jump.addr())
	if err != nil {
		t.Fatal(err)
	}
	endpoints := many(t, n, &sshserver.Server{Handler: func(s *sshserver.Session) int {
		fmt.Fprintln(s.Stdout, s.LocalAddr)
		return 0
	}})
	for i := range endpoints {
		endpoints[i].Jumps = []sshx.Endpoint{bastion}
	}
	conns := dialAll(t, d, endpoints)
	for i, c := range conns {
		if got, want := output(t, c, "x"), endpoints[i].Host; !strings.HasPrefix(got, want+":") {
			t.Errorf("%s is %s", want, got)
		}
	}
	closeAll(conns)
	jump.log.exactly(t, "Accepted publickey", 1)
	jump.harmless(t)
}

// drip says a byte a second, and never who it is.
func drip(c net.Conn) {
	for tick := time.NewTicker(time.Second); ; <-tick.C {
		if _, err := c.Write([]byte("x")); err != nil {
			return
		}
	}
}

// Servers that say nothing, or as good as nothing, hold nobody up, and are told of when the time is up, however many
// wait for the same one.
func TestTarpits(t *testing.T) {
	t.Parallel()
	const patience = 4 * time.Second
	endpoints := many(t, 40, &sshserver.Server{})
	begin := time.Now()
	closeAll(dialAll(t, new(sshx.Dialer), endpoints))
	without := time.Since(begin)

	d := &sshx.Dialer{ConnectTimeout: patience}
	var waiting sync.WaitGroup
	begin = time.Now()
	for _, tarpit := range []string{listen(t, silent), listen(t, drip)} {
		host, port, _ := net.SplitHostPort(tarpit)
		number, _ := strconv.Atoi(port)
		e := sshx.Endpoint{Host: host, Port: number, User: "u", HostKeyCallback: ssh.InsecureIgnoreHostKey()}
		for range 50 {
			waiting.Go(func() {
				_, err := d.DialEndpoint(within(t, time.Minute), e)
				took := time.Since(begin)
				if sshx.KindOf(err) != sshx.KindTimeout || took < patience || took > 3*patience {
					t.Errorf("after %v: %v", took, err)
				}
			})
		}
	}
	closeAll(dialAll(t, d, endpoints))
	if with := time.Since(begin); with > 2*without+patience/2 {
		t.Errorf("%d logins took %v beside tarpits, and %v alone", len(endpoints), with, without)
	}
	waiting.Wait()
}
