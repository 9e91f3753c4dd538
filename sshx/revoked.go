package sshx

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// mostRevoked bounds a file of revoked keys, as ssh's own buffers do.
const mostRevoked = 128 << 20

// revocations caches the files of RevokedHostKeys.
type revocations struct {
	mu    sync.Mutex
	lists map[string]*revokedKeys
}

// revokedKeys is one of them: a list of OpenSSH, or a text with a public key on each line.
type revokedKeys struct {
	list  *krl
	err   error // why the file cannot be read: then every key is refused
	stamp string
}

// check gives an error for a key that the file revokes. As in ssh, every key is refused where the file cannot be read.
func (r *revocations) check(file string, key ssh.PublicKey) error {
	list := r.read(file)
	if list.err != nil {
		return &Error{Kind: KindRevokedHostKey, Err: list.err,
			Problem: "no host key is accepted, for the file of RevokedHostKeys cannot be read: " + oneLine(file) + ": " + why(list.err),
			Tip:     "correct RevokedHostKeys in ssh_config (none: no file); it names a text with a public key on each line, or a list made by ssh-keygen -k"}
	}
	if list.list.revokes(key) {
		return revokedError(key, file)
	}
	return nil
}

// why leaves out the name of a file that is named already.
func why(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return plain(err)
}

func (r *revocations) read(file string) *revokedKeys {
	r.mu.Lock()
	defer r.mu.Unlock()
	stamp := ""
	if info, err := os.Stat(file); err == nil {
		stamp = fmt.Sprintf("%d %d", info.ModTime().UnixNano(), info.Size())
	}
	list := r.lists[file]
	if list == nil || list.stamp != stamp {
		list = &revokedKeys{stamp: stamp}
		list.list, list.err = readRevoked(file)
		if r.lists == nil {
			r.lists = map[string]*revokedKeys{}
		}
		r.lists[file] = list
	}
	return list
}

func readRevoked(file string) (*krl, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mostRevoked+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > mostRevoked:
		return nil, errors.New("it is too large")
	case bytes.HasPrefix(text, []byte(krlMagic)):
		return parseKRL(text)
	}
	return parseRevokedText(text)
}

// parseRevokedText reads keys as they stand in .pub files. A line that cannot be read is an error, as in ssh.
func parseRevokedText(text []byte) (*krl, error) {
	k := &krl{keys: map[string]bool{}}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		words := bytes.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		blob, ok := keyBlob(words)
		if !ok {
			return nil, fmt.Errorf("line %d is not a public key", n)
		}
		if key, err := ssh.ParsePublicKey(blob); err == nil {
			blob = plainKey(key).Marshal()
		}
		k.keys[string(blob)] = true
	}
	return k, nil
}

// keyBlob gives the key in "TYPE BASE64 ...". Its type may be one that is not known here: no host can show us such a key.
func keyBlob(words [][]byte) ([]byte, bool) {
	if len(words) < 2 {
		return nil, false
	}
	blob, err := base64.StdEncoding.DecodeString(string(words[1]))
	w := &wire{b: blob}
	return blob, err == nil && bytes.Equal(w.string(), words[0]) && w.err == nil
}
