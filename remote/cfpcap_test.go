package remote

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/cftest/container"
)

var itoa = strconv.Itoa

// TestCFPcapLine looks at the words that the helper gets.
func TestCFPcapLine(t *testing.T) {
	dir := openDir(t)
	helper := dir + "/cf-pcap-x"
	if err := os.WriteFile(helper, []byte("#!/bin/sh\nfor a; do printf '<%s>' \"$a\"; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		c    Command
		want string
	}{
		{Command{NoSelfFilter: true}, "<-interface><eth0>"},
		{Command{NoSelfFilter: true, SelfFilter: "x"}, "<-interface><eth0>"},
		{Command{NoSelfFilter: true, Interface: "lo", Snaplen: 96, Filter: "a  b\n"}, "<-interface><lo><-snaplen><96><-filter><a  b >"},
		{Command{SelfFilter: "tcp port 2222 or tcp port 61002"}, "<-interface><eth0><-filter><not (tcp port 2222 or tcp port 61002)>"},
		{Command{SelfFilter: "tcp port 2222", Filter: "a or b"}, "<-interface><eth0><-filter><not (tcp port 2222) and (a or b)>"},
		{Command{SelfFilter: "tcp port 2222", Filter: "a) or (b"}, "<-interface><eth0><-filter><a) or (b>"},
		{Command{SelfFilter: "$(id) *", Filter: "'`!\\"}, "<-interface><eth0><-filter><not ($(id) *) and ('`!\\)>"},
		{Command{}, "<-interface><eth0><-filter><not (tcp port 22)>"},
		{Command{Sudo: true, Nano: true, NoPromiscuous: true, BufferKiB: 9, SelfFilter: "x"}, "<-interface><eth0><-filter><not (x)>"},
	} {
		tt.c.Helper = helper
		for _, sh := range []string{"bash", "sh"} {
			cmd := shell{args: []string{sh}}.command(tt.c.Line())
			cmd.Env = []string{"PATH=/usr/bin:/bin"}
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.Output()
			stdin.Close()
			if err != nil || string(out) != tt.want {
				t.Errorf("%s: %+v: %v\ngot  %s\nwant %s", sh, tt.c, err, out, tt.want)
			}
		}
	}
	if line := (Command{Helper: "cf-pcap"}).Line(); !strings.Contains(line, encode(Quote(cfPcapPath))) {
		t.Error(line)
	}
	for _, c := range []Command{{SelfFilter: "a) or (b"}, {SelfFilter: "a\x00"}, {Helper: "cf-pcap", Filter: "tcp) or (udp"}} {
		if c.Check() == nil {
			t.Errorf("%+v passes Check", c)
		}
	}
}

// TestContainerTips: what to do about a failure in a container is nothing that only a host has.
func TestContainerTips(t *testing.T) {
	onHosts := regexp.MustCompile(`(?i)\bhost\b|setcap|sudoers|sudo (ip|setcap)|--sudo (auto|always|never)|ip link|login|dmesg|install tcpdump|dumpcap|interface any|CAP_NET_RAW|macOS`)
	for _, helper := range []string{"", "/usr/bin/tcpdump", cfPcapPath} {
		for k := HelperFailed; k <= NotEnabled; k++ {
			if k == NotEnabled && helper != cfPcapPath {
				continue // is only of that
			}
			for _, sudo := range []bool{false, true} {
				for _, changed := range []bool{false, true} {
					e := ending{seen: &seen{Report: Report{Helper: helper, Sudo: sudo, Started: true}, changed: changed}, reason: reason{words: "words"}, container: true, status: 1}
					if text := e.problem(k) + "; " + e.tip(k); e.tip(k) == "" || onHosts.MatchString(text) {
						t.Errorf("%v of %q: %s", k, helper, text)
					}
				}
			}
		}
	}
}

// TestCFPcapStop ends both versions of the helper in every way, under both shells.
func TestCFPcapStop(t *testing.T) {
	t.Parallel()
	b := newCFBed(t)
	capable := b.capable(t)
	eof := func(r *remoteRun) { r.stdin.Close() }
	signal := func(s ssh.Signal) func(*remoteRun) { return func(r *remoteRun) { r.sess.Signal(s) } }
	for _, sh := range []string{"bash", "sh"} {
		for _, old := range []bool{false, true} {
			for how, end := range map[string]func(*remoteRun){"EOF": eof, "INT": signal(ssh.SIGINT), "TERM": signal(ssh.SIGTERM)} {
				c := b.container(t, func(c *container.Container) {
					c.Shell, c.Lifecycle, c.User = []string{sh}, capable, &container.User{UID: 2000, GID: 2000}
					if old {
						c.Env = []string{"CFPCAP_OLD=1"}
					}
				})
				port := 20000 + c.Index // nobody else's
				t.Run(fmt.Sprintf("%s/old=%v/%s", sh, old, how), func(t *testing.T) {
					t.Parallel()
					run := start(t, b.enter(t, c), Command{Helper: "cf-pcap", Interface: "lo", SelfFilter: "tcp", Filter: "udp port " + itoa(port)})
					run.header()
					b.sendTo(t, port, 7)
					began := time.Now()
					end(run)
					if n := records(t, run.stdout); n != 7 {
						t.Errorf("%d packets", n)
					}
					status, took := run.status(), time.Since(began)
					if old && status != 143 || !old && status != 0 {
						t.Errorf("status %d: %+v", status, run.log.Failure(status))
					}
					if took > slack || old && took < 400*time.Millisecond {
						t.Errorf("took %v", took)
					}
					gone(t, time.Second, c)
					t.Logf("took %v; %+v", took, run.log.Report())
				})
			}
		}
	}
}

// TestCFPcapLost ends the client, not the helper.
func TestCFPcapLost(t *testing.T) {
	t.Parallel()
	b := newCFBed(t)
	for _, sh := range []string{"bash", "sh"} {
		for _, old := range []string{"", "1"} {
			for how, end := range map[string]func(*remoteRun, *ssh.Client){
				"channel":    func(r *remoteRun, _ *ssh.Client) { r.sess.Close() },
				"connection": func(_ *remoteRun, c *ssh.Client) { c.Close() },
				"shell":      func(r *remoteRun, _ *ssh.Client) { r.sess.Signal(ssh.SIGKILL); r.stdin.Close() },
			} {
				c := b.container(t, func(c *container.Container) { c.Shell, c.Env = []string{sh}, []string{"CFPCAP_OLD=" + old} })
				t.Run(fmt.Sprintf("%s/old=%s/%s", sh, old, how), func(t *testing.T) {
					t.Parallel()
					client := b.enter(t, c)
					run := start(t, client, Command{Helper: "cf-pcap", Interface: "any", SelfFilter: "tcp", Filter: "udp port 9"})
					run.header()
					end(run, client)
					run.silence()
					gone(t, 5*time.Second, c)
				})
			}
		}
	}
}

// TestCFPcapSilence keeps the connections up but sends no signs of life.
func TestCFPcapSilence(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 14 s")
	}
	t.Parallel()
	b := newCFBed(t)
	for _, sh := range []string{"bash", "sh"} {
		for _, old := range []string{"", "1"} {
			c := b.container(t, func(c *container.Container) { c.Shell, c.Env = []string{sh}, []string{"CFPCAP_OLD=" + old} })
			t.Run(sh+"/old="+old, func(t *testing.T) {
				t.Parallel()
				run := start(t, b.enter(t, c), Command{Helper: "cf-pcap", Interface: "any", SelfFilter: "tcp"})
				run.header()
				run.silence()
				began := time.Now()
				run.status()
				if took := time.Since(began); took < 10*time.Second || took > 20*time.Second {
					t.Errorf("ended after %v", took)
				}
				gone(t, time.Second, c)
			})
		}
	}
}

