package sshserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHandlerGetsCommandAndStreams(t *testing.T) {
	s := start(t, &Server{Handler: func(s *Session) int {
		text, err := io.ReadAll(s.Stdin)
		fmt.Fprintf(s.Stdout, "%s|%s|%s|%v", s.User, s.Command, text, err)
		fmt.Fprint(s.Stderr, strings.Join(s.Env, " "))
		return 7
	}})
	session := open(t, dial(t, s))
	session.Stdin = strings.NewReader("in")
	var stdout, stderr bytes.Buffer
	session.Stdout, session.Stderr = &stdout, &stderr
	if err := session.Setenv("LANG", "C"); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, session.Run("show it"), 7)
	if got := stdout.String(); got != "tester|show it|in|<nil>" {
		t.Errorf("stdout %q", got)
	}
	if got := stderr.String(); got != "LANG=C" {
		t.Errorf("stderr %q", got)
	}
}

func TestZeroServerEndsCommandsWell(t *testing.T) {
	s := start(t, &Server{})
	if err := open(t, dial(t, s)).Run("anything"); err != nil {
		t.Fatal(err)
	}
	if s.Accepted() != 1 || s.Sessions() != 0 {
		t.Errorf("accepted %d, sessions %d", s.Accepted(), s.Sessions())
	}
}

func TestConnectionText(t *testing.T) {
	s := start(t, &Server{Handler: func(s *Session) int {
		fmt.Fprint(s.Stdout, s.Connection)
		return 0
	}})
	client := dial(t, s)
	got, err := open(t, client).Output("x")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(client.LocalAddr().String()+" "+s.Addr(), ":", " ")
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWaysToEnd(t *testing.T) {
	s := start(t, &Server{Handler: func(s *Session) int {
		switch s.Command {
		case "killed":
			s.ExitSignal("KILL")
		case "no status":
			return NoStatus
		case "cut":
			s.CloseConnection()
		}
		return 0
	}})
	for _, command := range []string{"no status", "cut"} {
		var missing *ssh.ExitMissingError
		if err := open(t, dial(t, s)).Run(command); !errors.As(err, &missing) {
			t.Errorf("%s: got %v, want a missing status", command, err)
		}
	}
	var exit *ssh.ExitError
	if err := open(t, dial(t, s)).Run("killed"); !errors.As(err, &exit) || exit.Signal() != "KILL" {
		t.Errorf("killed: got %v", err)
	}
}

func TestSignals(t *testing.T) {
	s := start(t, &Server{Handler: func(s *Session) int {
		fmt.Fprint(s.Stdout, <-s.Signals)
		return 0
	}})
	session := open(t, dial(t, s))
	var stdout bytes.Buffer
	session.Stdout = &stdout
	if err := session.Start("wait"); err != nil {
		t.Fatal(err)
	}
	session.Signal(ssh.SIGINT)
	if err := session.Wait(); err != nil || stdout.String() != "INT" {
		t.Errorf("got %q, %v", stdout.String(), err)
	}
}

func TestIgnoredSignalsAreNotDelivered(t *testing.T) {
	s := start(t, &Server{IgnoreSignals: true, Handler: func(s *Session) int {
		io.Copy(io.Discard, s.Stdin) // sent after the signal
		select {
		case <-s.Signals:
			return 1
		default:
			return 0
		}
	}})
	session := open(t, dial(t, s))
	stdin, _ := session.StdinPipe()
	if err := session.Start("wait"); err != nil {
		t.Fatal(err)
	}
	session.Signal(ssh.SIGINT)
	stdin.Close()
	if err := session.Wait(); err != nil {
		t.Error(err)
	}
}

func TestContextEnds(t *testing.T) {
	tests := map[string]func(*Server, *ssh.Client, *ssh.Session){
		"channel closed":    func(_ *Server, _ *ssh.Client, session *ssh.Session) { session.Close() },
		"client closed":     func(_ *Server, client *ssh.Client, _ *ssh.Session) { client.Close() },
		"connections cut":   func(s *Server, _ *ssh.Client, _ *ssh.Session) { s.CloseConnections() },
		"the server closed": func(s *Server, _ *ssh.Client, _ *ssh.Session) { s.Close() },
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			running, ended := make(chan bool), make(chan error, 1)
			s := start(t, &Server{Handler: func(s *Session) int {
				running <- true
				<-s.Context().Done()
				_, err := s.Stdin.Read(make([]byte, 1))
				ended <- err
				return 0
			}})
			client := dial(t, s)
			session := open(t, client)
			if _, err := session.StdinPipe(); err != nil {
				t.Fatal(err)
			}
			if err := session.Start("wait"); err != nil {
				t.Fatal(err)
			}
			<-running
			if s.Sessions() != 1 || s.Connections() != 1 {
				t.Errorf("sessions %d, connections %d", s.Sessions(), s.Connections())
			}
			end(s, client, session)
			if err := <-ended; err != io.EOF {
				t.Errorf("stdin: %v", err)
			}
			eventually(t, func() bool { return s.Sessions() == 0 })
		})
	}
}

