package container

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// Fingerprints are those of a host key in the four forms in which platforms show them.
type Fingerprints struct {
	SHA256Hex    string // 64 characters
	SHA256Base64 string // 43 characters, no padding
	SHA1         string // 59 characters, aa:bb:…
	MD5          string // 47 characters, aa:bb:…
}

// Fingerprints are those of the proxy's host key.
func (p *Proxy) Fingerprints() Fingerprints {
	key := p.HostKey.PublicKey().Marshal()
	long, middle, short := sha256.Sum256(key), sha1.Sum(key), md5.Sum(key)
	return Fingerprints{
		SHA256Hex:    hex.EncodeToString(long[:]),
		SHA256Base64: base64.RawStdEncoding.EncodeToString(long[:]),
		SHA1:         colons(middle[:]),
		MD5:          colons(short[:]),
	}
}

func colons(digest []byte) string {
	pairs := make([]string, len(digest))
	for i, b := range digest {
		pairs[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(pairs, ":")
}
