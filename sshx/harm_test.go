package sshx_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/sshx"
)

// harmless checks that a server never had reason to defend itself. Whoever takes more than it gives others away is
// thrown out by newer ones for a while (PerSourcePenalties, from OpenSSH 9.8 on): so older ones must not drop or refuse
// anything either.
func (s *sshd) harmless(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("/usr/sbin/sshd", "-T", "-f", filepath.Join(s.dir, "config")).Output(); err != nil || !strings.Contains(string(out), "persourcepenalties") {
		t.Log("this sshd has no PerSourcePenalties: its log says whether it would have had a reason")
	}
	for _, words := range []string{"beginning MaxStartups throttling", "drop connection", "penalty", "Timeout before authentication",
		"Failed publickey", "Invalid user", "Too many authentication failures", "no more sessions"} {
		if n := s.log.count(words); n > 0 {
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

var _ = fmt.Sprint
var _ = os.Args
