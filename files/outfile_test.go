//go:build unix

package files

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What goes through an outFile is in the file, in order, whatever pieces it came in, and takes no more space than that.
func TestOutFile(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for _, most := range []int{10, 1000, outUnit - 1, outUnit, 3 * outUnit, 3 * outReserve} {
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		o := newOutFile(f)
		var want []byte
		for range 40 {
			p := make([]byte, min(random.IntN(most+1), max(0, 3*outReserve-len(want))))
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			if n, err := o.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			want = append(want, p...)
			if info, err := f.Stat(); err != nil || info.Size()%outUnit != 0 || info.Size() < int64(len(want)-outUnit) {
				t.Fatalf("%d bytes of %d are in the file, %v", info.Size(), len(want), err)
			}
		}
		if err := o.finish(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("pieces of up to %d: %d bytes of %d, or others, %v", most, len(got), len(want), err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if space, ok := info.Sys().(*syscall.Stat_t); ok && space.Blocks*512 > info.Size()+1<<20 {
			t.Errorf("%d bytes take %d", info.Size(), space.Blocks*512)
		}
	}
}

func TestOutFileFull(t *testing.T) {
	t.Parallel()
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err) // not on every system
	}
	defer f.Close()
	o := newOutFile(f)
	if n, err := o.Write(make([]byte, outUnit-1)); n != outUnit-1 || err != nil {
		t.Error(n, err)
	}
	if n, err := o.Write(make([]byte, 3*outUnit)); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Error(n, err)
	}
	o = newOutFile(f)
	if _, err := o.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if err := o.finish(); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}
