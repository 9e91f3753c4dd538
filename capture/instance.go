package capture

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// instance is one place that is captured on: one connection, and one stream for each network interface.
type instance struct {
	Instance
	run     *run
	streams []*stream

	late bool // it was not there from the beginning

	gone      atomic.Bool  // it is no more, says Discover
	ever      atomic.Bool  // one of its streams has opened
	capturing atomic.Int64 // streams that are open now

	asking sync.Once    // for about
	about  remote.About // asked for only where an interface is not there

	mu      sync.Mutex
	problem error  // why it could not be captured on at all
	address string // of the server, as we see it; through a jump host we do not
	away    bool   // its going was told, its coming back was not
	tried   bool   // a first try has failed, and that was told; there may be others
}

func newInstance(r *run, cfg Instance) *instance {
	in := &instance{Instance: cfg, run: r}
	if in.Target == "" {
		in.Target = in.Name
	}
	for _, name := range cfg.interfaces() {
		in.streams = append(in.streams, &stream{instance: in, iface: name})
	}
	return in
}

// capture connects, captures on all interfaces until told to stop, and returns when nothing of it is left. When
// following, it does so again and again.
func (in *instance) capture() {
	var wait backoff
	for {
		before := time.Now()
		var err error
		if !in.gone.Load() && !in.expired() {
			err = in.once()
		}
		senseless := sshx.KindOf(err) == sshx.KindConfig // the configuration is read once
		if !in.run.cfg.Follow || in.run.active.Err() != nil || in.finished() || senseless {
			in.end(err)
			return
		}
		if err != nil {
			for _, s := range in.streams {
				s.failedOnce(err)
			}
			in.unreachable(err)
		}
		if time.Since(before) > mostPause || in.gone.Load() { // one that comes back is not kept waiting
			wait.reset()
		}
		if !wait.pause(in.run.active) {
			in.end(err)
			return
		}
	}
}

// finished reports whether no stream is tried any more.
func (in *instance) finished() bool {
	for _, s := range in.streams {
		if !s.isDone() {
			return false
		}
	}
	return true
}

// expired reports whether no stream is tried any more, since their time is over.
func (in *instance) expired() bool {
	for _, s := range in.streams {
		s.expire()
	}
	return in.finished()
}

// once connects and captures until the connection or all streams have ended. The error is that of connecting.
func (in *instance) once() error {
	conn, err := in.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	in.captureOn(conn)
	return nil
}

// captureOn captures on a connection until it or all streams have ended.
func (in *instance) captureOn(conn *sshx.Conn) {
	// A dead link must not hold up the ending of a cut capture.
	defer context.AfterFunc(in.run.alive, func() { conn.Close() })()

	var others sync.WaitGroup
	for _, s := range in.streams[1:] {
		if !s.isDone() {
			others.Go(func() { s.capture(conn) })
		}
	}
	if s := in.streams[0]; !s.isDone() {
		s.capture(conn)
	}
	others.Wait()
}

func (in *instance) connect() (*sshx.Conn, error) {
	in.mu.Lock()
	dial := in.Dial
	in.mu.Unlock()
	conn, err := dial(in.run.active)
	if err != nil {
		return nil, in.explain(err)
	}
	in.run.cfg.Progress.Connected.Add(1)
	in.reached(conn)
	return conn, nil
}

// reached notes where the instance was reached.
func (in *instance) reached(conn *sshx.Conn) {
	if !conn.Jumped() {
		in.mu.Lock()
		in.address = conn.RemoteAddr().String()
		in.mu.Unlock()
	}
}

// update says how the instance is reached from now on.
func (in *instance) update(cfg Instance) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.Dial, in.Explain, in.SelfFilter, in.ID = cfg.Dial, cfg.Explain, cfg.SelfFilter, cfg.ID
	in.Description, in.Instance.Address, in.HostName = cfg.Description, cfg.Address, cfg.HostName
	in.gone.Store(false)
}

// settings are what is known of it now.
func (in *instance) settings() Instance {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.Instance
}

// end finishes the streams that have not finished by themselves. err is why there was no connection in the end.
func (in *instance) end(err error) {
	if in.run.active.Err() != nil {
		err = errNotCapturing // because we no longer wanted to
	}
	if err != nil && !errors.Is(err, errNotCapturing) && !in.opened() {
		in.mu.Lock()
		told := in.tried
		in.problem = err
		in.mu.Unlock()
		if !told {
			in.run.failed(in, err)
		}
	}
	for _, s := range in.streams {
		s.finish(err)
	}
}

// unreachable tells, once, that an instance cannot be captured on yet, while it is tried on.
func (in *instance) unreachable(err error) {
	in.mu.Lock()
	told := in.tried || in.away
	in.tried = true
	in.mu.Unlock()
	if !told {
		in.run.failed(in, err)
	}
}

// leave tells, once, that a stream was lost which will be tried again.
func (in *instance) leave(err error) {
	if !in.opened() {
		in.unreachable(err)
		return
	}
	in.mu.Lock()
	told := in.away || in.tried
	in.away = true
	in.mu.Unlock()
	if !told {
		in.run.emit(Event{Kind: Left, Instance: in.Name, Err: err})
	}
}

// join notes that a stream captures, and tells so when that was not to be expected.
func (in *instance) join() {
	in.ever.Store(true)
	if in.capturing.Add(1) == 1 {
		in.run.cfg.Progress.Capturing.Add(1)
	}
	in.mu.Lock()
	news := in.away || in.tried || in.late
	in.away, in.tried, in.late = false, false, false
	in.mu.Unlock()
	if news {
		in.run.emit(Event{Kind: Joined, Instance: in.Name})
	}
}

// part is the opposite of join.
func (in *instance) part() {
	if in.capturing.Add(-1) == 0 {
		in.run.cfg.Progress.Capturing.Add(-1)
		in.run.unclaim(in)
	}
}

// isDown reports whether it could not be connected to.
func (in *instance) isDown() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.problem != nil
}

// learn takes the address of the SSH server from its own $SSH_CONNECTION, when we do not see it.
func (in *instance) learn(connection string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if fields := strings.Fields(connection); in.address == "" && len(fields) == 4 {
		in.address = net.JoinHostPort(fields[2], fields[3])
	}
}

// remoteAddress is that of its SSH server; "" where it is not known.
func (in *instance) remoteAddress() string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.address
}

// port is that of its SSH server; 0 where it is not known.
func (in *instance) port() int {
	if in.Port != 0 {
		return in.Port
	}
	_, text, _ := net.SplitHostPort(in.remoteAddress())
	port, _ := strconv.Atoi(text)
	return port
}

// opened reports whether any of its streams has ever opened.
func (in *instance) opened() bool {
	return in.ever.Load()
}

// err is the first problem of the instance or of one of its streams; nil when all ended well.
func (in *instance) err() error {
	in.mu.Lock()
	problem := in.problem
	in.mu.Unlock()
	if problem != nil {
		return problem
	}
	for _, s := range in.streams {
		if err := s.problem(); err != nil {
			return err
		}
	}
	return nil
}

// failed tells of a problem with an instance, and ends the capture when all instances are required.
func (r *run) failed(in *instance, err error) {
	kind := Failed
	if in.opened() {
		kind = Lost
	}
	r.emit(Event{Kind: kind, Instance: in.Name, Err: err})
	if r.cfg.RequireAll {
		r.stop(EndRequired)
	}
}
