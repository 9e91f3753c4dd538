package sshx

import "time"

// padName is a keep-alive that wants no answer. Servers take it without a word and read no more of it than that: OpenSSH,
// dropbear and x/crypto stop behind the flag for the answer, and what else is in it goes by.
const padName = "keepalive@openssh.com"

// Pad has messages sent that the server ignores, each with as many bytes as sizes tells and a pause behind
// it, so that each is a packet of its own. Sizes that are equal modulo 16 differ on the wire by what they differ here,
// whichever cipher is in use, also through jump hosts. It does not wait; it reports false where it has not begun, since
// earlier ones are still being sent or the connection has ended.
func (p *Process) Pad(sizes []int, pause time.Duration) bool {
	t := p.t
	if !t.padding.CompareAndSwap(false, true) {
		return false
	}
	return t.group.run(func() {
		defer t.padding.Store(false)
		for _, n := range sizes {
			if _, _, err := t.conn.SendRequest(padName, false, make([]byte, n)); err != nil {
				return // the connection's death shows elsewhere
			}
			select {
			case <-time.After(pause):
			case <-t.done:
				return
			}
		}
	})
}
