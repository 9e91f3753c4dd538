package rawserver

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"

	"golang.org/x/crypto/ssh"
)

// Numbers of messages: RFC 4250, section 4.1.2.
const (
	MsgKexInit          = 20
	MsgNewKeys          = 21
	MsgKexECDHInit      = 30
	MsgKexECDHReply     = 31
	MsgServiceRequest   = 5
	MsgServiceAccept    = 6
	MsgAuthRequest      = 50
	MsgAuthFailure      = 51
	MsgAuthSuccess      = 52
	MsgAuthBanner       = 53
	MsgAuthInfoRequest  = 60
	MsgAuthInfoResponse = 61
	MsgGlobalRequest    = 80
	MsgChannelOpen      = 90
	MsgChannelConfirm   = 91
	MsgChannelAdjust    = 93
	MsgChannelData      = 94
	MsgChannelExtended  = 95
	MsgChannelEOF       = 96
	MsgChannelClose     = 97
	MsgChannelRequest   = 98
	MsgChannelSuccess   = 99
)

// Conn is one client's connection. Reading and writing may go on at the same time, but not while keys are exchanged.
type Conn struct {
	net.Conn
	Key         ssh.Signer
	Compression string // offered; "" is none

	r              *bufio.Reader
	client         string // its version line
	session        []byte // the first exchange hash
	opened, sealed *direction
}

const version = "SSH-2.0-raw"

// Handshake introduces the server and agrees on keys.
func (c *Conn) Handshake() error {
	if _, err := io.WriteString(c.Conn, version+"\r\n"); err != nil {
		return err
	}
	c.r = bufio.NewReader(c.Conn)
	line, err := c.r.ReadString('\n')
	if err != nil {
		return err
	}
	c.client = string(bytes.TrimRight([]byte(line), "\r\n"))
	return c.Rekey()
}

// kexInit is the message of RFC 4253, section 7.1.
type kexInit struct {
	Cookie      [16]byte `sshtype:"20"`
	Kex         []string
	HostKey     []string
	CipherIn    []string
	CipherOut   []string
	MACIn       []string
	MACOut      []string
	CompressIn  []string
	CompressOut []string
	LanguageIn  []string
	LanguageOut []string
	Follows     bool
	Reserved    uint32
}

// KexInit is the server's offer.
func (c *Conn) KexInit() []byte {
	compression := c.Compression
	if compression == "" {
		compression = "none"
	}
	gcm, mac, compress := []string{"aes128-gcm@openssh.com"}, []string{"hmac-sha2-256"}, []string{compression}
	return ssh.Marshal(kexInit{Kex: []string{"curve25519-sha256"}, HostKey: []string{ssh.KeyAlgoED25519}, CipherIn: gcm, CipherOut: gcm,
		MACIn: mac, MACOut: mac, CompressIn: compress, CompressOut: compress})
}

// Rekey exchanges keys: curve25519-sha256 (RFC 8731) and aes128-gcm (RFC 5647). What else the client sends meanwhile is
// dropped.
func (c *Conn) Rekey() error {
	ours := c.KexInit()
	if err := c.Write(ours); err != nil {
		return err
	}
	theirs, err := c.Await(MsgKexInit)
	if err != nil {
		return err
	}
	init, err := c.Await(MsgKexECDHInit)
	if err != nil {
		return err
	}
	var point struct {
		Point []byte `sshtype:"30"`
	}
	if err := ssh.Unmarshal(init, &point); err != nil {
		return err
	}
	return c.exchange(theirs, ours, point.Point)
}

func (c *Conn) exchange(theirs, ours, clientPoint []byte) error {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	public, err := ecdh.X25519().NewPublicKey(clientPoint)
	if err != nil {
		return err
	}
	secret, err := private.ECDH(public)
	if err != nil {
		return err
	}
	key, point := c.Key.PublicKey().Marshal(), private.PublicKey().Bytes()
	k := new(big.Int).SetBytes(secret)
	hash := sha256.Sum256(ssh.Marshal(struct {
		ClientVersion, ServerVersion string
		ClientInit, ServerInit, Key  []byte
		ClientPoint, ServerPoint     []byte
		K                            *big.Int
	}{c.client, version, theirs, ours, key, clientPoint, point, k}))
	if c.session == nil {
		c.session = hash[:]
	}
	signature, err := c.Key.Sign(rand.Reader, hash[:])
	if err != nil {
		return err
	}
	reply := ssh.Marshal(struct {
		Key, Point, Signature []byte `sshtype:"31"`
	}{key, point, ssh.Marshal(signature)})
	if err := errors.Join(c.Write(reply), c.Write([]byte{MsgNewKeys})); err != nil {
		return err
	}
	derive := func(letter byte) []byte {
		sum := sha256.New()
		sum.Write(ssh.Marshal(struct{ K *big.Int }{k}))
		sum.Write(hash[:])
		sum.Write([]byte{letter})
		sum.Write(c.session)
		return sum.Sum(nil)
	}
	c.sealed = newDirection(derive('D'), derive('B'))
	if _, err := c.Await(MsgNewKeys); err != nil {
		return err
	}
	c.opened = newDirection(derive('C'), derive('A'))
	return nil
}

// direction is the cipher of one direction.
type direction struct {
	aead  cipher.AEAD
	nonce []byte
}

func newDirection(key, iv []byte) *direction {
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic(err) // the length is right
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &direction{aead, iv[:12]}
}

// next counts a packet.
func (d *direction) next() {
	binary.BigEndian.PutUint64(d.nonce[4:], binary.BigEndian.Uint64(d.nonce[4:])+1)
}

// Write sends a packet.
func (c *Conn) Write(payload []byte) error {
	size, head := 16, 0 // the length is encrypted only where there is no key yet
	if c.sealed == nil {
		size, head = 8, 4
	}
	padding := size - (head+1+len(payload))%size
	if padding < 4 {
		padding += size
	}
	body := append([]byte{byte(padding)}, payload...)
	body = append(body, make([]byte, padding)...)
	packet := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if c.sealed == nil {
		packet = append(packet, body...)
	} else {
		packet = c.sealed.aead.Seal(packet, c.sealed.nonce, body, packet)
		c.sealed.next()
	}
	_, err := c.Conn.Write(packet)
	return err
}

// Send sends a message: a struct with the sshtype of its number, as for ssh.Marshal.
func (c *Conn) Send(message any) error { return c.Write(ssh.Marshal(message)) }

// Read receives a packet.
func (c *Conn) Read() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(c.r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > 1<<20 {
		return nil, fmt.Errorf("a packet of %d bytes", n)
	}
	if c.opened != nil {
		n += 16
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return nil, err
	}
	if c.opened != nil {
		var err error
		if body, err = c.opened.aead.Open(body[:0], c.opened.nonce, body, length[:]); err != nil {
			return nil, err
		}
		c.opened.next()
	}
	if len(body) == 0 || 1+int(body[0]) >= len(body) {
		return nil, errors.New("a packet without a message")
	}
	return body[1 : len(body)-int(body[0])], nil
}

// Await receives packets until one has the number.
func (c *Conn) Await(number byte) ([]byte, error) {
	for {
		p, err := c.Read()
		if err != nil || p[0] == number {
			return p, err
		}
	}
}
