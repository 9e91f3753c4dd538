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

// CheckKnownHost reports whether a known_hosts file knows a host's key.
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

// Typing reports whether somebody writes to the process's standard input.
func Typing(p *Process) bool { return len(p.typing) > 0 }

// Treatments gives what becomes of each keyword of ssh_config.
func Treatments() map[string]string {
	words := map[treatment]string{used: "used", hinted: "hinted", refused: "refused", noted: "noted", harmless: "no effect"}
	list := map[string]string{}
	for name, k := range keywords {
		list[name] = words[k.treatment]
	}
	return list
}

// CanonicalKeyword gives the name under which a keyword is looked up.
func CanonicalKeyword(name string) string { return canonicalKeyword(name) }

// Assemble makes a list of algorithms.
func Assemble(preset, all []string, value string) (list, missing []string) {
	return choices{preset, all}.assemble(value)
}

// AlgorithmChoices gives what is used by default, and all that there is.
func AlgorithmChoices(keyword string) (preset, all []string) {
	c := algorithmChoices()[keyword]
	return c.preset, c.all
}

// HostKeyBase gives the host key algorithms that are put in the order of known keys.
func HostKeyBase(e Endpoint) []string { return e.hostKeyBase }

// Revoked reports what a file of RevokedHostKeys says about a key.
func Revoked(file string, key ssh.PublicKey) error { return new(revocations).check(file, key) }
