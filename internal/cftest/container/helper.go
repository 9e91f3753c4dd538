package container

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildHelper makes the test's cf-pcap in a folder, which [Container.Lifecycle] may then name. It needs the Go tool.
func BuildHelper(dir string) (path string, err error) {
	path = filepath.Join(dir, "cf-pcap")
	cmd := exec.Command("go", "build", "-o", path, "github.com/sshpcap/sshpcap/internal/cftest/cfpcap")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // it has to run where there are no libraries
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
}
