package cf_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/cftest/api"
)

// join copies both ways until either end is closed.
func join(a, b net.Conn) {
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // ends with either connection
			pair[0].Close()
			pair[1].Close()
		})
	}
	both.Wait()
}

// joinTo answers CONNECT with a connection to address, whatever was asked for.
func joinTo(w http.ResponseWriter, address string) {
	to, err := net.Dial("tcp", address)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	from, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		to.Close()
		return
	}
	fmt.Fprint(from, "HTTP/1.1 200 OK\r\n\r\n")
	join(from, to)
}

// serve accepts connections until the test ends.
func serve(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	var mu sync.Mutex
	var all []net.Conn
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, conn)
			mu.Unlock()
			work.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range all {
			conn.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return l.Addr().String()
}

// socks is a SOCKS 5 proxy (RFC 1928, RFC 1929) that connects everybody to one address, and says what was asked for.
func socks(t testing.TB, to string, asked chan<- string) string {
	return serve(t, func(c net.Conn) {
		name, err := greet(c)
		if err != nil {
			return
		}
		asked <- name
		out, err := net.Dial("tcp", to)
		if err != nil {
			_, _ = c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0}) // connection refused
			return
		}
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		join(c, out)
	})
}

// greet reads what the client wants, with the user ann and the password sesame.
func greet(c net.Conn) (string, error) {
	next := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(c, b) // what is missing is zero
		return b
	}
	next(int(next(2)[1]))
	_, _ = c.Write([]byte{5, 2}) // the password, please
	user := next(int(next(2)[1]))
	password := next(int(next(1)[0]))
	if string(user) != "ann" || string(password) != "sesame" {
		_, _ = c.Write([]byte{1, 1})
		return "", errors.New("wrong password")
	}
	_, _ = c.Write([]byte{1, 0})
	var host string
	switch next(4)[3] {
	case 1:
		host = net.IP(next(4)).String()
	case 3:
		host = string(next(int(next(1)[0])))
	}
	port := next(2)
	return fmt.Sprintf("%s:%d", host, int(port[0])<<8|int(port[1])), nil
}

// sshProxy is the platform's: one key exchange, few ciphers, one-time codes.
type sshProxy struct {
	*api.Server
	address string
	signer  ssh.Signer
	mode    string // "" runs commands, which end at once; "hang up", "refuse": the container does not answer

	mu    sync.Mutex
	users []string
}

func startProxy(t testing.TB, s *api.Server, signer ssh.Signer) *sshProxy {
	t.Helper()
	p := &sshProxy{Server: s, signer: signer}
	config := &ssh.ServerConfig{PasswordCallback: p.login, MaxAuthTries: 1}
	config.KeyExchanges = []string{"curve25519-sha256@libssh.org"}
	config.Ciphers = []string{"aes128-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr"}
	config.AddHostKey(signer)
	p.address = serve(t, func(c net.Conn) { p.serve(c, config) })
	return p
}

func (p *sshProxy) login(c ssh.ConnMetadata, code []byte) (*ssh.Permissions, error) {
	p.mu.Lock()
	p.users = append(p.users, c.User())
	p.mu.Unlock()
	var guid string
	var index int
	for i := len(c.User()) - 1; i > 0; i-- {
		if c.User()[i] == '/' {
			guid = c.User()[len("cf:"):i]
			_, _ = fmt.Sscan(c.User()[i+1:], &index)
			break
		}
	}
	if _, ok := p.TakeCode(string(code)); !ok || !p.MayLogin(guid, index) {
		return nil, errors.New("denied")
	}
	return nil, nil
}

func (p *sshProxy) serve(c net.Conn, config *ssh.ServerConfig) {
	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	var work sync.WaitGroup
	defer work.Wait()
	defer conn.Close()
	work.Go(func() { ssh.DiscardRequests(requests) })
	for open := range channels {
		if p.mode == "hang up" {
			return
		}
		ch, requests, err := open.Accept()
		if err != nil {
			return
		}
		work.Go(func() {
			for r := range requests {
				_ = r.Reply(r.Type == "exec" && p.mode != "refuse", nil)
				if r.Type == "exec" && p.mode != "refuse" {
					_, _ = ch.SendRequest("exit-status", false, make([]byte, 4))
					ch.Close()
				}
			}
		})
	}
}