// TestCFPcapTimeUp limits the time, while the client lives on.
func TestCFPcapTimeUp(t *testing.T) {
	t.Parallel()
	b := newCFBed(t)
	for _, sh := range []string{"bash", "sh"} {
		for _, old := range []string{"", "1"} {
			c := b.container(t, func(c *container.Container) { c.Shell, c.Env = []string{sh}, []string{"CFPCAP_OLD=" + old} })
			t.Run(sh+"/old="+old, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				run := start(t, b.enter(t, c), Command{Helper: "cf-pcap", Interface: "lo", SelfFilter: "tcp", Filter: "udp port 9", MaxTime: 1500 * time.Millisecond})
				run.header()
				status := run.status()
				if took := time.Since(began); status != TimeUp || took < 2*time.Second || took > 4*time.Second+slack {
					t.Errorf("status %d after %v", status, took)
				}
				gone(t, time.Second, c)
			})
		}
	}
}

// TestCFPcapBare has containers with a shell and no other program.
func TestCFPcapBare(t *testing.T) {
	t.Parallel()
	b := newCFBed(t)
	b.quiet(t)
	for _, sh := range []string{"bash", "dash"} {
		need(t, sh)
		for _, proc := range []bool{true, false} {
			for _, old := range []string{"", "1"} {
				for how, end := range map[string]func(*remoteRun){
					"EOF":  func(r *remoteRun) { r.stdin.Close() },
					"INT":  func(r *remoteRun) { r.sess.Signal(ssh.SIGINT) },
					"lost": func(r *remoteRun) { r.sess.Close() },
				} {
					c := b.container(t, func(c *container.Container) {
						c.Prefix, c.Lifecycle, c.Shell = b.cfJail(t, sh, proc), "", []string{"/bin/sh"}
						c.Env = []string{"PATH=", "CFPCAP_OLD=" + old}
					})
					t.Run(fmt.Sprintf("%s/proc=%v/old=%s/%s", sh, proc, old, how), func(t *testing.T) {
						t.Parallel()
						run := start(t, b.enter(t, c), Command{Helper: "cf-pcap", NoSelfFilter: true, Snaplen: 64})
						run.header()
						run.stdin.Write(Heartbeat())
						began := time.Now()
						end(run)
						if how != "lost" {
							status, took := run.status(), time.Since(began)
							if proc && (old == "" && status != 0 || old != "" && (status != 143 || took < 300*time.Millisecond)) {
								t.Errorf("status %d after %v: %+v", status, took, run.log.Failure(status))
							}
							if rep := run.log.Report(); rep.UID != -1 || !rep.Clock.IsZero() || !rep.Started {
								t.Errorf("%+v", rep)
							}
						}
						run.silence()
						gone(t, 5*time.Second, c)
					})
				}
			}
		}
	}
}

