//go:build unix

package files

import "golang.org/x/sys/unix"

// mostOpen is how many inputs may be open at once: what the system allows, less what is needed beside. Go raises the
// soft limit to the hard one by itself.
func mostOpen() int {
	const beside, most = 40, 4096
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > most+beside {
		return most
	}
	return max(int(limit.Cur)-beside, 2)
}
