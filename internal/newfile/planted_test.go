//go:build unix

package newfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/internal/newfile"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPlanted: of links, pipes and devices in directories where everybody may write only ours, and the directory's owner's,
// are taken.
func TestPlanted(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("root is needed")
		}
		t.Skip("no root")
	}
	const stranger = 61001
	base := t.TempDir()
	must(t, os.WriteFile(filepath.Join(base, "target"), nil, 0o600))
	for name, mode := range map[string]os.FileMode{"tmp": 0o777 | fs.ModeSticky, "open": 0o777, "own": 0o755} {
		dir := filepath.Join(base, name)
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.Chmod(dir, mode))
		for _, who := range []int{0, stranger} {
			at := func(what string) string {
				return filepath.Join(dir, what+map[int]string{0: "-ours", stranger: "-theirs"}[who])
			}
			must(t, os.Symlink("../target", at("link")))
			must(t, os.Symlink("nothing", at("dangling")))
			must(t, os.Symlink("..", at("dir")))
			must(t, os.Symlink(at("link"), at("far")))
			must(t, unix.Mkfifo(at("fifo"), 0o666))
			must(t, os.WriteFile(at("file"), nil, 0o666))
			for _, what := range []string{"link", "dangling", "dir", "far", "fifo", "file"} {
				must(t, os.Lchown(at(what), who, -1))
			}
			for path, planted := range map[string]bool{
				at("link"): true, at("dangling"): true, at("dir") + "/new": true, at("far"): true, at("fifo"): true,
				at("file"): false, at("new"): false, at("nowhere") + "/new": false, "/dev/null": false, "/dev/stdout": false,
			} {
				want := planted && who == stranger && name != "own"
				if err := newfile.Planted(path); errors.Is(err, newfile.ErrPlanted) != want || !want && err != nil {
					t.Errorf("%s: %v, want planted %v", path, err, want)
				}
			}
		}
	}
	// A way over a trusted link that leads to one that is not.
	must(t, os.Symlink("tmp/link-theirs", filepath.Join(base, "mine")))
	if err := newfile.Planted(filepath.Join(base, "mine")); !errors.Is(err, newfile.ErrPlanted) {
		t.Error(err)
	}
	// Links in a circle end.
	must(t, os.Symlink("circle", filepath.Join(base, "circle")))
	must(t, newfile.Planted(filepath.Join(base, "circle")))
	// What we own ourselves is ours, whoever has the directory.
	must(t, os.Chown(filepath.Join(base, "tmp"), stranger, -1))
	must(t, newfile.Planted(filepath.Join(base, "tmp", "link-ours")))
	must(t, newfile.Planted(filepath.Join(base, "tmp", "link-theirs"))) // theirs is the directory
}

// TestReopen: no link is followed, and nobody waited for.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	file, link, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	must(t, os.WriteFile(file, []byte("x"), 0o600))
	must(t, os.Symlink(file, link))
	must(t, unix.Mkfifo(fifo, 0o600))
	f, err := newfile.Reopen(file)
	must(t, err)
	f.Close()
	if f, err := newfile.Reopen(link); err == nil {
		f.Close()
		t.Error("followed a link")
	}
	f, err = newfile.Reopen(fifo)
	must(t, err)
	f.Close()
}
