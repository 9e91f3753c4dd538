package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/internal/cftest/api"
	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/sshx"
)

// hostWords are about SSH hosts and who runs them. Users of apps have a container, the cf CLI and a platform's operators.
var hostWords = regexp.MustCompile(`(?i)\bhosts?\b|ssh_config|known_hosts|authorized_keys|authentication methods|login shell|what the login|log in (by hand|as)|--login|--jump|-J\b|--identity|` +
	`ssh INSTANCE|setcap|sudoers|--sudo (auto|always|never)|sshd|MaxSessions|MaxStartups|ServerAlive|fail2ban|ip link|dmesg|install tcpdump|forced command|` +
	`restricted account|disabled shell|ssh-keygen|ssh-add|macOS|CAP_NET_RAW|dumpcap|its SSH server`)

// notHosts are words that look like these: the platform's, and what the programs in these tests say themselves.
var notHosts = strings.NewReplacer("host name", "", "HOST:PORT", "", "--skip-host-validation", "", "SSH host key", "", "unknown host 'x'", "", "vcap is not in the sudoers file", "")

// instanceServer is what stands for the platform's SSH proxy and the container behind it.
type instanceServer func(*sshserver.Server)

// says is a helper that says something, and ends.
func says(status int, lines ...string) instanceServer {
	return runs(func(s *sshserver.Session) int {
		fmt.Fprintln(s.Stderr, strings.Join(lines, "\n"))
		return status
	})
}

func runs(command func(*sshserver.Session) int) instanceServer {
	return func(s *sshserver.Server) { s.Handler = command }
}

// after is a command that says something before.
func (i instanceServer) after(line string) instanceServer {
	return func(s *sshserver.Server) {
		i(s)
		command := s.Handler
		s.Handler = func(session *sshserver.Session) int {
			fmt.Fprintln(session.Stderr, line)
			return command(session)
		}
	}
}

// helperSays is what the script says before a helper's words.
func helperSays(helper string, status int, words ...string) instanceServer {
	return says(status, append([]string{"@sshpcap uid 2000", "@sshpcap helper " + helper, "@sshpcap start"}, words...)...)
}

// captures is a helper that begins to capture, goes on with rest, and ends with a status.
func captures(status int, rest func(s *sshserver.Session)) instanceServer {
	return runs(func(s *sshserver.Session) int {
		fmt.Fprint(s.Stderr, "@sshpcap uid 2000\n@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\n@sshpcap watched\n")
		h := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
		h = append(h, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0)
		s.Stdout.Write(h)
		if rest != nil {
			rest(s)
		}
		return status
	})
}

// untilAsked goes on as a helper that does what it is told.
func untilAsked(s *sshserver.Session) { io.Copy(io.Discard, s.Stdin) }

const slogLine = `time=2026-11-01T00:00:00Z level=ERROR msg="failed to set up capture" error=`

