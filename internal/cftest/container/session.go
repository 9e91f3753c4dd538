package container

import (
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// session serves one channel until it is closed and its command has ended. The end of the connection or of the channel
// ends the command's input, and nothing else of it.
func (c *Container) session(open ssh.NewChannel) {
	channel, requests, err := open.Accept()
	if err != nil {
		return
	}
	var work sync.WaitGroup
	var env []string
	var process *os.Process         // the direct child
	answered := make(chan struct{}) // closed when the client has been told that the command runs
	for r := range requests {
		ok, started := false, false
		switch {
		case r.Type == "signal":
			ok = true // whatever becomes of it
			signal(process, r.Payload)
		case r.Type == "env" && process == nil:
			var v struct{ Name, Value string }
			if ok = len(env) < 64 && ssh.Unmarshal(r.Payload, &v) == nil; ok {
				env = append(env, v.Name+"="+v.Value)
			}
		case r.Type == "exec" && process == nil:
			var v struct{ Command string }
			ok = ssh.Unmarshal(r.Payload, &v) == nil
			if ok {
				process, ok = c.start(channel, &work, answered, c.command(v.Command, env))
				started = ok
			}
		}
		if r.WantReply {
			r.Reply(ok, nil)
		}
		if started {
			close(answered)
		}
	}
	work.Wait()
}

// start runs a command on the channel, which is not closed before answered is.
func (c *Container) start(channel ssh.Channel, work *sync.WaitGroup, answered <-chan struct{}, cmd *exec.Cmd) (*os.Process, bool) {
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.crashed || cmd.Start() != nil {
		stdin.Close()
		return nil, false
	}
	c.started++
	c.running++
	// It ends with the channel, at the latest when the command has ended.
	work.Go(func() {
		io.Copy(stdin, channel)
		stdin.Close()
	})
	work.Go(func() {
		cmd.Wait() // and for all that it writes
		c.mu.Lock()
		c.running--
		c.mu.Unlock()
		<-answered
		tell(channel, cmd.ProcessState)
		channel.Close()
	})
	return cmd.Process, true
}

// tell says how the command ended.
func tell(channel ssh.Channel, state *os.ProcessState) {
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name     string
			Core     bool
			Message  string
			Language string
		}{Name: signalName(status.Signal()), Core: status.CoreDump()}))
		return
	}
	channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(state.ExitCode())}))
}

// signals are those that an SSH client can send.
var signals = map[string]syscall.Signal{
	"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP, "ILL": syscall.SIGILL,
	"INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE, "QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV,
	"TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
}

// signal sends a signal to the direct child, and only to it. One that is not known is nothing.
func signal(process *os.Process, payload []byte) {
	var v struct{ Name string }
	if process == nil || ssh.Unmarshal(payload, &v) != nil {
		return
	}
	if s, ok := signals[v.Name]; ok {
		process.Signal(s)
	}
}

func signalName(s syscall.Signal) string {
	for name, number := range signals {
		if number == s {
			return name
		}
	}
	return "TERM"
}
