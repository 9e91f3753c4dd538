package bed

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Proxy stands between the client and a host's SSH server and delays what it passes on, each way.
type Proxy struct {
	Port int // where it listens, on the hub's address

	to            *Host
	delay, jitter time.Duration
	listener      net.Listener
	wg            sync.WaitGroup
	mu            sync.Mutex
	conns         []net.Conn
}

// HubAddr is the hub's address.
var HubAddr = address(0, 1)

// Delay makes a proxy in the hub. Every stretch of bytes comes delay later, give or take jitter; never before one that was
// sent earlier.
func (b *Bed) Delay(to *Host, delay, jitter time.Duration) *Proxy {
	b.t.Helper()
	p := &Proxy{to: to, delay: delay, jitter: jitter}
	must(b.t, b.Hub.Do(func() (err error) { p.listener, err = net.Listen("tcp4", HubAddr+":0"); return err }))
	p.Port = p.listener.Addr().(*net.TCPAddr).Port
	p.wg.Go(func() { p.accept() })
	b.t.Cleanup(p.close)
	return p
}

// SSHConfig is a block for the client's configuration, by which name is the host behind the proxy.
func (p *Proxy) SSHConfig(name string) string {
	return fmt.Sprintf("Host %s\n  HostName %s\n  Port %d\n  User %s\n  HostKeyAlias %s\n", name, HubAddr, p.Port, p.to.options.User, p.to.Addr)
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		var far net.Conn
		err = p.to.bed.Hub.Do(func() (err error) {
			far, err = net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", p.to.Addr, p.to.Port), 5*time.Second)
			return err
		})
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(near, far) })
		p.wg.Go(func() { p.pass(far, near) })
	}
}

// pass hands on what comes, late, and the end of it.
func (p *Proxy) pass(to, from net.Conn) {
	type stretch struct {
		due  time.Time
		data []byte
	}
	queue := make(chan stretch, 4096) // closed by the goroutine below
	p.wg.Go(func() {
		defer close(queue)
		var last time.Time
		for {
			buf := make([]byte, 16<<10)
			n, err := from.Read(buf)
			due := time.Now().Add(p.delay - p.jitter + rand.N(2*p.jitter+1))
			if due.Before(last) {
				due = last
			}
			last = due
			if n > 0 {
				queue <- stretch{due, buf[:n]}
			}
			if err != nil {
				return
			}
		}
	})
	for s := range queue {
		time.Sleep(time.Until(s.due))
		if _, err := to.Write(s.data); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	for range queue {
	}
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
