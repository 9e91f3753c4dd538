package tests

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sshpcap/sshpcap/tests/bed"
)

// serveAgent moves the client's key from its home into an agent, and returns the agent's socket.
func serveAgent(t *testing.T, b *bed.Bed) string {
	t.Helper()
	path := filepath.Join(b.Home(), ".ssh", "id_ed25519")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path, path + ".pub"} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(b.Home(), "agent.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				agent.ServeAgent(keys, conn)
			}()
		}
	}()
	return socket
}