func TestStdoutEndsBeforeTheCommand(t *testing.T) {
	s := start(t, &Server{Handler: func(s *Session) int {
		s.CloseStdout()
		io.Copy(io.Discard, s.Stdin)
		return 3
	}})
	session := open(t, dial(t, s))
	stdin, _ := session.StdinPipe()
	stdout, _ := session.StdoutPipe()
	if err := session.Start("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stdout); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	wantStatus(t, session.Wait(), 3)
}

func TestCloseWaitsForWhatRunsBeside(t *testing.T) {
	var ended atomic.Bool
	s := start(t, &Server{Handler: func(s *Session) int {
		s.Go(func() {
			io.Copy(io.Discard, s.Stdin)
			ended.Store(true)
		})
		return 0
	}})
	session := open(t, dial(t, s))
	if _, err := session.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := session.Run("x"); err != nil {
		t.Fatal(err)
	}
	if s.Close(); !ended.Load() {
		t.Error("Close did not wait")
	}
}

func TestMaxSessions(t *testing.T) {
	s := start(t, &Server{MaxSessions: 1, Handler: func(s *Session) int {
		io.Copy(io.Discard, s.Stdin)
		return 0
	}})
	client := dial(t, s)
	for range 20 { // a session that has ended has left its place
		session := open(t, client)
		stdin, _ := session.StdinPipe()
		if err := session.Start("x"); err != nil {
			t.Fatal(err)
		}
		_, err := client.NewSession()
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || refused.Reason != ssh.ConnectionFailed || refused.Message != "open failed" {
			t.Fatalf("second session: %v", err)
		}
		stdin.Close()
		if err := session.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := start(t, &Server{RefuseExec: true})
	session := open(t, dial(t, s))
	if err := session.RequestPty("xterm", 24, 80, nil); err == nil {
		t.Error("a terminal was granted")
	}
	if err := session.RequestSubsystem("sftp"); err == nil {
		t.Error("a subsystem was granted")
	}
	if err := session.Start("x"); err == nil {
		t.Error("the command was granted")
	}
	if _, _, err := dial(t, s).OpenChannel("x11", nil); err == nil {
		t.Error("a strange channel was granted")
	}
}

func TestAskedTellsWhatCameBefore(t *testing.T) {
	s := start(t, &Server{Handler: func(s *Session) int {
		fmt.Fprint(s.Stdout, s.Asked)
		return 0
	}})
	session := open(t, dial(t, s))
	session.RequestPty("xterm", 24, 80, nil)
	got, err := session.Output("x")
	if err != nil || string(got) != "[pty-req exec]" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestKeepAlive(t *testing.T) {
	if _, _, err := dial(t, start(t, &Server{})).SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Error(err)
	}

	client := dial(t, start(t, &Server{IgnoreKeepAlive: true}))
	answered := make(chan error, 1)
	go func() {
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	if err := open(t, client).Run("the server has seen the request before this"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-answered:
		t.Error("answered")
	default:
	}
	client.Close()
	<-answered
}

func TestBeforeVersion(t *testing.T) {
	s := start(t, &Server{BeforeVersion: func(net.Conn) error { return errors.New("full") }})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, _ := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("came: %q", got)
	}

	// Close does not wait for a hook that waits for the client.
	waiting := make(chan bool)
	s = start(t, &Server{BeforeVersion: func(conn net.Conn) error {
		close(waiting)
		_, err := conn.Read(make([]byte, 1))
		return err
	}})
	silent, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	<-waiting
	s.Close()
}

func TestCloseTwiceAndUnstarted(t *testing.T) {
	s := start(t, &Server{})
	for _, s := range []*Server{s, s, {}} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("still listens")
	}
}

func TestHostKeysOffered(t *testing.T) {
	first, second := newKey(t), newKey(t)
	s := start(t, &Server{HostKey: first, Version: "SSH-2.0-Test"})
	client := dial(t, s)
	if got := string(client.ServerVersion()); got != "SSH-2.0-Test" {
		t.Errorf("version %q", got)
	}
	if !bytes.Equal(s.PublicKey().Marshal(), first.PublicKey().Marshal()) {
		t.Error("not the key that was given")
	}
	config := clientConfig(s)
	config.HostKeyCallback = ssh.FixedHostKey(second.PublicKey())
	if _, err := ssh.Dial("tcp", s.Addr(), config); err == nil {
		t.Error("another key was accepted")
	}
}

func start(t *testing.T, s *Server) *Server {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func clientConfig(s *Server) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: "tester", HostKeyCallback: ssh.FixedHostKey(s.PublicKey())}
}

func dial(t *testing.T, s *Server) *ssh.Client {
	t.Helper()
	client, err := ssh.Dial("tcp", s.Addr(), clientConfig(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func open(t *testing.T, client *ssh.Client) *ssh.Session {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func newKey(t *testing.T) ssh.Signer {
	t.Helper()
	key, err := newHostKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func wantStatus(t *testing.T, err error, status int) {
	t.Helper()
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != status {
		t.Errorf("got %v, want status %d", err, status)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never happens")
		}
	}
}
