package remote

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sshpcap/sshpcap/internal/cftest/container"
)

// cfBed is a platform's SSH side, in the network namespace of a bed, with the helper in a folder of its own.
type cfBed struct {
	*bed
	proxy *container.Proxy
	index int
}

const cfCode = "code" // good as often as it is used

func newCFBed(t *testing.T) *cfBed {
	t.Helper()
	need(t, "unshare", "mount", "setpriv")
	b := &cfBed{bed: newBed(t)}
	if err := os.Mkdir(b.lifecycle(), 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := cfHelper()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.lifecycle(), "cf-pcap"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	b.proxy = &container.Proxy{TakeCode: func(code string) bool { return code == cfCode }}
	b.inside(t, func() (err error) {
		b.proxy.Listener, err = net.Listen("tcp", "127.0.0.1:2222")
		return err
	})
	if err := b.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// cfHelper is the test's cf-pcap, made once.
var cfHelper = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sshpcap-remote-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path, err := container.BuildHelper(dir)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func (b *cfBed) lifecycle() string { return filepath.Join(b.dir, "lifecycle") }

// capable is the helper with the capability to capture, in a folder of its own.
func (b *cfBed) capable(t *testing.T) (lifecycle string) {
	t.Helper()
	lifecycle = filepath.Join(b.dir, "capable")
	if err := os.Mkdir(lifecycle, 0o755); err != nil {
		t.Fatal(err)
	}
	do(t, "cp", filepath.Join(b.lifecycle(), "cf-pcap"), lifecycle)
	do(t, "setcap", "cap_net_raw=ep", filepath.Join(lifecycle, "cf-pcap"))
	return lifecycle
}

// container makes one in the namespace; set changes what it is like.
func (b *cfBed) container(t *testing.T, set func(*container.Container)) *container.Container {
	t.Helper()
	b.index++
	c := &container.Container{GUID: "guid", Index: b.index, Prefix: []string{"ip", "netns", "exec", b.ns}, Lifecycle: b.lifecycle()}
	if set != nil {
		set(c)
	}
	c.Env = append([]string{"CFPCAP_SLOTS=512"}, c.Env...) // the machine is busy, and all packets are counted
	b.proxy.Add(c)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// enter logs in to a container.
func (b *cfBed) enter(t *testing.T, c *container.Container) *ssh.Client {
	t.Helper()
	var conn net.Conn
	b.inside(t, func() (err error) { conn, err = net.Dial("tcp", b.proxy.Addr()); return err })
	t.Cleanup(func() { conn.Close() })
	link, chans, reqs, err := ssh.NewClientConn(conn, "container", &ssh.ClientConfig{
		User: "cf:" + c.GUID + "/" + itoa(c.Index), Auth: []ssh.AuthMethod{ssh.Password(cfCode)},
		HostKeyCallback: ssh.FixedHostKey(b.proxy.HostKey.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return ssh.NewClient(link, chans, reqs)
}

// quiet makes an eth0 on which nothing happens.
func (b *cfBed) quiet(t *testing.T) {
	t.Helper()
	do(t, "ip", "netns", "exec", b.ns, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
	do(t, "ip", "-n", b.ns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	do(t, "ip", "-n", b.ns, "link", "set", "eth0", "up")
	do(t, "ip", "-n", b.ns, "link", "set", "eth1", "up")
}

// gone waits until nothing runs in the container.
func gone(t *testing.T, limit time.Duration, c *container.Container) {
	t.Helper()
	waitFor(t, limit, func() (list []string) {
		for _, p := range c.Processes() {
			list = append(list, itoa(p.PID)+" "+p.Line)
		}
		return list
	})
}

// records reads a pcap stream after its header and counts the packets.
func records(t *testing.T, r io.Reader) (n int) {
	t.Helper()
	head := make([]byte, 16)
	for {
		if _, err := io.ReadFull(r, head); errors.Is(err, io.EOF) {
			return n
		} else if err != nil {
			t.Errorf("after %d packets: %v", n, err)
			return n
		}
		if _, err := io.CopyN(io.Discard, r, int64(binary.LittleEndian.Uint32(head[8:]))); err != nil {
			t.Errorf("in packet %d: %v", n, err)
			return n
		}
		n++
	}
}

// cfJail is a file system with a shell and nothing else, and the words that make a command see it.
func (b *cfBed) cfJail(t *testing.T, shell string, proc bool) (prefix []string) {
	t.Helper()
	dir, err := os.MkdirTemp(b.dir, "jail")
	if err != nil {
		t.Fatal(err)
	}
	do(t, "chmod", "755", dir)
	for _, d := range []string{"bin", "dev", "proc", "tmp", "tmp/lifecycle"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	do(t, "cp", "-L", where(t, shell), filepath.Join(dir, "bin/sh"))
	for _, word := range strings.Fields(string(output("ldd", where(t, shell)))) {
		if strings.HasPrefix(word, "/") {
			do(t, "cp", "-L", "--parents", word, dir)
		}
	}
	do(t, "cp", filepath.Join(b.lifecycle(), "cf-pcap"), filepath.Join(dir, "tmp/lifecycle"))
	do(t, "mknod", "-m", "666", filepath.Join(dir, "dev/null"), "c", "1", "3")
	// By their paths: in the container's PATH there is nothing.
	prefix = []string{where(t, "ip"), "netns", "exec", b.ns}
	if !proc {
		return append(prefix, where(t, "chroot"), dir)
	}
	text := where(t, "mount") + ` --bind /proc "$0/proc" && exec ` + where(t, "chroot") + ` "$0" "$@"`
	return append(prefix, where(t, "unshare"), "--mount", "--propagation", "private", where(t, "sh"), "-c", text, dir)
}