// helperFailures are those of helpers that do not capture, whichever is asked for.
var helperFailures = map[string]instanceServer{
	"no permission":       helperSays("/usr/bin/tcpdump", 1, "tcpdump: eth0: You don't have permission to perform this capture on that device", "(socket: Operation not permitted)"),
	"no permission, root": says(1, "@sshpcap uid 0", "@sshpcap helper /usr/bin/tcpdump", "@sshpcap start", "tcpdump: eth0: You don't have permission to perform this capture on that device"),
	"no interface":        helperSays("/usr/bin/tcpdump", 1, "tcpdump: nope0: No such device exists"),
	"no interface any":    helperSays("/usr/bin/tcpdump", 1, "tcpdump: any: No such device exists"),
	"interface down":      helperSays("/usr/bin/tcpdump", 1, "tcpdump: eth0: That device is not up"),
	"bad filter":          helperSays("/usr/bin/tcpdump", 1, "tcpdump: can't parse filter expression: syntax error"),
	"filter, no name":     helperSays("/usr/bin/tcpdump", 1, "tcpdump: unknown host 'x'"),
	"bad snaplen":         helperSays("/usr/bin/tcpdump", 1, "tcpdump: invalid snaplen 9"),
	"old helper":          helperSays("/usr/bin/tcpdump", 1, "tcpdump: unrecognized option '--immediate-mode'"),
	"helper failed":       helperSays("/usr/bin/tcpdump", 1, "tcpdump: all went wrong"),
	"helper is silent":    helperSays("/usr/bin/tcpdump", 7),
	"helper killed":       helperSays("/usr/bin/tcpdump", 137),
	"not executable":      helperSays("/usr/bin/tcpdump", 126, "sh: 1: /usr/bin/tcpdump: Permission denied"),
	"no helper":           says(127, "@sshpcap uid 2000", "@sshpcap nohelper"),
	"no shell":            says(1, "This account is currently not available."),
	"script changed":      says(125, "@sshpcap changed"),
	"no sudo":             says(127, "@sshpcap uid 2000", "@sshpcap helper /usr/bin/tcpdump", "@sshpcap start sudo", "sh: 1: sudo: not found"),
	"sudo password":       says(1, "@sshpcap uid 2000", "@sshpcap helper /usr/bin/tcpdump", "@sshpcap start sudo", "sudo: a password is required"),
	"sudo tty":            says(1, "@sshpcap uid 2000", "@sshpcap helper /usr/bin/tcpdump", "@sshpcap start sudo", "sudo: sorry, you must have a tty to run sudo"),
	"sudo refused":        says(1, "@sshpcap uid 2000", "@sshpcap helper /usr/bin/tcpdump", "@sshpcap start sudo", "vcap is not in the sudoers file."),

	"cf-pcap not enabled":    helperSays("/tmp/lifecycle/cf-pcap", 1, slogLine+`"eth0: You don't have permission to perform this capture on that device (socket: Operation not permitted)"`),
	"cf-pcap no interface":   helperSays("/tmp/lifecycle/cf-pcap", 1, slogLine+`"lo9: No such device exists"`),
	"cf-pcap interface down": helperSays("/tmp/lifecycle/cf-pcap", 1, slogLine+`"eth0: That device is not up"`),
	"cf-pcap bad filter":     helperSays("/tmp/lifecycle/cf-pcap", 1, slogLine+`"failed to set BPF filter: syntax error"`),
	"cf-pcap old":            helperSays("/tmp/lifecycle/cf-pcap", 2, "flag provided but not defined: -snaplen"),
	"cf-pcap missing":        helperSays("/tmp/lifecycle/cf-pcap", 127, "sh: 1: /tmp/lifecycle/cf-pcap: not found"),
	"cf-pcap panics":         helperSays("/tmp/lifecycle/cf-pcap", 2, "panic: runtime error"),
	"cf-pcap killed":         helperSays("/tmp/lifecycle/cf-pcap", 137),
	"cf-pcap failed":         helperSays("/tmp/lifecycle/cf-pcap", 1, slogLine+`"all went wrong"`),
}

// otherFailures are those of the way to the instance, of what runs there, and of helpers that have begun to capture.
var otherFailures = map[string]instanceServer{
	"no packets": runs(func(s *sshserver.Session) int {
		fmt.Fprint(s.Stdout, "Welcome to the container, and have a nice day")
		return 0
	}),
	"does nothing":  helperSays("/usr/bin/tcpdump", 0),
	"hangs":         runs(func(s *sshserver.Session) int { io.Copy(io.Discard, s.Stdin); <-s.Context().Done(); return 0 }),
	"ends":          captures(0, nil),
	"ends badly":    captures(1, nil),
	"is killed":     captures(137, nil),
	"hears nothing": captures(123, nil),
	"interface gone": captures(1, func(s *sshserver.Session) {
		fmt.Fprintln(s.Stderr, "tcpdump: pcap_loop: The interface disappeared")
	}),
	"packets are none":  captures(0, func(s *sshserver.Session) { s.Stdout.Write([]byte(strings.Repeat("nonsense", 100))) }),
	"cut off":           captures(0, func(s *sshserver.Session) { s.Stdout.Write(make([]byte, 20)) }),
	"connection lost":   captures(sshserver.NoStatus, func(s *sshserver.Session) { s.CloseConnection() }),
	"session lost":      captures(sshserver.NoStatus, nil),
	"lost at the start": runs(func(s *sshserver.Session) int { s.CloseConnection(); return sshserver.NoStatus }),

	"commands refused": func(s *sshserver.Server) { s.RefuseExec = true },
	"sessions refused": func(s *sshserver.Server) {
		s.MaxSessions = 1
		captures(0, func(s *sshserver.Session) { <-s.Context().Done() })(s)
	},
	"login refused": func(s *sshserver.Server) { s.User, s.Password = "another", "secret" },
	"hangs up":      func(s *sshserver.Server) { s.BeforeVersion = func(net.Conn) error { return errors.New("no") } },
	"no SSH": func(s *sshserver.Server) {
		s.BeforeVersion = func(c net.Conn) error { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); return errors.New("no") }
	},
	"silent": func(s *sshserver.Server) {
		s.BeforeVersion = func(c net.Conn) error { io.Copy(io.Discard, c); return errors.New("no") }
	},
	"nobody listens": nil,
	"same twice":     captures(0, untilAsked).after("@sshpcap host boot net"),
}

