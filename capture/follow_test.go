package capture_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/capture"
	"github.com/sshpcap/sshpcap/internal/sshserver"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// follower counts what a following capture tells.
type follower struct {
	*fixture
	joined, left, failed []string
}

func follow(t *testing.T, name string, instances ...capture.Instance) *follower {
	f := &follower{fixture: newFixture(t, name, instances...)}
	f.Follow = true
	return f
}

func (f *follower) look() {
	for len(f.events) > 0 {
		switch e := <-f.events; e.Kind {
		case capture.Joined:
			f.joined = append(f.joined, e.Instance)
		case capture.Left:
			f.left = append(f.left, e.Instance+": "+e.Err.Error())
		case capture.Failed, capture.Lost:
			f.failed = append(f.failed, e.Instance+": "+e.Err.Error())
		}
	}
}

// comments are those of a file's packets, by tshark.
func comments(t *testing.T, path string) []string {
	t.Helper()
	out, err := exec.Command("tshark", "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment", "-Y", "frame.comment").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// A helper that dies and a link that breaks: the instance comes back, and the file says where packets are missing.
func TestFollowComesBack(t *testing.T) {
	for _, how := range []string{"helper", "connection"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			var starts atomic.Int64
			shaky := instance(t, "shaky", func(s *sshserver.Session) int {
				if starts.Add(1) > 1 {
					return tcpdump{give: burst(2, 7)}.run(s)
				}
				if how == "helper" {
					return tcpdump{give: burst(1, 5), exit: 1}.run(s)
				}
				tcpdump{give: func(h *helper) { burst(1, 5)(h); h.CloseConnection() }}.run(s)
				return sshserver.NoStatus
			})
			f := follow(t, "x.pcapng", shaky, instance(t, "steady", tcpdump{give: burst(3, 20)}.run))
			packets := f.packets(32)
			report, err := f.run(t, func() bool { f.look(); return packets() && len(f.joined) > 0 })
			if err != nil {
				t.Fatal(err)
			}
			f.look()
			if len(f.joined) != 1 || f.joined[0] != "shaky" || len(f.left) != 1 || len(f.failed) != 0 {
				t.Errorf("joined %q, left %q, failed %q", f.joined, f.left, f.failed)
			}
			in := report.Instances[0]
			if in.State != capture.OK || in.Interfaces[0].Written != 12 || in.Interfaces[0].Gaps != 1 {
				t.Errorf("%s %q, %d written, %d gaps", in.State, in.Problem, in.Interfaces[0].Written, in.Interfaces[0].Gaps)
			}
			checkSums(t, report)
			var seen []byte
			for _, r := range read(t, f.path) {
				if r.from == "shaky:eth0" {
					seen = append(seen, r.instance)
				}
			}
			if string(seen) != "\x01\x01\x01\x01\x01\x02\x02\x02\x02\x02\x02\x02" {
				t.Errorf("packets of attempts %v", seen)
			}
			if got := comments(t, f.path); len(got) != 1 || !strings.HasPrefix(got[0], "shaky:eth0\tgap: ") {
				t.Errorf("comments %q", got)
			}
		})
	}
}

// TestGapNamesItsCause: the comment after a gap says what it began with, not what the last try to end it came to.
func TestGapNamesItsCause(t *testing.T) {
	t.Parallel()
	var starts atomic.Int64
	shaky := instance(t, "shaky", func(s *sshserver.Session) int {
		switch starts.Add(1) {
		case 1:
			return tcpdump{give: burst(1, 5), exit: 1}.run(s)
		case 2:
			fmt.Fprint(s.Stderr, "@sshpcap helper /usr/bin/tcpdump\n@sshpcap start\ntcpdump: eth0: That device is not up\n")
			return 1
		case 4:
			return tcpdump{give: burst(3, 5)}.run(s)
		}
		return tcpdump{give: burst(2, 5), exit: 1}.run(s)
	})
	f := follow(t, "x.pcapng", shaky)
	packets := f.packets(15)
	if _, err := f.run(t, packets); err != nil {
		t.Fatal(err)
	}
	got := comments(t, f.path)
	if len(got) != 2 {
		t.Fatalf("comments %q", got)
	}
	for _, comment := range got { // that of the second gap knows nothing of the first one
		if !strings.Contains(comment, "Z on: the interface disappeared during the capture") {
			t.Errorf("comment %q", comment)
		}
	}
}

