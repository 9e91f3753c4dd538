package bed

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Options say what an instance is like. The zero value is a host in net 0 with an OpenSSH server where root logs in.
type Options struct {
	Nets     []int    // the nets it has a link in, eth0 the first; none means net 0
	User     string   // who the client's configuration logs in as; "" means root
	Port     int      // of the server; 0 means 22
	Dropbear bool     // dropbear instead of sshd
	Config   string   // more lines for sshd_config
	Hide     []string // programs it does not have
	Sh       string   // a program that is its sh, not the machine's
	Date     string   // path of a program that it has in the place of date
	Doas     string   // its doas.conf; "" means none
	DoasDir  bool     // it has an /etc/doas.d
	Shell    string   // login shell of root and of the users who may log in; "" means that of the machine's root, and sh
	Jump     string   // ProxyJump for the client's configuration
	Unknown  bool     // its host key is not in the client's known_hosts
	Impostor bool     // known_hosts has another key for it
}

// Users of every instance beside root. All have the client's key.
const (
	Plain    = "plain"    // no rights
	Sudoer   = "sudoer"   // may do anything with sudo, no password
	Password = "password" // sudo wants a password
	Terminal = "terminal" // sudo wants a terminal
	Tcpdump  = "dumper"   // may run tcpdump alone with sudo, no password
	NoLogin  = "nologin"  // the shell refuses
)

const firstUID = 61001

var users = []string{Plain, Sudoer, Password, Terminal, NoLogin, Tcpdump}

// Add makes an instance and returns when its server listens.
func (b *Bed) Add(name string, o Options) *Host {
	b.t.Helper()
	if len(o.Nets) == 0 {
		o.Nets = []int{0}
	}
	if o.User == "" {
		o.User = "root"
	}
	if o.Port == 0 {
		o.Port = 22
	}
	h := b.host(name)
	h.options, h.Port = o, o.Port
	number := 9 + len(b.hosts) // the hub is the first
	for i, net := range o.Nets {
		b.wire(h, number, i, net)
	}
	h.Addr = address(o.Nets[0], number)
	if o.Dropbear {
		b.dropbear(h)
	} else {
		b.sshd(h)
	}
	b.configure()
	return h
}

