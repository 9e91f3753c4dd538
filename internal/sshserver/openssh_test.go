package sshserver

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"crypto/ed25519"
	"crypto/rand"

	"golang.org/x/crypto/ssh"
)

func TestOpenSSHClient(t *testing.T) {
	identity, key := writeIdentity(t)
	handler := func(s *Session) int {
		text, _ := io.ReadAll(s.Stdin)
		fmt.Fprintf(s.Stdout, "%s: %s", s.Command, text)
		fmt.Fprint(s.Stderr, "done")
		return 9
	}
	target := start(t, &Server{User: "tester", AuthorizedKeys: []ssh.PublicKey{key}, Handler: handler})
	jump := start(t, &Server{AuthorizedKeys: []ssh.PublicKey{key}})

	config := writeConfig(t, identity, map[string]*Server{"target": target, "jump": jump})
	for _, options := range [][]string{{"target"}, {"-J", "jump", "target"}} {
		command := openSSH(t, append(append([]string{"-F", config}, options...), "count", "words")...)
		command.Stdin = strings.NewReader("one two")
		var stdout, stderr bytes.Buffer
		command.Stdout, command.Stderr = &stdout, &stderr
		if command.Run(); command.ProcessState.ExitCode() != 9 {
			t.Errorf("%v: %v, %s", options, command.ProcessState, &stderr)
		}
		if stdout.String() != "count words: one two" || stderr.String() != "done" {
			t.Errorf("%v: stdout %q, stderr %q", options, &stdout, &stderr)
		}
	}
	if jump.Forwards() != 1 {
		t.Errorf("forwards %d", jump.Forwards())
	}
}

func TestOpenSSHClientKilled(t *testing.T) {
	identity, key := writeIdentity(t)
	ended := make(chan struct{})
	s := start(t, &Server{AuthorizedKeys: []ssh.PublicKey{key}, Handler: func(s *Session) int {
		defer close(ended)
		fmt.Fprint(s.Stdout, "x")
		<-s.Context().Done()
		return 0
	}})
	command := openSSH(t, "-F", writeConfig(t, identity, map[string]*Server{"target": s}), "target", "wait")
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.Read(make([]byte, 1))
	command.Process.Kill()
	command.Wait()
	<-ended
}

// openSSH is the machine's own client, which must be there in CI.
func openSSH(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("ssh")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), path, args...)
}

// writeConfig makes a configuration that depends on nothing of the machine's.
func writeConfig(t *testing.T, identity string, hosts map[string]*Server) string {
	t.Helper()
	var config, known strings.Builder
	folder := t.TempDir()
	for name, s := range hosts {
		host, port, _ := net.SplitHostPort(s.Addr())
		fmt.Fprintf(&config, "Host %s\n  HostName %s\n  Port %s\n", name, host, port)
		fmt.Fprintf(&known, "[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(s.PublicKey()))
	}
	fmt.Fprintf(&config, "Host *\n  User tester\n  IdentityFile %s\n  IdentitiesOnly yes\n  IdentityAgent none\n", identity)
	fmt.Fprintf(&config, "  BatchMode yes\n  LogLevel ERROR\n  GlobalKnownHostsFile none\n  UserKnownHostsFile %s/known\n", folder)
	write(t, filepath.Join(folder, "known"), known.String())
	write(t, filepath.Join(folder, "config"), config.String())
	return filepath.Join(folder, "config")
}

func writeIdentity(t *testing.T) (string, ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "id")
	write(t, path, string(pem.EncodeToMemory(block)))
	return path, signer.PublicKey()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
