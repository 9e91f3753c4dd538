package sshx

import (
	"runtime"
	"strings"

	"golang.org/x/crypto/ssh"
)

// WaitPumps waits until so many goroutines wait for a pump to read.
func WaitPumps(readers int) {
	buf := make([]byte, 4<<20)
	for {
		n := 0
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "(*pump).take") && strings.Contains(g, "[select") {
				n++
			}
		}
		if n >= readers {
			return
		}
		runtime.Gosched()
	}
}

// Users counts who holds or waits for the connections of d.
func Users(d *Dialer) int {
	p := &d.init().pool
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, f := range p.flights {
		n += f.users
	}
	return n
}

// CheckKnownHost says whether a known_hosts file knows a host's key.
func CheckKnownHost(file string, e Endpoint, key ssh.PublicKey) error {
	d := new(Dialer)
	d.init()
	db, err := d.state.hosts.read(d, []string{file})
	if err != nil {
		return err
	}
	return d.checkHostKey(&e, db, db.host(&e), key)
}

// MostUnread bounds Unread.
const MostUnread = mostUnread

// Unread is how many bytes have come from all servers that nobody has read yet.
func Unread(d *Dialer) int64 { return d.init().backlog.all.Load() }

// Came is how many bytes have been read from all servers with which connections are shared.
func Came(d *Dialer) (sum int64) {
	p := &d.init().pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flights {
		if f.t != nil {
			sum += f.t.sock.received.Load()
		}
	}
	return sum
}

// Typing says whether somebody writes to the process's standard input.
func Typing(p *Process) bool { return len(p.typing) > 0 }
