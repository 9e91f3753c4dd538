package rawserver_test

import (
	"io"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/rawserver"
)

// TestSession: what it sends is SSH, also after new keys.
func TestSession(t *testing.T) {
	failed := make(chan error, 1) // one connection's
	server, err := rawserver.Start(func(c *rawserver.Conn) { failed <- serve(c) })
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := ssh.Dial("tcp", server.Addr(), &ssh.ClientConfig{User: "x", HostKeyCallback: ssh.FixedHostKey(server.Key.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := session.StdoutPipe()
	errs, _ := session.StderrPipe()
	if err := session.Start("anything"); err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(out)
	also, _ := io.ReadAll(errs)
	exit, ok := session.Wait().(*ssh.ExitError)
	if string(said) != "before after" || string(also) != "beside" || !ok || exit.ExitStatus() != 7 {
		t.Errorf("%q %q %v", said, also, exit)
	}
	client.Close()
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

func serve(c *rawserver.Conn) error {
	if err := c.Login(); err != nil {
		return err
	}
	ch, err := c.Session(1 << 20)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return c.Data(ch, []byte("before ")) },
		c.Rekey, c.Rekey,
		func() error { return c.Data(ch, []byte("after")) },
		func() error { return c.Extended(ch, 1, []byte("beside")) },
		func() error { return c.Exit(ch, 7) },
		func() error { return c.End(ch, rawserver.MsgChannelEOF) },
		func() error { return c.End(ch, rawserver.MsgChannelClose) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	c.Discard()
	return nil
}
