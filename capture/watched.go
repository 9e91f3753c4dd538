package capture

import (
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// proof is that an instance has told that what ends the helper there is running: a helper that nothing ends would stay for
// ever when we are gone. Mostly that comes before any packet is read. Where packets are so many that it could not come behind
// those that are not read, it is waited for beside them.
type proof struct {
	stream *stream
	log    *stderr
	said   <-chan struct{} // closed when the instance has nothing more to say, or was cut since it took too long

	known   bool          // before any packet
	over    chan struct{} // closed by end
	waiting sync.WaitGroup
	failure error // for end
}

// How much may come on a connection before what has come is read. The server sends no more after some 2 MiB.
const (
	unreadAtMost = 256 << 10
	lookAtUnread = 5 * time.Millisecond
)

// await waits for the proof, or until packets must be read.
func (p *proof) await(process *sshx.Process) error {
	look := time.NewTicker(lookAtUnread)
	defer look.Stop()
	for process.Received() < unreadAtMost {
		select {
		case <-p.log.watched:
			p.known = true
			return nil
		case <-p.said:
			p.known = true
			return p.missing()
		case <-look.C:
		}
	}
	return nil
}

// follow goes on to wait for it while packets are read. It calls stop when that is over. Without the proof, the process is closed.
func (p *proof) follow(process *sshx.Process, stop func()) {
	if p.known {
		return
	}
	p.stream.unproven.Store(true)
	p.waiting.Go(func() {
		defer p.stream.unproven.Store(false)
		defer stop()
		select {
		case <-p.log.watched:
		case <-p.over:
		case <-p.said:
			if err := p.missing(); err != nil && err != errNotCapturing { // it was, and is stopped
				p.failure = err
				process.Close()
			}
		}
	})
}

// end ends that, and gives what follow has found wrong.
func (p *proof) end() error {
	close(p.over)
	p.waiting.Wait()
	return p.failure
}

// missing is why there is no proof, when there can be none any more; nil if it has come meanwhile.
func (p *proof) missing() error {
	if p.log.Report().Watched {
		return nil
	}
	if p.stream.instance.run.active.Err() != nil {
		return errNotCapturing
	}
	failure := p.log.Failure(remote.Unwatched)
	if failure.Kind == remote.NoShell {
		return &Error{Problem: "packets came, but not from what was to run: nothing would end the helper there", Tip: "see what the login runs instead, a forced command perhaps: ssh INSTANCE true", Err: failure}
	}
	return &Error{Problem: failure.Problem, Tip: failure.Tip, Err: failure}
}
