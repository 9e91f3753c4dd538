package demo

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/remote"
)

// TestCaptureOnAllThree does what a capture does, by hand.
func TestCaptureOnAllThree(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	begin := time.Now()
	captures := make(map[string]*capture)
	for _, instance := range d.Instances {
		captures[instance.Name] = startCapture(t, instance, remote.Command{Interface: "eth0", Nano: true})
	}
	for name, c := range captures {
		for range 60 {
			p := c.next(t)
			const skew = 10 * time.Millisecond // the machine's clock may be put right meanwhile
			if now := time.Now(); p.Time.Before(begin.Add(-skew)) || p.Time.After(now.Add(skew)) {
				t.Fatalf("%s: a packet of %v at %v", name, p.Time, now)
			}
		}
	}
	captures[Web].stdin.Close()
	captures[App].session.Signal(ssh.SIGINT)
	captures[DB].session.Signal(ssh.SIGTERM)
	for name, c := range captures {
		c.rest(t)
		if err := c.session.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		report := c.log.Report()
		if !report.Known || int(report.Captured) != len(c.packets) || report.Captured != report.Filtered || report.Dropped != 0 {
			t.Errorf("%s: %d packets came, reported %+v", name, len(c.packets), report)
		}
		if failure := c.log.Failure(0); failure != nil {
			t.Errorf("%s: %v", name, failure)
		}
		if report.Helper == "" || !strings.HasPrefix(report.Connection, "127.0.0.1 ") || !strings.Contains(report.SelfFilter, "127.0.0.1") {
			t.Errorf("%s: %+v", name, report)
		}
		if !report.Started || report.Clock.Before(begin.Add(-time.Second)) || report.Clock.After(time.Now().Add(time.Second)) {
			t.Errorf("%s: started %v, its clock was %v", name, report.Started, report.Clock)
		}
	}
	wantOneConversation(t, captures)
}

// wantOneConversation checks that packets of one instance are with the others as well.
func wantOneConversation(t *testing.T, captures map[string]*capture) {
	t.Helper()
	both := 0
	for _, p := range captures[Web].packets {
		if _, to := ends(p.Data); to == App {
			both += occurrences(captures[App].packets, p.Data)
		}
	}
	for _, p := range captures[DB].packets {
		if from, _ := ends(p.Data); from == App {
			both += occurrences(captures[App].packets, p.Data)
		}
	}
	if both < 20 {
		t.Errorf("only %d packets on both sides", both)
	}
}

func TestEachCaptureSeesTheBeginning(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	var first []byte
	for range 2 { // alone, so after waiting for the others
		c := startCapture(t, d.Instances[1], remote.Command{Interface: "eth0"})
		p := c.next(t)
		c.stdin.Close()
		if err := c.session.Wait(); err != nil {
			t.Error(err)
		}
		if first != nil && !bytes.Equal(p.Data, first) {
			t.Errorf("first %x, then %x", first, p.Data)
		}
		first = p.Data
	}
}

func TestStopBeforeTheFirstPacket(t *testing.T) {
	c := startCapture(t, startDemo(t).Instances[0], remote.Command{})
	c.stdin.Close()
	if err := c.session.Wait(); err != nil {
		t.Error(err)
	}
	if report := c.log.Report(); !report.Known || report.Captured != 0 {
		t.Errorf("%+v", report)
	}
}

func TestClosedChannelEndsTheHelper(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	c := startCapture(t, d.Instances[0], remote.Command{})
	c.next(t)
	c.session.Close()
	for end := time.Now().Add(10 * time.Second); d.servers[0].Sessions() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the helper still runs")
		}
	}
}

func TestCloseEndsCaptures(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	c := startCapture(t, d.Instances[0], remote.Command{})
	c.next(t)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := c.session.Wait(); err == nil {
		t.Error("it ended well")
	}
}

func TestOtherCommandsAreNotFound(t *testing.T) {
	session, err := login(t, startDemo(t).Instances[0]).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	session.Stderr = &stderr
	var exit *ssh.ExitError
	if err := session.Run("date +%s"); !errors.As(err, &exit) || exit.ExitStatus() != 127 || stderr.Len() == 0 {
		t.Errorf("got %v, stderr %q", err, &stderr)
	}
}

func TestLoginNeedsThePassword(t *testing.T) {
	d := startDemo(t)
	if d.Instances[0].Password == d.Instances[1].Password {
		t.Error("two instances have the same password")
	}
	_, err := ssh.Dial("tcp", d.Instances[0].Address, &ssh.ClientConfig{
		User: "demo", Auth: []ssh.AuthMethod{ssh.Password("demo")},
		HostKeyCallback: ssh.FixedHostKey(d.Instances[0].HostKey),
	})
	if err == nil {
		t.Error("a wrong password will do")
	}
}

// TestPartsFollowEachOther looks at the seam of what is made up piece by piece.
func TestPartsFollowEachOther(t *testing.T) {
	t.Parallel()
	s := &show{seed: 3, begun: make(chan struct{})}
	s.begin()
	var last time.Time
	for p := range s.packets(App, s.start) {
		if p.Time.Before(last) {
			t.Fatalf("%v after %v", p.Time, last)
		}
		if last = p.Time; last.Sub(s.start) > 2*partLength+time.Second {
			break
		}
	}
	late := s.start.Add(partLength * 3 / 2) // as for a helper that joins the others then
	for p := range s.packets(App, late) {
		if p.Time.Before(late) {
			t.Errorf("%v too early", late.Sub(p.Time))
		}
		break
	}
}

// capture is a capture on one instance under way.
type capture struct {
	session *ssh.Session
	stdin   io.Closer
	pcap    *pcapgo.Reader
	log     remote.Log
	packets []Packet // that came
}

func startCapture(t *testing.T, instance Instance, command remote.Command) *capture {
	t.Helper()
	session, err := login(t, instance).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{session: session}
	stdin, _ := session.StdinPipe()
	stdout, _ := session.StdoutPipe()
	c.stdin, session.Stderr = stdin, &c.log
	if err := session.Start(command.Line()); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(remote.Heartbeat()); err != nil {
		t.Fatal(err)
	}
	if c.pcap, err = pcapgo.NewReader(stdout); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *capture) next(t *testing.T) Packet {
	t.Helper()
	data, info, err := c.pcap.ReadPacketData()
	if err != nil {
		t.Fatal(err)
	}
	p := Packet{Time: info.Timestamp, Data: data}
	c.packets = append(c.packets, p)
	return p
}

// rest reads what still comes.
func (c *capture) rest(t *testing.T) {
	t.Helper()
	for {
		data, info, err := c.pcap.ReadPacketData()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		c.packets = append(c.packets, Packet{Time: info.Timestamp, Data: data})
	}
}

func startDemo(t *testing.T) *Demo {
	t.Helper()
	d, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func login(t *testing.T, instance Instance) *ssh.Client {
	t.Helper()
	client, err := ssh.Dial("tcp", instance.Address, &ssh.ClientConfig{
		User: instance.User, Auth: []ssh.AuthMethod{ssh.Password(instance.Password)},
		HostKeyCallback: ssh.FixedHostKey(instance.HostKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}
