package sshx

import (
	"bytes"
	"crypto/sha1" // fingerprints of older lists
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/ssh"
)

// krlMagic begins a key revocation list of OpenSSH; see PROTOCOL.krl there for all that follows.
const krlMagic = "SSHKRL\n\x00"

// krl is such a list.
type krl struct {
	keys   map[string]bool // plain keys, as on the wire
	hashes map[string]bool // SHA-1 and SHA-256 of plain keys
	certs  []krlCerts
}

// krlCerts are revoked certificates of one authority.
type krlCerts struct {
	authority []byte // as on the wire; empty is any
	ids       map[string]bool
	serials   []serialRange
	bitmaps   []serialBitmap
}

type serialRange struct{ first, last uint64 }

type serialBitmap struct {
	offset uint64
	bits   *big.Int
}

// The kinds of sections.
const (
	krlCertificates = 1
	krlKeys         = 2
	krlSHA1         = 3
	krlSignature    = 4
	krlSHA256       = 5
	krlExtension    = 255

	krlSerials       = 0x20
	krlSerialRange   = 0x21
	krlSerialBitmap  = 0x22
	krlKeyIDs        = 0x23
	krlCertExtension = 0x39
)

var errShort = errors.New("it ends too early")

// wire reads fields of RFC 4251. After the first error all that it gives is zero.
type wire struct {
	b   []byte
	err error
}

func (w *wire) take(n uint64) []byte {
	if w.err != nil || n > uint64(len(w.b)) {
		w.b, w.err = nil, errors.Join(w.err, errShort)
		return nil
	}
	field := w.b[:n]
	w.b = w.b[n:]
	return field
}

func (w *wire) byte() byte {
	if b := w.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (w *wire) uint32() uint32 {
	if b := w.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (w *wire) uint64() uint64 {
	if b := w.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (w *wire) string() []byte { return w.take(uint64(w.uint32())) }

// more reports whether there is something left to read.
func (w *wire) more() bool { return w.err == nil && len(w.b) > 0 }

// parseKRL reads a list. What is not known in it is an error: a list that is read in part would let revoked keys in.
func parseKRL(text []byte) (*krl, error) {
	w := &wire{b: bytes.TrimPrefix(text, []byte(krlMagic))}
	if version := w.uint32(); w.err == nil && version != 1 {
		return nil, fmt.Errorf("it has version %d", version)
	}
	w.take(3 * 8) // the list's own version, its date, flags
	w.string()    // reserved
	w.string()    // a comment
	k := &krl{keys: map[string]bool{}, hashes: map[string]bool{}}
	for w.more() {
		kind, data := w.byte(), w.string()
		if w.err != nil {
			break
		}
		if kind == krlSignature {
			w.string() // data was the key that signed; ssh does not check it either
			continue
		}
		if err := k.section(kind, &wire{b: data}); err != nil {
			return nil, err
		}
	}
	return k, w.err
}

func (k *krl) section(kind byte, w *wire) error {
	switch kind {
	case krlCertificates:
		return k.certificates(w)
	case krlKeys:
		k.strings(w, k.keys)
	case krlSHA1, krlSHA256:
		k.strings(w, k.hashes)
	case krlExtension:
		return extension(w)
	default:
		return fmt.Errorf("it has a section of unknown kind %d", kind)
	}
	return w.err
}

func (k *krl) strings(w *wire, set map[string]bool) {
	for w.more() {
		if s := w.string(); w.err == nil {
			set[string(s)] = true
		}
	}
}

// extension refuses what must be understood.
func extension(w *wire) error {
	name, critical := w.string(), w.byte()
	w.string()
	if w.err == nil && critical != 0 {
		return fmt.Errorf("it has an extension %q that is not known", oneLine(string(name)))
	}
	return w.err
}

func (k *krl) certificates(w *wire) error {
	c := krlCerts{authority: w.string(), ids: map[string]bool{}}
	w.string() // reserved
	for w.more() {
		kind, data := w.byte(), w.string()
		if w.err != nil {
			break
		}
		if err := c.section(k, kind, &wire{b: data}); err != nil {
			return err
		}
	}
	k.certs = append(k.certs, c)
	return w.err
}

func (c *krlCerts) section(k *krl, kind byte, w *wire) error {
	switch kind {
	case krlSerials:
		for w.more() {
			n := w.uint64()
			c.serials = append(c.serials, serialRange{n, n})
		}
	case krlSerialRange:
		c.serials = append(c.serials, serialRange{w.uint64(), w.uint64()})
	case krlSerialBitmap:
		c.bitmaps = append(c.bitmaps, serialBitmap{w.uint64(), new(big.Int).SetBytes(w.string())})
	case krlKeyIDs:
		k.strings(w, c.ids)
	case krlCertExtension:
		return extension(w)
	default:
		return fmt.Errorf("it has certificates in a section of unknown kind %d", kind)
	}
	return w.err
}

// revokes reports whether a key, the key in a certificate, the certificate or its authority is revoked.
func (k *krl) revokes(key ssh.PublicKey) bool {
	if k.revokesPlain(plainKey(key)) {
		return true
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return false
	}
	if k.revokesPlain(cert.SignatureKey) {
		return true
	}
	authority := cert.SignatureKey.Marshal()
	for i := range k.certs {
		c := &k.certs[i]
		if (len(c.authority) == 0 || bytes.Equal(c.authority, authority)) && c.revokes(cert) {
			return true
		}
	}
	return false
}

func (k *krl) revokesPlain(key ssh.PublicKey) bool {
	blob := key.Marshal()
	short, long := sha1.Sum(blob), sha256.Sum256(blob)
	return k.keys[string(blob)] || k.hashes[string(short[:])] || k.hashes[string(long[:])]
}

func (c *krlCerts) revokes(cert *ssh.Certificate) bool {
	if c.ids[cert.KeyId] {
		return true
	}
	if cert.Serial == 0 {
		return false // a certificate without a number
	}
	for _, r := range c.serials {
		if r.first <= cert.Serial && cert.Serial <= r.last {
			return true
		}
	}
	for _, m := range c.bitmaps {
		if n := cert.Serial - m.offset; cert.Serial >= m.offset && n < uint64(m.bits.BitLen()) && m.bits.Bit(int(n)) == 1 {
			return true
		}
	}
	return false
}
