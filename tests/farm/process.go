package farm

import (
	"bufio"
	"crypto/ed25519"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Env makes a program that calls Serve a farm.
const Env = "SSHPCAP_TEST_FARM"

// Serve runs a farm until its standard input ends, when the environment says that this process is to be one, and
// tells whether it was. Programs that use Launch call it first of all.
func Serve() bool {
	args, ok := os.LookupEnv(Env)
	if !ok {
		return false
	}
	if err := serve(strings.Fields(args)); err != nil {
		fmt.Fprintln(os.Stderr, "farm:", err)
		os.Exit(1)
	}
	return true
}

func serve(args []string) error {
	var f Farm
	var user string
	flags := flag.NewFlagSet("farm", flag.ContinueOnError)
	flags.IntVar(&f.Instances, "instances", 1, "")
	flags.IntVar(&f.First, "first", 0, "")
	flags.IntVar(&f.Last, "last", 0, "")
	flags.IntVar(&f.Size, "size", 0, "")
	flags.BoolVar(&f.Ends, "ends", false, "")
	flags.DurationVar(&f.Delay, "delay", 0, "")
	flags.StringVar(&user, "user", "", "the public key, in base64")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if f.User, _, _, _, err = ssh.ParseAuthorizedKey([]byte("ssh-ed25519 " + user)); err != nil {
		return err
	}
	if err := f.Start(); err != nil {
		return err
	}
	defer f.Close()
	fmt.Printf("%s%s\n", ssh.MarshalAuthorizedKey(f.HostKey), strings.Join(f.Addresses, " "))
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// Process is a farm in a process of its own, and the files that a client needs for it.
type Process struct {
	Addresses []string
	HostKey   ssh.PublicKey
	Key       string // the user's private key
	Config    string // ssh_config
	Targets   string // a file with the addresses, one a line

	cmd   *exec.Cmd
	stdin io.Closer
}

// Launch starts this program again, as a farm. Instances, First, Last, Size, Ends and Delay of f count. The files are in dir.
func Launch(dir string, f Farm) (*Process, error) {
	p := &Process{Key: filepath.Join(dir, "key"), Config: filepath.Join(dir, "ssh_config"), Targets: filepath.Join(dir, "targets")}
	user, err := newKey(p.Key)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=-instances %d -first %d -last %d -size %d -ends=%t -delay %s -user %s",
		Env, f.Instances, f.First, f.Last, f.Size, f.Ends, f.Delay, strings.Fields(string(ssh.MarshalAuthorizedKey(user)))[1]))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.meet(bufio.NewReader(out)); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// meet reads what the farm says of itself, and writes the client's files.
func (p *Process) meet(out *bufio.Reader) error {
	key, err := out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the farm did not start: %w", err)
	}
	if p.HostKey, _, _, _, err = ssh.ParseAuthorizedKey([]byte(key)); err != nil {
		return err
	}
	addresses, err := out.ReadString('\n')
	if err != nil {
		return err
	}
	p.Addresses = strings.Fields(addresses)
	known := filepath.Join(filepath.Dir(p.Key), "known_hosts")
	var lines strings.Builder
	for _, address := range p.Addresses {
		lines.WriteString(knownhosts.Line([]string{address}, p.HostKey) + "\n")
	}
	config := fmt.Sprintf("Host *\nUser root\nIdentityFile %s\nIdentityAgent none\nUserKnownHostsFile %s\nGlobalKnownHostsFile none\n", p.Key, known)
	for name, text := range map[string]string{known: lines.String(), p.Config: config, p.Targets: strings.Join(p.Addresses, "\n") + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the farm.
func (p *Process) Close() error {
	p.stdin.Close()
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		return <-done
	}
}

func newKey(path string) (ssh.PublicKey, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	return signer.PublicKey(), nil
}