// wire links the instance's interface number i to the bridge of a net.
func (b *Bed) wire(h *Host, number, i, net int) {
	b.t.Helper()
	b.bridge(net)
	inside, outside := "eth"+strconv.Itoa(i), fmt.Sprintf("v%d-%d", number, i)
	must(b.t, b.Hub.ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", h.ns))
	must(b.t, b.Hub.ip("link", "set", outside, "master", "br"+strconv.Itoa(net), "up"))
	must(b.t, h.ip("addr", "add", address(net, number)+"/24", "dev", inside))
	must(b.t, h.ip("link", "set", inside, "up"))
	h.wires = append(h.wires, outside)
	h.addrs[net] = address(net, number)
}

func (b *Bed) sshd(h *Host) {
	b.t.Helper()
	must(b.t, os.MkdirAll("/run/sshd", 0o755)) // sshd refuses to start without it
	key := newKey(b.t)
	h.hostKey = key.public
	path := b.WriteFile(h.Name+".hostkey", 0o600, key.private)
	config := b.WriteFile(h.Name+".sshd_config", 0o644, h.options.Config+fmt.Sprintf(`
Port %d
ListenAddress 0.0.0.0
HostKey %s
PidFile %s
AuthorizedKeysFile %s
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
UseDNS no
LogLevel VERBOSE
`, h.Port, path, filepath.Join(b.Dir, h.Name+".pid"), b.authorized()))
	sshd, err := exec.LookPath("sshd") // sshd starts itself again by its full path
	must(b.t, err)
	b.serve(h, sshd, "-D", "-e", "-f", config)
}

func (b *Bed) dropbear(h *Host) {
	b.t.Helper()
	Require(b.t, "dropbear", "dropbearkey")
	args := []string{"-F", "-E", "-m", "-p", strconv.Itoa(h.Port), "-P", filepath.Join(b.Dir, h.Name+".pid")}
	for _, kind := range []string{"ecdsa", "rsa"} {
		path := filepath.Join(b.Dir, h.Name+".hostkey-"+kind)
		out, err := exec.Command("dropbearkey", "-t", kind, "-f", path).Output()
		must(b.t, err)
		for line := range strings.Lines(string(out)) {
			// The client knows the last one only: it has to ask for a key it can check.
			if f := strings.Fields(line); len(f) > 1 && strings.Contains(f[0], kind) {
				h.hostKey = f[0] + " " + f[1]
			}
		}
		args = append(args, "-r", path)
	}
	b.serve(h, "dropbear", args...)
}

// serve starts a server with the instance's own view of the file system, and waits until it listens. It is started from
// here, not by a shell's &, which would make it and its children ignore SIGINT.
func (b *Bed) serve(h *Host, name string, args ...string) {
	b.t.Helper()
	log, err := os.Create(h.log())
	must(b.t, err)
	defer log.Close()
	h.program = append([]string{name}, args...)
	script := b.mounts(h) + `exec "$0" "$@"`
	h.server = h.Command("sh", append([]string{"-ec", script, name}, args...)...)
	h.server.Stdout, h.server.Stderr = log, log
	must(b.t, h.server.Start())
	h.ended = make(chan error, 1)
	go func() {
		h.ended <- h.server.Wait()
		close(h.ended)
	}()
	WaitFor(b.t, 10*time.Second, h.Name+": server listens", func() bool {
		select {
		case err := <-h.ended:
			b.t.Fatalf("bed: %s: %s ended: %v: %s", h.Name, name, err, h.Log())
		default:
		}
		return listens(h.server.Process.Pid, h.Port)
	})
}

// mounts is a script that gives the instance a view of the file system of its own. `ip netns exec` has made a mount
// namespace for it, so it is seen in there only, and vanishes with its last process.
func (b *Bed) mounts(h *Host) string {
	b.t.Helper()
	var script strings.Builder
	// An overlay of the whole directory: a mount on one of its files is gone as soon as the machine's useradd or the like
	// puts a new file in that one's place.
	b.overlay(&script, h, "/etc", b.accounts(h))
	if len(h.options.Hide) > 0 || h.options.Date != "" || h.options.Sh != "" {
		b.overlay(&script, h, "/usr/bin", "")
		b.overlay(&script, h, "/usr/sbin", "")
	}
	for _, program := range h.options.Hide {
		fmt.Fprintf(&script, "rm -f '/usr/bin/%[1]s' '/usr/sbin/%[1]s'\n", program)
	}
	if h.options.Sh != "" {
		path, err := exec.LookPath(h.options.Sh)
		must(b.t, err)
		fmt.Fprintf(&script, "ln -sf '%s' /usr/bin/sh\n", path)
	}
	if h.options.Date != "" {
		fmt.Fprintf(&script, "cp '%s' /usr/bin/date\n", h.options.Date)
	}
	fmt.Fprintf(&script, "mount --bind '%s' /root\n", b.userHome(h, "root", 0))
	return script.String()
}

// overlay makes changes to a directory possible that only the instance sees. The first ones are the files in
// the directory fill, if there is one. They are on a tmpfs since not every file system can be the upper one of an overlay.
func (b *Bed) overlay(script *strings.Builder, h *Host, dir, fill string) {
	scratch := filepath.Join(b.Dir, h.Name+".changed"+strings.ReplaceAll(dir, "/", "-"))
	fmt.Fprintf(script, "mkdir '%[1]s'\nmount -t tmpfs tmpfs '%[1]s'\nmkdir '%[1]s/upper' '%[1]s/work'\n", scratch)
	if fill != "" {
		fmt.Fprintf(script, "cp -pr '%s'/* '%s/upper'\n", fill, scratch)
	}
	fmt.Fprintf(script, "mount -t overlay overlay -o 'lowerdir=%[1]s,upperdir=%[2]s/upper,workdir=%[2]s/work' '%[1]s'\n", dir, scratch)
}

// accounts makes the instance's users: a directory with the files of /etc that differ from the machine's.
func (b *Bed) accounts(h *Host) string {
	b.t.Helper()
	etc := h.Name + ".etc"
	more := func(name string, mode os.FileMode, lines string) {
		machine, err := os.ReadFile("/etc/" + name)
		must(b.t, err)
		text := strings.TrimSuffix(string(machine), "\n") + "\n" + lines
		if shell := b.shell(h); name == "passwd" && shell != "" {
			text = rootShell.ReplaceAllString(text, "${1}"+shell)
		}
		b.WriteFile(filepath.Join(etc, name), mode, text)
	}
	var passwd, group, shadow strings.Builder
	for i, name := range users {
		uid, home, shell := firstUID+i, b.userHome(h, name, firstUID+i), cmp.Or(b.shell(h), "/bin/sh")
		if name == NoLogin {
			shell = "/usr/sbin/nologin"
		}
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:%s\n", name, uid, uid, home, shell)
		fmt.Fprintf(&group, "%s:x:%d:\n", name, uid)
		fmt.Fprintf(&shadow, "%s:*:19000:0:99999:7:::\n", name) // "!" would be a locked account
	}
	more("passwd", 0o644, passwd.String())
	more("group", 0o644, group.String())
	more("shells", 0o644, b.shell(h)+"\n") // dropbear lets nobody in whose shell is not in there
	more("shadow", 0o600, shadow.String())
	hostname, err := os.Hostname()
	must(b.t, err)
	more("hosts", 0o644, "127.0.0.1 localhost "+hostname+"\n"+b.Names) // sudo looks its host's name up
	b.WriteFile(filepath.Join(etc, "sudoers"), 0o440, sudoers)
	if h.options.DoasDir {
		b.WriteFile(filepath.Join(etc, "doas.d", "other.conf"), 0o600, "permit nopass root\n")
	}
	if h.options.Doas != "" {
		b.WriteFile(filepath.Join(etc, "doas.conf"), 0o600, h.options.Doas)
	}
	return filepath.Join(b.Dir, etc)
}

var rootShell = regexp.MustCompile(`(?m)^(root:.*:)[^:\n]*$`)

// shell is the path of the host's login shell; "" for the usual ones.
func (b *Bed) shell(h *Host) string {
	b.t.Helper()
	if h.options.Shell == "" {
		return ""
	}
	program := h.options.Shell
	if program == "ash" {
		program = "busybox"
	}
	path, err := exec.LookPath(program)
	must(b.t, err)
	if h.options.Shell != "ash" {
		return path
	}
	ash := filepath.Join(b.Dir, "ash")
	if err := os.Symlink(path, ash); err != nil && !os.IsExist(err) {
		must(b.t, err)
	}
	return ash
}

const sudoers = `Defaults env_reset
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Defaults:` + Terminal + ` requiretty
root ALL=(ALL:ALL) ALL
` + Sudoer + ` ALL=(ALL:ALL) NOPASSWD: ALL
` + Terminal + ` ALL=(ALL:ALL) NOPASSWD: ALL
` + Password + ` ALL=(ALL:ALL) ALL
` + Tcpdump + ` ALL=(root) NOPASSWD: /usr/bin/tcpdump
`

// userHome makes a home with the client's key in it: dropbear looks nowhere else, and wants it owned by its user.
func (b *Bed) userHome(h *Host, name string, uid int) string {
	b.t.Helper()
	home := filepath.Join(b.Dir, h.Name, "home", name)
	must(b.t, os.MkdirAll(filepath.Join(home, ".ssh"), 0o755))
	keys, err := os.ReadFile(b.authorized())
	must(b.t, err)
	file := filepath.Join(home, ".ssh", "authorized_keys")
	must(b.t, os.WriteFile(file, keys, 0o600))
	for _, path := range []string{home, filepath.Join(home, ".ssh"), file} {
		must(b.t, os.Chown(path, uid, uid))
	}
	return home
}

// listens looks into the kernel's table rather than connecting, which the server would log.
func listens(pid, port int) bool {
	table, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // sl local remote state …; 0A is LISTEN
		if len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			return true
		}
	}
	return false
}
