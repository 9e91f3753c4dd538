package capture

import "fmt"

// What is open beside connections and outputs: the standard streams, known_hosts and keys while they are read, name
// servers that are asked. Who finds no descriptor free for a moment waits for it.
const besideOpen = 64

// sessionsOfOne is how many sessions a server allows on one connection if nobody has told it otherwise (MaxSessions).
const sessionsOfOne = 10

// openFiles is how many files and connections are open at once.
func (cfg Config) openFiles() (n int) {
	for _, in := range cfg.Instances {
		n += (max(len(in.Interfaces), 1) + sessionsOfOne - 1) / sessionsOfOne
		if cfg.PerInstance {
			n++
		}
	}
	return n + besideOpen
}

// checkOpenFiles says before anything connects that there will be more open than the system allows.
func (cfg Config) checkOpenFiles() error {
	need := cfg.openFiles()
	most, known := mostOpen()
	if !known || need <= most {
		return nil
	}
	return &Error{
		Problem: fmt.Sprintf("%d instances need %d open files, and this process may have %d", len(cfg.Instances), need, most),
		Tip:     fmt.Sprintf("allow more with ulimit -Hn %d (as root, or nofile in /etc/security/limits.conf), or capture on fewer at a time and put the files together with sshpcap merge", need),
	}
}
