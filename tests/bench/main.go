// Command bench prints the tables of docs/performance.md: the built program beside others, in one run.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/tests/farm"
)

type options struct {
	sshpcap string
	dir     string
	scale   float64
	runs    int
	counts  []int
	burst   int
}

func main() {
	if farm.Serve() || bare() || looks() {
		return // a part of a table, in a process of its own
	}
	o := options{dir: os.TempDir()}
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		o.dir = "/dev/shm" // the page cache and nothing else
	}
	counts := "3,16,128"
	flag.StringVar(&o.sshpcap, "sshpcap", "bin/sshpcap", "the program")
	flag.StringVar(&o.dir, "dir", o.dir, "where files are made")
	flag.Float64Var(&o.scale, "scale", .2, "of the number of packets; 1 = 20 and 8 million")
	flag.IntVar(&o.runs, "runs", 5, "of which the median is shown")
	flag.StringVar(&counts, "files", counts, "how many files are merged")
	flag.IntVar(&o.burst, "burst", 1, "packets in a row from the same file")
	var tables string
	flag.StringVar(&tables, "tables", "merge", "which: merge, live or scale")
	flag.Parse()
	o.burst = max(o.burst, 1)
	for _, text := range strings.Split(counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			fatal(fmt.Errorf("-files %s: not a number of files", counts))
		}
		o.counts = append(o.counts, n)
	}
	switch tables {
	case "scale":
		fatal(scaleTable(o))
	case "live":
		fatal(liveTable(o))
	default:
		fatal(mergeTable(o))
	}
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// warm has the memory touched that a run's files will be in. A virtual machine may be given memory only when it is touched,
// at a fraction of the speed of later, and lose it again a moment after it was freed: that is not for one of several to pay. Nor
// is it to share the processors with the writing of what the one before it left behind.
func warm(dir string, bytes int64) error {
	f, err := os.CreateTemp(dir, "warm")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	for ; bytes > 0; bytes -= int64(len(piece)) {
		if _, err := f.Write(piece); err != nil {
			return err
		}
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	unix.Sync()
	return nil
}

// again returns a command that is this program once more, as what the environment makes of it.
func again(env, value string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), env+"="+value)
	return cmd, nil
}

// median sorts.
func median[T cmp.Ordered](of []T) T {
	slices.Sort(of)
	return of[len(of)/2]
}