// An instance that is not there at first is captured on once it is.
func TestFollowWaitsForAnInstance(t *testing.T) {
	var up atomic.Bool
	late := instance(t, "late", tcpdump{give: burst(1, 5)}.run)
	dial := late.Dial
	late.Dial = func(ctx context.Context) (*sshx.Conn, error) {
		if !up.Load() {
			return nil, errors.New("not there")
		}
		return dial(ctx)
	}
	f := follow(t, "x.pcapng", late, instance(t, "good", tcpdump{give: burst(2, 5)}.run))
	packets := f.packets(10)
	report, err := f.run(t, func() bool {
		f.look()
		if len(f.failed) > 0 {
			up.Store(true)
		}
		return packets()
	})
	f.look()
	if err != nil || len(f.failed) != 1 || len(f.joined) != 1 {
		t.Fatalf("error %v, failed %q, joined %q", err, f.failed, f.joined)
	}
	checkAll(t, read(t, f.path), map[string]int{"late:eth0": 5, "good:eth0": 5})
	if in := report.Instances[0]; in.State != capture.OK || in.Problem != "" {
		t.Errorf("%s %q", in.State, in.Problem)
	}
}

// A target of which the configuration makes no sense is not tried again.
func TestFollowNotWithoutSense(t *testing.T) {
	dials := 0
	senseless := capture.Instance{Name: "senseless", Dial: func(context.Context) (*sshx.Conn, error) {
		dials++
		return nil, &sshx.Error{Kind: sshx.KindConfig, Problem: "no sense", Tip: "correct it"}
	}}
	f := follow(t, "x.pcapng", senseless)
	report, err := f.run(t, func() bool { return false })
	if err == nil || dials != 1 || report.Instances[0].State != capture.NotOpened || report.Instances[0].Problem != "no sense" {
		t.Errorf("%v after %d dials: %+v", err, dials, report.Instances[0])
	}
}

// One that stays away is lost, and says why.
func TestFollowUntilTheEnd(t *testing.T) {
	var starts atomic.Int64
	gone := instance(t, "gone", func(s *sshserver.Session) int {
		if starts.Add(1) > 1 {
			return 127
		}
		return tcpdump{give: burst(1, 5), exit: 1}.run(s)
	})
	f := follow(t, "x.pcapng", gone, instance(t, "good", tcpdump{give: burst(2, 5)}.run))
	packets := f.packets(10)
	report, err := f.run(t, func() bool { f.look(); return packets() && starts.Load() > 2 })
	f.look()
	if in := report.Instances[0]; err != nil || in.State != capture.LostState || in.Problem == "" {
		t.Errorf("error %v, %s %q", err, in.State, in.Problem)
	}
	if len(f.left) != 1 || len(f.failed) != 0 {
		t.Errorf("left %q, failed %q", f.left, f.failed)
	}
}

// The time of a helper that was lost counts for the next one, and one that is over is not started again.
func TestFollowMaxRemoteTime(t *testing.T) {
	limit := regexp.MustCompile(`count (\d+) USR2`)
	for name, back := range map[string]bool{"comes back": true, "stays away": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var starts, last atomic.Int64
			shaky := instance(t, "shaky", func(s *sshserver.Session) int {
				last.Store(0)
				if count := limit.FindStringSubmatch(s.Command); count != nil { // a panic would clear nothing up
					n, _ := strconv.ParseInt(count[1], 10, 64)
					last.Store(n)
				}
				switch {
				case starts.Add(1) == 1:
					return tcpdump{give: burst(1, 5), exit: 1}.run(s)
				case back:
					return tcpdump{exit: remote.TimeUp, give: func(h *helper) {
						burst(2, 7)(h)
						fmt.Fprintf(h.Stderr, "7 packets captured\n7 packets received by filter\n0 packets dropped by kernel\n")
					}}.run(s)
				}
				return 127
			})
			f := follow(t, "x.pcapng", shaky)
			f.MaxRemoteTime = 3 * time.Second
			report, err := f.run(t, nil)
			if err != nil || report.End != capture.EndAll {
				t.Fatalf("error %v, ended by %s", err, report.End)
			}
			state, written := capture.OK, int64(12)
			if !back {
				state, written = capture.LostState, 5
			}
			if in := report.Instances[0]; in.State != state || in.Interfaces[0].Written != written || (in.Problem == "") != back {
				t.Errorf("%s %q, %d written", in.State, in.Problem, in.Interfaces[0].Written)
			}
			if n := starts.Load(); back && n != 2 || n < 2 || last.Load() < 1 || last.Load() > 3 {
				t.Errorf("%d starts, the last for %d s", n, last.Load())
			}
			checkSums(t, report)
		})
	}
}

