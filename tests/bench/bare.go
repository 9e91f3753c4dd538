package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// bareEnv makes this program what sshpcap is compared with: the SSH library alone, which logs in everywhere at once,
// starts a command on each connection and throws away what it says.
const bareEnv = "SSHPCAP_BENCH_BARE"

// bare is that, if the environment says so: with the private key, the host key and the addresses from standard input.
// It says "connected" when the handshakes are over, "running" when all commands run, and ends with its input; or, where the
// environment names a number of bytes, when each command has given so many.
func bare() bool {
	if os.Getenv(bareEnv) == "" {
		return false
	}
	b := bareClient{}
	b.most, _ = strconv.ParseInt(os.Getenv(bareEnv), 10, 64)
	fatal(b.run())
	return true
}

type bareClient struct {
	config ssh.ClientConfig
	conns  []*ssh.Client
	most   int64 // bytes that are taken of each; 1 = as many as there are
}

func (b *bareClient) run() error {
	var key, hostKey, addresses string
	fmt.Scanf("%s %s %s\n", &key, &hostKey, &addresses)
	private, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return err
	}
	known, _, _, _, err := ssh.ParseAuthorizedKey([]byte("ssh-ed25519 " + hostKey))
	if err != nil {
		return err
	}
	b.config = ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(known)}
	list := strings.Split(addresses, ",")
	b.conns = make([]*ssh.Client, len(list))
	if err := b.all("connected", func(i int) error { return b.dial(i, list[i]) }); err != nil {
		return err
	}
	if err := b.all("running", func(i int) error { return b.start(b.conns[i]) }); err != nil {
		return err
	}
	if b.most <= 1 {
		io.Copy(io.Discard, os.Stdin)
	}
	return nil
}

// all does something on all connections at once, and says when that is done.
func (b *bareClient) all(done string, f func(i int) error) error {
	errs := make([]error, len(b.conns))
	var all sync.WaitGroup
	for i := range b.conns {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	fmt.Println(done)
	return nil
}

func (b *bareClient) dial(i int, address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		return err
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, address, &b.config)
	if err != nil {
		return err
	}
	b.conns[i] = ssh.NewClient(c, chans, reqs)
	return nil
}

func (b *bareClient) start(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	// As small as can be: a session of the library would start goroutines for what is not taken.
	out, err := s.StdoutPipe()
	if err != nil {
		return err
	}
	if _, err := s.StdinPipe(); err != nil {
		return err
	}
	if err := s.Start("tcpdump"); err != nil {
		return err
	}
	if b.most > 1 {
		return takeAll(out, b.most)
	}
	var first [1]byte
	if _, err := io.ReadFull(out, first[:]); err != nil {
		return err
	}
	go io.Copy(io.Discard, out)
	return nil
}
