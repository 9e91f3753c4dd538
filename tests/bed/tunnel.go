package bed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// SecretNet is the net inside the tunnel of Secret.
const SecretNet = 98

// Secret connects the hub and the host by a tunnel that enciphers, as WireGuard and OpenVPN do, over UDP, and returns the host's
// address in it. What is inside is padded to a multiple of 16 bytes. In the host it is the interface "secret".
func (h *Host) Secret(port int) string {
	h.bed.t.Helper()
	key := make([]byte, 16)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	must(h.bed.t, err)
	aead, err := cipher.NewGCM(block)
	must(h.bed.t, err)
	hub, far := netip.MustParseAddr(address(0, 1)), netip.MustParseAddr(h.addrs[0])
	h.bed.Hub.secretEnd(aead, netip.AddrPortFrom(hub, uint16(port)), netip.AddrPortFrom(far, uint16(port)), "10.98.0.1/24")
	h.secretEnd(aead, netip.AddrPortFrom(far, uint16(port)), netip.AddrPortFrom(hub, uint16(port)), "10.98.0.2/24")
	h.addrs[SecretNet] = "10.98.0.2"
	return h.addrs[SecretNet]
}

// secretEnd is one end of such a tunnel.
func (h *Host) secretEnd(aead cipher.AEAD, from, to netip.AddrPort, addr string) {
	t := h.bed.t
	t.Helper()
	var tun *os.File
	var conn *net.UDPConn
	must(t, h.Do(func() (err error) {
		if tun, err = openTun("secret"); err != nil {
			return err
		}
		conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		return err
	}))
	must(t, h.ip("addr", "add", addr, "dev", "secret"))
	must(t, h.ip("link", "set", "secret", "mtu", "1400", "up"))
	var copying sync.WaitGroup
	copying.Go(func() { encipher(aead, conn, tun) })
	copying.Go(func() { decipher(aead, tun, conn) })
	t.Cleanup(func() { tun.Close(); conn.Close(); copying.Wait() })
}

// openTun makes an interface whose packets are read and written.
func openTun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("a tun device: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func encipher(aead cipher.AEAD, conn *net.UDPConn, tun *os.File) {
	packet, sealed := make([]byte, 1<<16), make([]byte, 0, 1<<16)
	for {
		n, err := tun.Read(packet)
		if err != nil {
			return
		}
		for ; n%16 != 0; n++ {
			packet[n] = 0
		}
		nonce := sealed[:aead.NonceSize()]
		rand.Read(nonce)
		_, _ = conn.Write(aead.Seal(nonce, nonce, packet[:n], nil)) // the other end may not be there yet
	}
}

func decipher(aead cipher.AEAD, tun *os.File, conn *net.UDPConn) {
	sealed := make([]byte, 1<<16)
	for {
		n, err := conn.Read(sealed)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < aead.NonceSize() {
			time.Sleep(time.Millisecond) // the other end is not there yet
			continue
		}
		packet, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():n], nil)
		if err == nil {
			_, _ = tun.Write(packet) // the interface is down in the end
		}
	}
}
