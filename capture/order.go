package capture

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/sshpcap/sshpcap/internal/newfile"
	"github.com/sshpcap/sshpcap/merge"
)

// order is what is needed to put late packets in their place when the capture has ended. They are written as they come,
// so that the file holds every packet at any moment, whatever happens to us.
type order struct {
	places   merge.Places
	begun    bool   // there is a packet
	begin    int64  // time of the first one written
	newest   int64  // time written so far
	earliest int64  // time that was late; math.MaxInt64 = none was
	nano     []bool // of the interfaces, by number
	done     bool   // the file is in time order although some were late
}

func newOrder() order { return order{newest: math.MinInt64, earliest: math.MaxInt64} }

// note takes note of a run that will be written at offset. All of it is late or nothing is.
func (o *order) note(offset int64, recs []merge.Record) {
	if len(recs) == 0 {
		return
	}
	if !o.begun {
		o.begun, o.begin = true, recs[0].Time
	}
	o.places.Note(offset, o.newest)
	if first := recs[0].Time; first < o.newest {
		o.earliest = min(o.earliest, first)
	}
	o.newest = max(o.newest, recs[len(recs)-1].Time)
}

// disordered reports whether late packets stand behind later ones.
func (o *order) disordered() bool { return o.earliest != math.MaxInt64 && !o.done }

// putInOrder rewrites the output from its first late packet's place on. The old file stays what it is until the new one
// is whole and on the disk, and takes its place in one step; what is before that place is copied by the kernel, or
// shared where the file system can. Nothing is done to what is no regular file of ours. If it fails, or ctx ends, the
// file stays as it was: valid, with late packets behind later ones.
func (o *output) putInOrder(ctx context.Context) error {
	f := o.file
	if !o.order.disordered() || f.fd == nil || f.special || !f.own {
		return nil
	}
	old, err := f.reopen()
	if err != nil {
		return err
	}
	defer old.Close()
	fresh, err := newfile.New(f.Path)
	if err != nil {
		return err
	}
	defer fresh.Discard()
	if err := o.rewrite(ctx, old, fresh.File); err != nil {
		return err
	}
	if err := takePlace(fresh, old, f.Path); err != nil {
		return err
	}
	f.exchange(fresh.Keep())
	o.order.done = true
	return nil
}

// lateMemory is how many bytes of late packets are held at once while they are sorted.
const lateMemory = 8 << 20

// rewrite writes old in time order.
func (o *output) rewrite(ctx context.Context, old, fresh *os.File) error {
	tail := merge.Tail{
		File:   old,
		From:   o.order.places.Before(o.order.earliest),
		To:     o.whole(),
		Pcapng: o.pcapng != nil,
		Nano:   o.order.nano,
		Dir:    filepath.Dir(o.file.Path),
		Memory: lateMemory,
	}
	if o.pcap != nil {
		tail.Nano = []bool{o.header.Nano}
	}
	if err := copyHead(ctx, fresh, old, tail.From); err != nil {
		return err
	}
	w := bufio.NewWriterSize(fresh, 1<<20)
	_, err := tail.WriteOrdered(ctx, w)
	if err := errors.Join(err, w.Flush()); err != nil {
		return err
	}
	if n, err := fresh.Seek(0, io.SeekCurrent); err != nil || n != tail.To {
		return errors.Join(err, io.ErrShortWrite)
	}
	return nil
}

// copyHead copies the first n bytes. On Linux this is copy_file_range(2), a large piece at a time.
func copyHead(ctx context.Context, to, from *os.File, n int64) error {
	const piece = 64 << 20
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		copied, err := io.CopyN(to, from, min(n, piece))
		if err != nil {
			return err
		}
		n -= copied
	}
	return nil
}

// reopen opens for reading what f writes, provided that it is still there.
func (f *file) reopen() (*os.File, error) {
	fd, err := newfile.Reopen(f.Path)
	if err != nil {
		return nil, err
	}
	if !sameFile(fd, f.fd) {
		return nil, errors.Join(errRemoved, fd.Close())
	}
	return fd, nil
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// takePlace puts the file in the place of old, with its rights.
func takePlace(fresh *newfile.File, old *os.File, path string) error {
	info, err := old.Stat()
	if err == nil {
		err = errors.Join(fresh.Chmod(info.Mode().Perm()), fresh.Sync())
	}
	if err != nil {
		return err
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(there, info) {
		return errors.Join(err, errRemoved)
	}
	return fresh.Replace()
}
