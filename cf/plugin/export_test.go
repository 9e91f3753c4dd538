package plugin

import "time"

// SetTimeouts shortens how long cf is waited for. No other test may be running.
func SetTimeouts(call, token time.Duration) (undo func()) {
	oldCall, oldToken := callTimeout, tokenTimeout
	callTimeout, tokenTimeout = call, token
	return func() { callTimeout, tokenTimeout = oldCall, oldToken }
}