// TestCFPcapFailures brings every failure about with the helper itself.
func TestCFPcapFailures(t *testing.T) {
	t.Parallel()
	b := newCFBed(t)
	empty := filepath.Join(b.dir, "empty")
	plain := filepath.Join(b.dir, "plain")
	for _, dir := range []string{empty, plain} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	do(t, "cp", filepath.Join(b.lifecycle(), "cf-pcap"), plain)
	do(t, "chmod", "644", filepath.Join(plain, "cf-pcap"))
	do(t, "ip", "-n", b.ns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	env := func(word string) func(*container.Container) {
		return func(c *container.Container) { c.Env = []string{word} }
	}
	in := func(dir string) func(*container.Container) { return func(c *container.Container) { c.Lifecycle = dir } }
	for _, tt := range []struct {
		name       string
		set        func(*container.Container)
		c          Command
		kind       Kind
		words, tip string
	}{
		{"not enabled", env("CFPCAP_DENIED=1"), Command{}, NotEnabled, "You don't have permission", "diego.rep.enable_cf_pcap"},
		{"no capability", func(c *container.Container) { c.User = &container.User{UID: 2000, GID: 2000} }, Command{Interface: "lo"}, NotEnabled, "Operation not permitted", "restart the app"},
		{"interface", nil, Command{Interface: "eth7"}, NoInterface, "eth7: No such device", "eth0"},
		{"down", nil, Command{}, InterfaceDown, "eth0: That device is not up", "--interface"},
		{"filter", nil, Command{Interface: "lo", Filter: "tcp port"}, BadFilter, "filter: syntax error", "pcap-filter"},
		{"quotes", nil, Command{Interface: "lo", Filter: `host "a\b'c"`}, BadFilter, "", "pcap-filter"},
		{"unknown host", nil, Command{Interface: "lo", Filter: "host nope.invalid"}, BadFilter, "unknown host", "address"},
		{"old flags", env("CFPCAP_NOFLAG=snaplen"), Command{Snaplen: 96}, OldHelper, "not know the flags used here: flag provided but not defined: -snaplen", "another version"},
		{"missing", in(empty), Command{}, NoHelper, "no /tmp/lifecycle/cf-pcap", "restart the app"},
		{"not executable", in(plain), Command{}, NoHelper, "cannot be run on the instance: Permission denied", "restart the app"},
		{"killed", nil, Command{Interface: "lo"}, Killed, "signal KILL", "cf events"},
	} {
		for _, sh := range []string{"bash", "sh"} {
			c := b.container(t, func(c *container.Container) {
				c.Shell = []string{sh}
				if tt.set != nil {
					tt.set(c)
				}
			})
			t.Run(tt.name+"/"+sh, func(t *testing.T) {
				t.Parallel()
				command := tt.c
				command.Helper, command.SelfFilter = "cf-pcap", "tcp port 2222"
				run := start(t, b.enter(t, c), command)
				if tt.kind == Killed {
					run.header()
					for _, p := range c.Processes() {
						if strings.HasPrefix(p.Line, cfPcapPath) {
							do(t, "kill", "-KILL", itoa(p.PID))
						}
					}
				}
				status := run.status()
				f := run.log.Failure(status)
				if f == nil || f.Kind != tt.kind || !strings.Contains(f.Problem, tt.words) || !strings.Contains(f.Tip, tt.tip) {
					t.Fatalf("status %d: %+v, want %v with %q and %q; %+v", status, f, tt.kind, tt.words, tt.tip, run.log.now())
				}
				checkFailure(t, f)
				t.Logf("%s\nhint: %s", f.Problem, f.Tip)
				gone(t, time.Second, c)
			})
		}
	}
}

// TestCFPcapSelf captures where the capture's own connection passes, with and without it. Only the first would end.
func TestCFPcapSelf(t *testing.T) {
	t.Parallel()
	for _, helper := range []string{"cf-pcap", "tcpdump"} {
		for _, filter := range []string{"", "udp or tcp or arp"} {
			t.Run(helper+"/"+filter, func(t *testing.T) {
				t.Parallel()
				b := newCFBed(t)
				c := b.container(t, nil)
				run := start(t, b.enter(t, c), Command{Helper: helper, Interface: "any", Filter: filter, SelfFilter: "tcp port 2222"})
				run.header()
				for range 20 {
					run.stdin.Write(Heartbeat())
				}
				b.sendTo(t, 0, 10)
				run.stdin.Close()
				// On interface any, some tcpdumps see a packet leave and arrive.
				if n := records(t, run.stdout); n != 10 && !(helper == "tcpdump" && n == 20) {
					t.Errorf("%d packets", n)
				}
				if status := run.status(); status != 0 {
					t.Errorf("status %d: %+v", status, run.log.Failure(status))
				}
				if rep := run.log.Report(); rep.SelfFilter != "tcp port 2222" {
					t.Errorf("%+v", rep)
				}
			})
		}
	}
	t.Run("feeds on itself", func(t *testing.T) {
		t.Parallel()
		b := newCFBed(t)
		run := start(t, b.enter(t, b.container(t, nil)), Command{Helper: "cf-pcap", Interface: "any", NoSelfFilter: true})
		run.header()
		run.stdin.Write(Heartbeat())
		time.AfterFunc(100*time.Millisecond, func() { run.stdin.Close() })
		if n := records(t, run.stdout); n < 10 {
			t.Errorf("%d packets", n)
		}
		if status := run.status(); status != 0 && status != 143 {
			t.Errorf("status %d", status)
		}
	})
}
