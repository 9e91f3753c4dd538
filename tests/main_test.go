// Package tests tests the built binary end to end: real SSH servers, real tcpdump, network namespaces. What can be tested
// without them is tested beside the code.
package tests

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sshpcap/sshpcap/tests/farm"
)

// binary is the program under test: $SSHPCAP, or built here.
var binary string

func TestMain(m *testing.M) {
	if farm.Serve() {
		return // a process that a test has launched
	}
	if file := os.Getenv(stepEnv); file != "" {
		os.Exit(stepMain(file))
	}
	os.Exit(testMain(m))
}

// heedSignals has what is started from here heed INT and HUP also where the tests are run with them ignored, as in the
// background of a script.
func heedSignals() {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

func testMain(m *testing.M) int {
	heedSignals()
	dir, err := os.MkdirTemp("", "sshpcap-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary = os.Getenv("SSHPCAP"); binary == "" {
		binary = filepath.Join(dir, "sshpcap")
		build := exec.Command("go", "build", "-trimpath", "-o", binary, "../cmd/sshpcap")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build ../cmd/sshpcap: %v\n%s", err, out)
			return 1
		}
	}
	if binary, err = filepath.Abs(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
