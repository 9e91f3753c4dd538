package tests

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// endings are what may become of us, or of the way to the hosts, such that nobody can end the helpers any more.
var endings = []struct {
	name   string
	jump   bool
	says   string // what each client says of each host, at once; "" = it cannot, or not so soon
	strike func(t testing.TB, clients []*client, hosts []*bed.Host, bastion *bed.Host)
}{
	{"client killed", false, "", func(_ testing.TB, clients []*client, _ []*bed.Host, _ *bed.Host) {
		for _, c := range clients {
			c.signal(syscall.SIGKILL)
		}
	}},
	{"client stopped", false, "", func(_ testing.TB, clients []*client, _ []*bed.Host, _ *bed.Host) {
		for _, c := range clients {
			c.signal(syscall.SIGSTOP)
		}
	}},
	{"packets vanish, both ways", false, "", func(_ testing.TB, _ []*client, hosts []*bed.Host, _ *bed.Host) {
		for _, h := range hosts {
			h.BlackHole()
		}
	}},
	{"jump host switched off", true, "", func(_ testing.TB, _ []*client, _ []*bed.Host, bastion *bed.Host) {
		bastion.PowerOff()
	}},
	{"jump host's sshd killed", true, "connection lost: jump host bastion: ", func(t testing.TB, _ []*client, _ []*bed.Host, bastion *bed.Host) {
		for _, p := range bastion.Sessions() {
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}},
	{"jump host's sshd stopped", true, "", func(t testing.TB, _ []*client, _ []*bed.Host, bastion *bed.Host) {
		stopSessions(bastion)
	}},
}

// rights are the ways in which a user may capture, by who logs in.
var rights = []struct {
	user string
	args []string
}{
	{"root", nil},
	{bed.Plain, []string{"--sudo", "never"}},
	{bed.Sudoer, []string{"--sudo", "always"}},
}

// TestNoSignOfLife: when no sign of life comes from us any more, every helper ends by itself, on every server, under every
// login shell and with all rights. The servers inside a Go program are tested in remote.
func TestNoSignOfLife(t *testing.T) {
	rows := make(chan row, len(endings))
	t.Run("all", func(t *testing.T) {
		for _, e := range endings {
			t.Run(e.name, func(t *testing.T) {
				t.Parallel()
				bed.Require(t, "nft", "sudo", "ss", "dropbear", "busybox")
				b := bed.New(t, tools...)
				bastion, hosts := matrix(t, b, e.jump)
				clients := onAll(t, b, hosts)
				struck := time.Now()
				e.strike(t, clients, hosts, bastion)
				slowest := untilClean(t, struck, hosts)
				for _, c := range clients {
					if e.says != "" {
						c.exit(patience, 3)
						for _, h := range hosts {
							if said, _ := told(c.stderr.String(), h.Name); !strings.HasPrefix(said, e.says) {
								t.Errorf("it does not say %q of %s: %s", e.says, h.Name, c.stderr.String())
							}
						}
					}
				}
				kinds := fmt.Sprintf("%d hosts, %d captures", len(hosts), len(hosts)*len(rights))
				rows <- row{[]string{e.name, kinds}, []string{rounded(slowest, true)}}
			})
		}
	})
	close(rows)
	byName := make(map[string]row)
	for r := range rows {
		byName[r.stands[0]] = r
	}
	if !t.Failed() {
		compare(t, "endings", endingNames(), byName)
	}
}

func endingNames() (names []string) {
	for _, e := range endings {
		names = append(names, e.name)
	}
	return names
}

// matrix makes a host for each server and login shell. Behind a jump host it is the servers only: what comes to a host
// then is one of the other endings.
func matrix(t *testing.T, b *bed.Bed, jump bool) (bastion *bed.Host, hosts []*bed.Host) {
	t.Helper()
	shells := []string{"sh", "bash", "ash", "zsh", "tcsh", "fish"}
	options := bed.Options{}
	if jump {
		shells = shells[:1]
		bastion = b.Add("bastion", bed.Options{Nets: []int{0, 1}})
		options = bed.Options{Nets: []int{1}, Jump: "bastion"}
	}
	for _, shell := range shells {
		if _, err := exec.LookPath(shell); err != nil && shell != "ash" {
			bed.Require(t, shell)
		}
		for _, dropbear := range []bool{false, true} {
			options.Shell, options.Dropbear = shell, dropbear
			name := shell + "-openssh"
			if dropbear {
				name = shell + "-dropbear"
			}
			hosts = append(hosts, b.Add(name, options))
		}
	}
	return bastion, hosts
}

// onAll captures on all hosts with all rights, one client for each of these.
func onAll(t *testing.T, b *bed.Bed, hosts []*bed.Host) (clients []*client) {
	t.Helper()
	var targets []string
	for _, h := range hosts {
		targets = append(targets, h.Name)
	}
	capable := b.Capable()
	for _, r := range rights {
		args := append([]string{"-l", r.user, "--helper", capable, "--helper-buffer", "256KiB", "-f", flowFilter, "-s", snaplen, "-o", output(t, "a.pcapng")}, r.args...)
		clients = append(clients, start(t, b, append(args, targets...)...))
	}
	for _, c := range clients {
		c.ready()
	}
	left := bed.Leftovers(hosts...)
	for _, h := range hosts {
		n := 0
		for _, p := range left[h] {
			if p.Name == "tcpdump" {
				n++
			}
		}
		if n != len(rights) {
			t.Errorf("%d helpers run on %s, want %d: %v", n, h.Name, len(rights), left[h])
		}
	}
	return clients
}

// untilClean waits until no host has a helper any more, and returns how long after struck that was.
func untilClean(t *testing.T, struck time.Time, hosts []*bed.Host) time.Duration {
	t.Helper()
	for {
		left := bed.Leftovers(hosts...)
		took := time.Since(struck)
		if len(left) == 0 {
			t.Logf("nothing was left after %v", took.Round(10*time.Millisecond))
			return took
		}
		if took > deadline {
			for h, processes := range left {
				t.Errorf("left on %s %v after the last sign of life: %v", h.Name, took, processes)
			}
			return took
		}
		time.Sleep(200 * time.Millisecond)
	}
}
