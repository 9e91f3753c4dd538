package sshx

import "sync"

// room is what is known of how many sessions a server allows on a connection: MaxSessions, 10 by default, or none at all.
type room struct {
	mu      sync.Mutex
	settled sync.Cond // on mu: a session has been opened or refused
	opening int
	open    int
	refused bool // one more was, and none has ended since
}

// none reports whether there is no use in asking.
func (r *room) none() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// ask must come before a session is opened, and opened or refuse after it.
func (r *room) ask() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening++
}

func (r *room) opened() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening--
	r.open++
	r.settled.Broadcast()
}

func (r *room) ended() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
	r.refused = false
}

// refuse reports whether the session was one too many; else the server allows none. That is known when those have settled
// that were asked for at the same time.
func (r *room) refuse() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening--
	r.settled.Broadcast()
	for r.open == 0 && r.opening > 0 {
		r.settled.Wait()
	}
	r.refused = r.open > 0
	return r.refused
}
