// Command cf is package fakecf as a program. It is not for users.
package main

import (
	"os"

	"github.com/sshpcap/sshpcap/internal/cftest/fakecf"
)

func main() {
	cf := fakecf.FromEnv(os.Getenv)
	cf.Stdin, cf.Stdout, cf.Stderr = os.Stdin, os.Stdout, os.Stderr
	os.Exit(cf.Run(os.Args[1:]))
}
