package cf

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"golang.org/x/crypto/ssh"
)

// fingerprintKind tells the form of a fingerprint by its length; "" is none that is known.
func fingerprintKind(fingerprint string) string {
	switch len(trimFingerprint(fingerprint)) {
	case 64:
		return "SHA-256, hex"
	case 43:
		return "SHA-256, base64"
	case 59:
		return "SHA-1"
	case 47:
		return "MD5"
	}
	return ""
}

func trimFingerprint(s string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "SHA256:"), "=")
}

// fingerprintLike gives the fingerprint of key in the form of the one that it is to be compared with.
func fingerprintLike(like string, key ssh.PublicKey) string {
	raw := key.Marshal()
	switch len(like) {
	case 64:
		sum := sha256.Sum256(raw)
		return hex.EncodeToString(sum[:])
	case 43:
		sum := sha256.Sum256(raw)
		return base64.RawStdEncoding.EncodeToString(sum[:])
	case 59:
		sum := sha1.Sum(raw)
		return colons(sum[:])
	case 47:
		sum := md5.Sum(raw)
		return colons(sum[:])
	}
	return ""
}

func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}

// checkHostKey compares a key with the fingerprint that the API tells.
func checkHostKey(fingerprint string, key ssh.PublicKey) error {
	want := trimFingerprint(fingerprint)
	have := fingerprintLike(want, key)
	if have != "" && subtle.ConstantTimeCompare([]byte(have), []byte(want)) == 1 {
		return nil
	}
	if have == "" {
		have = ssh.FingerprintSHA256(key)
	}
	return problem(KindHostKey, "somebody may be in between, or the platform's configuration is wrong: ask its operators; "+
		"-k, --skip-host-validation goes on all the same", "the SSH host key is not the one of the platform: its fingerprint is %s, the API tells %s", have, oneLine(want))
}