// Instances that appear are taken in, those that are known are not taken twice.
func TestFollowDiscovers(t *testing.T) {
	first, second := instance(t, "first", tcpdump{give: burst(1, 5)}.run), instance(t, "second", tcpdump{give: burst(2, 5)}.run)
	f := follow(t, "x.pcapng", first)
	var asked atomic.Int64
	f.DiscoverEvery = 20 * time.Millisecond
	f.Discover = func(context.Context) ([]capture.Instance, error) {
		if asked.Add(1) == 1 {
			return nil, errors.New("the platform is away")
		}
		return []capture.Instance{first, second}, nil
	}
	packets := f.packets(10)
	report, err := f.run(t, func() bool { f.look(); return packets() && asked.Load() > 2 })
	if err != nil {
		t.Fatal(err)
	}
	f.look()
	if len(f.joined) != 1 || f.joined[0] != "second" || len(report.Instances) != 2 || report.Instances[1].State != capture.OK {
		t.Errorf("joined %q, %d instances", f.joined, len(report.Instances))
	}
	checkAll(t, read(t, f.path), map[string]int{"first:eth0": 5, "second:eth0": 5})
}

func TestFollowStopsWhileNothingIsThere(t *testing.T) {
	f := follow(t, "x.pcapng", instance(t, "never", func(*sshserver.Session) int { return 127 }))
	start := time.Now()
	_, err := f.run(t, func() bool { f.look(); return len(f.failed)+len(f.left) > 0 })
	if !errors.Is(err, capture.ErrNothing) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v to end", took)
	}
}

// During a rolling deployment there are two instances of one name for a while, and the later one keeps its place under
// another name afterwards. No instance is taken twice, and one that is replaced is no failure.
func TestFollowRollingDeployment(t *testing.T) {
	var running atomic.Int64
	handler := func(id byte) func(*sshserver.Session) int {
		return func(s *sshserver.Session) int {
			running.Add(1)
			defer running.Add(-1)
			return tcpdump{give: burst(id, 5)}.run(s)
		}
	}
	server := &sshserver.Server{Handler: handler(1)}
	old := at(t, "shop/web/0", server)
	old.ID = "old/0"
	young := instance(t, "shop/web/0~1111", handler(2))
	young.ID = "young/0"
	renamed := young
	renamed.Name = "shop/web/0"
	f := follow(t, "x.pcapng", old)
	var stage atomic.Int64
	f.DiscoverEvery = 20 * time.Millisecond
	var asked atomic.Int64
	f.Discover = func(context.Context) ([]capture.Instance, error) {
		asked.Add(1)
		switch stage.Load() {
		case 0:
			return []capture.Instance{old}, nil
		case 1:
			return []capture.Instance{old, young}, nil
		}
		return []capture.Instance{renamed}, nil
	}
	packets := f.packets(10)
	var since int64
	report, err := f.run(t, func() bool {
		f.look()
		switch stage.Load() {
		case 0:
			if f.Progress.Capturing.Load() == 1 {
				stage.Store(1)
			}
		case 1:
			if packets() {
				server.Close() // the old container is gone
				since = asked.Load()
				stage.Store(2)
			}
		default:
			return asked.Load() > since+10 && len(f.left) == 1
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	f.look()
	if len(report.Instances) != 2 || report.Instances[0].State != capture.Gone || report.Instances[1].State != capture.OK {
		t.Errorf("%+v", report.Instances)
	}
	if len(f.joined) != 1 || f.joined[0] != "shop/web/0~1111" || len(f.failed) != 0 {
		t.Errorf("joined %q, failed %q", f.joined, f.failed)
	}
	checkAll(t, read(t, f.path), map[string]int{"shop/web/0:eth0": 5, "shop/web/0~1111:eth0": 5})
}