// TestAppWords runs every failure through an app, in a capture and in a check, and looks for words that are about hosts.
func TestAppWords(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // most of it is waiting
	defer all.Wait()
	run := func(failures map[string]instanceServer, helpers ...string) {
		for name, server := range failures {
			all.Go(func() {
				t.Run(name, func(t *testing.T) {
					for _, helper := range helpers {
						checkWords(t, server, helper)
					}
				})
			})
		}
	}
	run(helperFailures, "", "tcpdump", "cf-pcap")
	run(otherFailures, "")
}

func checkWords(t *testing.T, server instanceServer, helper string) {
	t.Helper()
	cfg := capture.Config{Helper: helper, ConnectTimeout: 400 * time.Millisecond, Grace: 300 * time.Millisecond}
	cfg.Instances = appInstances(t, server)
	var mu sync.Mutex
	var told []string
	tell := func(words ...string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, words...)
	}
	cfg.OnEvent = func(e capture.Event) {
		tell(e.Text)
		if e.Err != nil {
			tell(e.Err.Error(), hintOf(e.Err))
		}
	}
	checked, err := capture.Check(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	problems := 0
	for _, in := range checked.Instances {
		for _, p := range in.Problems {
			problems++
			tell(p.Problem, p.Hint)
			if p.Hint == "" {
				t.Errorf("%s: no hint for %q", helper, p.Problem)
			}
		}
		tell(in.Notes...)
	}
	cfg.Output.Path, cfg.Duration = filepath.Join(t.TempDir(), "x.pcapng"), 300*time.Millisecond
	report, _ := capture.Run(t.Context(), cfg)
	for _, in := range report.Instances {
		tell(in.Problem, in.Hint, howItEnded(in))
		tell(in.Notes...)
		for _, i := range in.Interfaces {
			tell(i.End)
		}
		if in.Problem != "" {
			problems++
		}
	}
	if problems == 0 {
		t.Errorf("%s: there was no failure", helper)
	}
	slices.Sort(told)
	for _, text := range slices.Compact(told) {
		if found := hostWords.FindString(notHosts.Replace(text)); found != "" {
			t.Errorf("%s: %q is about hosts: %s", helper, found, text)
		}
	}
}

// appInstances are two instances of an app whose containers are one server; nil is none.
func appInstances(t *testing.T, set instanceServer) []capture.Instance {
	t.Helper()
	address := "127.0.0.1:1"
	if set != nil {
		server := &sshserver.Server{}
		set(server)
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		address = server.Addr()
	}
	platform := &api.Server{SSH: address, Apps: []api.App{{Name: "shop", Processes: []api.Process{{Type: "web", Instances: []api.Instance{{}, {}}}}}}}
	if err := platform.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(platform.Close)
	path, err := platform.WriteConfig(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := cf.ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := cf.NewClient(cf.Options{Config: config, SkipHostValidation: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	a := &apps{client: client, dialer: &sshx.Dialer{ConnectTimeout: 400 * time.Millisecond}, targets: []cf.Target{{App: "shop"}}, interfaces: []string{"eth0", "lo"}}
	instances, err := a.instances(t.Context(), false, func(cf.Instance) {})
	if err != nil || len(instances) != 2 {
		t.Fatalf("%v, %v", instances, err)
	}
	return instances
}
