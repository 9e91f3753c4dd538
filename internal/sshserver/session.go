package sshserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// NoStatus as a Handler's result closes the session without an exit status, as a server that dies does.
const NoStatus = -1

// Session is one command of a client.
type Session struct {
	User    string
	Command string   // "" when the client asked for a shell
	Env     []string // NAME=value as the client set them
	Asked   []string // types of the requests before the command, refused ones too: "env", "pty-req", …

	Stdin          io.Reader // ends when the client closes it, or when the session is cut
	Stdout, Stderr io.Writer // fail once the session is cut; a slow client holds them up

	// Signals has the names without SIG. Those that nobody takes are dropped beyond the first few; it is never closed.
	Signals <-chan string

	LocalAddr, RemoteAddr net.Addr
	Connection            string // as sshd sets SSH_CONNECTION: "client port server port"

	ctx        context.Context
	channel    ssh.Channel
	conn       ssh.Conn
	exitSignal string
	beside     *sync.WaitGroup
}

// Context ends when the channel or its connection is closed, by whichever side.
func (s *Session) Context() context.Context { return s.ctx }

// ExitSignal makes the session end as one killed by a signal ("KILL"), whatever the handler returns.
func (s *Session) ExitSignal(name string) { s.exitSignal = name }

// Go runs f beside the handler, for what may outlive it by a little, such as a Read of Stdin. The server's Close waits
// for it, so f must end when Stdin does or the context.
func (s *Session) Go(f func()) { s.beside.Go(f) }

// CloseStdout ends Stdout and Stderr while the command goes on.
func (s *Session) CloseStdout() error { return s.channel.CloseWrite() }

// CloseConnection closes the SSH connection with all its sessions.
func (s *Session) CloseConnection() error { return s.conn.Close() }

// connection is one client's connection after its login.
type connection struct {
	server *Server
	link   *ssh.ServerConn
	slots  atomic.Int64 // sessions open, for MaxSessions
}

// answer refuses global requests, keep-alives among them, as sshd does: any answer shows that we live.
func (c *connection) answer(requests <-chan *ssh.Request) {
	for request := range requests {
		if request.WantReply && !c.server.IgnoreKeepAlive {
			request.Reply(false, nil)
		}
	}
}

// open serves one channel and returns when all that ran for it has ended.
func (c *connection) open(ctx context.Context, open ssh.NewChannel) {
	switch open.ChannelType() {
	case "session":
		c.openSession(ctx, open)
	case "direct-tcpip":
		c.openForward(ctx, open)
	default:
		open.Reject(ssh.UnknownChannelType, "unsupported channel type")
	}
}

func (c *connection) openSession(ctx context.Context, open ssh.NewChannel) {
	limit := int64(c.server.MaxSessions)
	if n := c.slots.Add(1); limit > 0 && n > limit {
		c.slots.Add(-1)
		open.Reject(ssh.ConnectionFailed, "open failed") // the words and the reason of sshd at MaxSessions
		return
	}
	free := sync.OnceFunc(func() { c.slots.Add(-1) })
	defer free()
	channel, requests, err := open.Accept()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.runSession(ctx, cancel, channel, requests, free)
}

// runSession takes the channel's requests until it is closed, runs the command, and waits for it.
func (c *connection) runSession(ctx context.Context, cancel func(), channel ssh.Channel, requests <-chan *ssh.Request, free func()) {
	signals := make(chan string, 16) // written below, never closed
	var command sync.WaitGroup
	session := &Session{
		User: c.link.User(), Stdin: channel, Stdout: channel, Stderr: channel.Stderr(), Signals: signals,
		LocalAddr: c.link.LocalAddr(), RemoteAddr: c.link.RemoteAddr(),
		Connection: connectionText(c.link.RemoteAddr(), c.link.LocalAddr()),
		ctx:        ctx, channel: channel, conn: c.link, beside: &command,
	}
	started := false
	for request := range requests {
		ok := false
		switch {
		case request.Type == "signal":
			ok = c.signal(request.Payload, signals)
		case started: // the session is the handler's now
		case request.Type == "exec" || request.Type == "shell":
			ok = !c.server.RefuseExec && session.setCommand(request)
			started = ok
		default:
			ok = session.prepare(request)
		}
		if request.WantReply {
			request.Reply(ok, nil)
		}
		if ok && (request.Type == "exec" || request.Type == "shell") {
			c.server.sessions.Add(1)
			command.Go(func() { c.run(session, free) })
		}
	}
	cancel()
	command.Wait()
}

// run calls the handler and reports how it ended. The counts go down before the client is told, so that whoever has
// seen a command end finds them right.
func (c *connection) run(session *Session, free func()) {
	status := 0
	if c.server.Handler != nil {
		status = c.server.Handler(session)
	}
	c.server.sessions.Add(-1)
	free()
	switch {
	case session.exitSignal != "":
		session.channel.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{Name: session.exitSignal}))
	case status != NoStatus:
		session.channel.SendRequest("exit-status", false, ssh.Marshal(exitStatus{Status: uint32(status)}))
	}
	session.channel.CloseWrite()
	session.channel.Close()
}

func (c *connection) signal(payload []byte, signals chan<- string) bool {
	var message struct{ Name string }
	if c.server.IgnoreSignals || ssh.Unmarshal(payload, &message) != nil {
		return false
	}
	select {
	case signals <- message.Name:
		return true
	default:
		return false
	}
}

// setCommand takes the command of an exec request; a shell request is one without a command.
func (s *Session) setCommand(request *ssh.Request) bool {
	s.Asked = append(s.Asked, request.Type)
	if request.Type == "shell" {
		return true
	}
	var message struct{ Command string }
	if ssh.Unmarshal(request.Payload, &message) != nil {
		return false
	}
	s.Command = message.Command
	return true
}

// prepare handles what may come before the command. Only the environment is granted.
func (s *Session) prepare(request *ssh.Request) bool {
	const most = 64 // a client that asks for ever must not fill our memory
	if len(s.Asked) >= most {
		return false
	}
	s.Asked = append(s.Asked, request.Type)
	var variable struct{ Name, Value string }
	if request.Type != "env" || ssh.Unmarshal(request.Payload, &variable) != nil {
		return false
	}
	s.Env = append(s.Env, variable.Name+"="+variable.Value)
	return true
}

// exitStatus and exitSignal are the messages of RFC 4254 section 6.10.
type exitStatus struct{ Status uint32 }

type exitSignal struct {
	Name     string
	Core     bool
	Message  string
	Language string
}

func connectionText(client, server net.Addr) string {
	clientHost, clientPort, _ := net.SplitHostPort(client.String())
	serverHost, serverPort, _ := net.SplitHostPort(server.String())
	return fmt.Sprintf("%s %s %s %s", clientHost, clientPort, serverHost, serverPort)
}
