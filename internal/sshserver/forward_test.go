package sshserver

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestJumpHost(t *testing.T) {
	jump := start(t, &Server{})
	target := start(t, &Server{Handler: func(s *Session) int {
		text, _ := io.ReadAll(s.Stdin)
		s.Stdout.Write(text)
		return 5
	}})
	conn, err := dial(t, jump).Dial("tcp", target.Addr())
	if err != nil {
		t.Fatal(err)
	}
	link, channels, requests, err := ssh.NewClientConn(conn, target.Addr(), clientConfig(target))
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(link, channels, requests)
	defer client.Close()
	wantStatus(t, open(t, client).Run("x"), 5)
	if jump.Forwards() != 1 || target.Accepted() != 1 {
		t.Errorf("forwards %d, accepted %d", jump.Forwards(), target.Accepted())
	}
}

func TestForwardPassesOnEachEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan string, 1)
	go func() {
		defer close(got)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "greeting")
		conn.(*net.TCPConn).CloseWrite() // and still listens
		text, _ := io.ReadAll(conn)
		got <- string(text)
	}()
	conn, err := dial(t, start(t, &Server{})).Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if text, err := io.ReadAll(conn); err != nil || string(text) != "greeting" {
		t.Errorf("got %q, %v", text, err)
	}
	io.WriteString(conn, "answer")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if text := <-got; text != "answer" {
		t.Errorf("the target got %q", text)
	}
}

func TestForwardRefused(t *testing.T) {
	nowhere := func(context.Context, string) (net.Conn, error) { return nil, errors.New("no route") }
	for reason, s := range map[ssh.RejectionReason]*Server{
		ssh.Prohibited:       {NoForwarding: true},
		ssh.ConnectionFailed: {Dial: nowhere},
	} {
		_, err := dial(t, start(t, s)).Dial("tcp", "192.0.2.1:22")
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || refused.Reason != reason {
			t.Errorf("got %v, want reason %v", err, reason)
		}
	}
}

func TestCloseEndsForwards(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := start(t, &Server{})
	if _, err := dial(t, s).Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the forwarded connection is still open")
	}
}
