package cf

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// saved is what is written into the config file in place of the tokens that stand there.
type saved struct {
	target, old     string // write only where this platform and this refresh token stand
	access, refresh string
}

// saveTokens patches the config file as it is now: somebody may have targeted another space since it was read. It is
// left alone when somebody has logged in since then.
func saveTokens(path string, s saved) error {
	err := trySave(path, s)
	if errors.Is(err, fs.ErrNotExist) {
		err = trySave(path, s) // a cf CLI that starts removes the temporary files that it finds
	}
	return err
}

func trySave(path string, s saved) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	raw, err := readConfigFile(path)
	if err != nil {
		return err
	}
	now, err := parseConfig(path, raw)
	if err != nil {
		return err
	}
	if now.Target != s.target || now.RefreshToken != s.old {
		return nil
	}
	if raw, err = patch(raw, "AccessToken", s.access); err != nil {
		return err
	}
	if raw, err = patch(raw, "RefreshToken", s.refresh); err != nil {
		return err
	}
	return replaceFile(path, raw)
}

// replaceFile replaces a file in one step: whoever reads it sees all of the old or all of the new. The temporary file
// has the name that the cf CLI gives to its own, and clears away when one was left behind.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "temp-config") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error says more
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes a rename last. Windows cannot.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// patch replaces the value of a key of the outermost object, or adds the key, and changes no other byte. Keys are
// compared as encoding/json does, which both we and the cf CLI read them with.
func patch(raw []byte, key, value string) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errNotObject
	}
	var out []byte
	found, empty, copied := false, true, 0
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errNotObject
		}
		empty = false
		var old json.RawMessage
		if err := d.Decode(&old); err != nil {
			return nil, errNotObject
		}
		if end := int(d.InputOffset()); strings.EqualFold(name.(string), key) {
			out = append(append(out, raw[copied:end-len(old)]...), text...)
			found, copied = true, end
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errNotObject
	}
	end := int(d.InputOffset()) - 1 // of the closing brace
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	if !found {
		kept := bytes.TrimRight(raw[:end], " \t\r\n")
		out = append(out, kept...)
		if !empty {
			out = append(out, ',')
		}
		name, _ := json.Marshal(key) // a string always can be
		out = append(append(append(append(out, "\n  "...), name...), ": "...), text...)
		copied = len(kept)
	}
	return append(out, raw[copied:]...), nil
}

var errNotObject = errors.New("the config is not a JSON object")
