package sshx

import (
	"sync"
	"sync/atomic"
	"time"
)

// mostUnread is how many bytes may have come from all servers of a Dialer that nobody has read yet. x/crypto takes up to
// 2 MiB for each session, which for a hundred that are read slowly is more than all else together; with this, servers wait.
const (
	mostUnread  = 8 << 20
	enoughRoom  = mostUnread / 4 // that is free again when those that wait may go on
	leastUnread = 64 << 10       // of a connection, whatever the others have
)

// backlog counts what has come and was not read.
type backlog struct {
	all     atomic.Int64
	waiting atomic.Int32
	mu      sync.Mutex
	waiters []*socket // each once
}

// unread is a connection's part of it. The zero value counts nothing: backlog is nil.
//
// Bytes are counted as they come, with all that SSH puts around them, and taken off as sessions are read, without. So the
// count grows with time; when it is too high although all sessions have been read to the end, it begins anew.
type unread struct {
	backlog *backlog
	bytes   atomic.Int64
	behind  atomic.Int32  // streams of sessions in which there may be more than was read
	left    atomic.Int32  // streams that nobody reads for now
	reads   atomic.Int64  // of streams, that gave something
	held    atomic.Bool   // nothing is read from the server for now
	wake    chan struct{} // has room for one
	closed  chan struct{}
	once    sync.Once
	listed  bool // among the waiters
}

// countIn has a connection counted, before anything is read from it.
func (b *backlog) countIn(s *socket) {
	u := &s.unread
	u.backlog, u.wake, u.closed = b, make(chan struct{}, 1), make(chan struct{})
}

// share is how much memory a session gets to read ahead, which gets most where there is room for all. What is read at
// once must not be too little: x/crypto may send a message for each read.
func (u *unread) share(most int) int {
	if u.backlog != nil && u.backlog.all.Load() > mostUnread/2 {
		return min(most, crowdedChunk)
	}
	return most
}

const crowdedChunk = 16 << 10

// mustWait reports whether there is too much unread to take more.
func (u *unread) mustWait() bool {
	return u.backlog.all.Load() > mostUnread && u.bytes.Load() > leastUnread
}

// settled is how long it takes at most until what has come is in its session: x/crypto has two queues on the way there.
// Where reads had room for just what they gave, one that waits may have more and not have had its turn: that takes
// longer on a busy machine.
const (
	settled  = 5 * time.Millisecond
	inNoTurn = 20 // times that
)

// hold waits until there is room for more, or until all that has come was read: somebody waits for more of each stream, and
// has got none for a while.
func (s *socket) hold() {
	u := &s.unread
	if u.backlog == nil || !u.mustWait() {
		return
	}
	u.held.Store(true)
	defer u.held.Store(false)
	look := time.NewTicker(settled)
	defer look.Stop()
	for reads, quiet := u.reads.Load(), 0; ; {
		u.backlog.wait(s)
		if !u.mustWait() { // looked at again: who made room before saw nobody wait
			return
		}
		select {
		case <-u.wake:
		case <-u.closed:
			return
		case <-look.C:
			before := reads
			if reads = u.reads.Load(); reads != before {
				quiet = 0
				continue
			}
			if quiet++; u.behind.Load() == 0 || u.left.Load() == 0 && quiet > inNoTurn {
				u.forget()
				return
			}
		}
	}
}

// came counts bytes from the server.
func (u *unread) came(n int) {
	if u.backlog == nil {
		return
	}
	u.bytes.Add(int64(n))
	u.backlog.all.Add(int64(n))
	select {
	case <-u.closed:
		u.forget()
	default:
	}
}

// took counts bytes that a session's reader has taken.
func (u *unread) took(n int) {
	if u.backlog == nil {
		return
	}
	for {
		has := u.bytes.Load()
		part := min(int64(n), has)
		if u.bytes.CompareAndSwap(has, has-part) {
			u.less(part)
			break
		}
	}
	if u.bytes.Load() <= leastUnread {
		u.poke()
	}
}

// forget begins anew.
func (u *unread) forget() { u.less(u.bytes.Swap(0)) }

func (u *unread) less(n int64) {
	b := u.backlog
	if n > 0 && b.all.Add(-n) < mostUnread-enoughRoom && b.waiting.Load() > 0 {
		b.wakeAll()
	}
}

// fell says that there may be more in a stream than was read.
func (u *unread) fell() { u.behind.Add(1) }

// caughtUp says that a stream was read to the end.
func (u *unread) caughtUp() { u.behind.Add(-1) }

// poke has the connection look again.
func (u *unread) poke() {
	if u.held.Load() {
		select {
		case u.wake <- struct{}{}:
		default:
		}
	}
}

// close lets nothing of the connection count any more.
func (u *unread) close() {
	if u.backlog != nil {
		u.once.Do(func() { close(u.closed) })
		u.forget()
	}
}

func (b *backlog) wait(s *socket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.unread.listed {
		return
	}
	s.unread.listed = true
	b.waiters = append(b.waiters, s)
	b.waiting.Store(int32(len(b.waiters)))
}

func (b *backlog) wakeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.waiters {
		s.unread.listed = false
		s.unread.poke()
	}
	clear(b.waiters)
	b.waiters = b.waiters[:0]
	b.waiting.Store(0)
}
