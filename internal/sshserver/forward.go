package sshserver

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// forwardTo is the message of RFC 4254 section 7.2.
type forwardTo struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// openForward joins a direct-tcpip channel with a TCP connection until both sides have ended, or ctx has.
func (c *connection) openForward(ctx context.Context, open ssh.NewChannel) {
	var to forwardTo
	if ssh.Unmarshal(open.ExtraData(), &to) != nil {
		open.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	if c.server.NoForwarding {
		open.Reject(ssh.Prohibited, "open failed")
		return
	}
	target, err := c.server.dial(ctx, net.JoinHostPort(to.Host, strconv.FormatUint(uint64(to.Port), 10)))
	if err != nil {
		open.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer target.Close()
	channel, requests, err := open.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	c.server.forwards.Add(1)
	join(ctx, target, channel, requests)
}

func (s *Server) dial(ctx context.Context, address string) (net.Conn, error) {
	if s.Dial != nil {
		return s.Dial(ctx, address)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", address)
}

// join copies both ways and passes on each side's end of data. It returns when the channel is closed. Its requests end
// when the client closes it, and then nobody reads what the target would still send.
func join(ctx context.Context, target net.Conn, channel ssh.Channel, requests <-chan *ssh.Request) {
	stop := context.AfterFunc(ctx, func() { target.Close() })
	defer stop()
	var copies, rest sync.WaitGroup
	rest.Go(func() {
		ssh.DiscardRequests(requests)
		target.Close()
	})
	copies.Go(func() {
		io.Copy(target, channel)
		if tcp, ok := target.(*net.TCPConn); ok {
			tcp.CloseWrite()
		}
	})
	io.Copy(channel, target)
	channel.CloseWrite()
	copies.Wait()
	channel.Close()
	rest.Wait()
}
