package files

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"math"
	"os"
	"time"

	"github.com/sshpcap/sshpcap/internal/newfile"
	"github.com/sshpcap/sshpcap/merge"
)

// order is what is needed to put packets in order that stand behind later ones of their own input.
type order struct {
	places   merge.Places
	newest   int64
	earliest int64
	moved    int64
}

func newOrder() order { return order{newest: math.MinInt64, earliest: math.MaxInt64} }

// run takes note of packets that are written now, which are in order in themselves. Only what its own input has out of
// order is behind later ones.
func (o *order) run(in *input, recs []merge.Record) {
	if first := recs[0].Time; first < o.newest {
		o.earliest = min(o.earliest, first)
		o.moved += int64(len(recs))
		in.disordered = true
	}
	o.newest = max(o.newest, recs[len(recs)-1].Time)
}

func (o *order) disordered() bool { return o.earliest != math.MaxInt64 }

// rewrite writes what the sink wrote to old in time order.
func (s *sink) rewrite(ctx context.Context, old io.ReaderAt, to io.Writer, dir string) error {
	tail := merge.Tail{File: old, From: s.order.places.Before(s.order.earliest), To: s.size(), Pcapng: s.pcapng != nil, Nano: s.nano, Offset: s.offset, Dir: dir}
	if _, err := io.Copy(to, untilDone{ctx, io.NewSectionReader(old, 0, tail.From)}); err != nil {
		return err
	}
	w := bufio.NewWriterSize(to, 1<<20)
	if _, err := tail.WriteOrdered(ctx, w); err != nil {
		return err
	}
	return w.Flush()
}

// untilDone reads until ctx ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// toFile merges into one file, which appears at the end.
func (m *merging) toFile(ctx context.Context, inputs []source) error {
	f, err := newfile.New(m.cfg.Path)
	if err != nil {
		return err
	}
	defer func() { f.Discard() }()
	s, err := m.pass(ctx, inputs, newOutFile(f.File), m.cfg.Format)
	if err != nil {
		return err
	}
	if s.order.disordered() {
		ordered, err := newfile.New(m.cfg.Path)
		if err != nil {
			return err
		}
		old := f
		defer old.Discard()
		f = ordered
		if err := s.rewrite(ctx, old, ordered, m.cfg.TempDir); err != nil {
			return err
		}
	}
	if err := m.appear(f); err != nil {
		return err
	}
	m.report.Size, m.report.Files = s.size(), []string{m.cfg.Path}
	return nil
}

// appear gives a complete file its name.
func (m *merging) appear(f *newfile.File) error {
	if m.cfg.Overwrite {
		return f.Replace()
	}
	return f.Appear()
}

// toOrdered merges to a stream, into a compressed file, or into a rotated output. What cannot be put in order afterwards must be
// before.
func (m *merging) toOrdered(ctx context.Context, inputs []source) error {
	sorted, err := m.areSorted(ctx, inputs)
	if err != nil {
		return err
	}
	if !sorted {
		s, err := m.toTemp(ctx, inputs)
		if err != nil {
			return err
		}
		inputs = []source{s}
		m.cfg.Dedup = 0 // is done
		m.report.Packets = 0
		m.cfg.Progress.Packets.Store(0)
	}
	if m.cfg.rotates() {
		return m.rotate(ctx, inputs)
	}
	if m.cfg.Out == nil {
		return m.toCompressed(ctx, inputs)
	}
	return m.throughCompression(ctx, inputs, m.cfg.Out)
}

// toCompressed merges into one compressed file, which appears at the end.
func (m *merging) toCompressed(ctx context.Context, inputs []source) error {
	f, err := newfile.New(m.cfg.Path)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := m.throughCompression(ctx, inputs, newOutFile(f.File)); err != nil {
		return err
	}
	if err := m.appear(f); err != nil {
		return err
	}
	m.report.Files = []string{m.cfg.Path}
	return nil
}

func (m *merging) throughCompression(ctx context.Context, inputs []source, w io.Writer) error {
	w, err := m.cfg.compress(w)
	if err != nil {
		return err
	}
	s, err := m.pass(ctx, inputs, w, m.cfg.Format)
	if err == nil {
		m.report.Size = s.onDisk()
	}
	return err
}

// areSorted reads all inputs that are regular files for it. Of others it is not known.
func (m *merging) areSorted(ctx context.Context, inputs []source) (bool, error) {
	if len(inputs) == 1 && inputs[0].report < 0 {
		return true, nil // one of ours
	}
	for _, s := range inputs {
		if s.from != nil || s.late {
			return false, nil
		}
	}
	for _, s := range inputs {
		if ok, err := isSorted(ctx, s); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// rotation is an output in several files.
type rotation struct {
	m     *merging
	file  *newfile.File // the one in the making, if any
	path  string        // where it will be
	begin int64
}

// rotate merges into files of which each begins where the one before is full.
func (m *merging) rotate(ctx context.Context, inputs []source) error {
	r := &rotation{m: m}
	defer func() {
		if r.file != nil {
			r.file.Discard()
		}
	}()
	s := m.newSink(m.cfg.Format)
	s.rotation = r
	if err := m.mergeTo(ctx, inputs, s); err != nil {
		return err
	}
	if r.file == nil { // not one packet
		if err := r.next(s, time.Now().UnixNano()); err != nil {
			return err
		}
	}
	return r.finish(s)
}

// isFull reports whether a packet of the time t, so large, begins another file.
func (r *rotation) isFull(s *sink, t, bytes int64) bool {
	cfg := &r.m.cfg
	switch {
	case r.file == nil:
		return true
	case cfg.RotateInterval > 0 && t-r.begin >= int64(cfg.RotateInterval):
		return true
	}
	return cfg.RotateSize > 0 && s.size()+bytes > cfg.RotateSize && s.packets > 0
}

// next begins a file, which describes itself.
func (r *rotation) next(s *sink, t int64) error {
	if r.file != nil {
		if err := r.finish(s); err != nil {
			return err
		}
	}
	path := newfile.Rotated(r.m.cfg.Path, len(r.m.report.Files)+r.m.report.Removed+1, time.Unix(0, t))
	if _, err := os.Lstat(path); err == nil && !r.m.cfg.Overwrite {
		return &os.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	f, err := newfile.New(path)
	if err != nil {
		return err
	}
	r.file, r.path, r.begin = f, path, t
	w, err := r.m.cfg.compress(newOutFile(f.File))
	if err != nil {
		return err
	}
	return s.begin(w)
}

func (r *rotation) finish(s *sink) error {
	if err := s.finish(); err != nil {
		return err
	}
	if err := r.m.appear(r.file); err != nil {
		return err
	}
	r.file.Discard()
	r.file = nil
	report := &r.m.report
	report.Files, report.Size = append(report.Files, r.path), report.Size+s.onDisk()
	for keep := r.m.cfg.RotateKeep; keep > 0 && len(report.Files) > keep; {
		if info, err := os.Stat(report.Files[0]); err == nil && os.Remove(report.Files[0]) == nil {
			report.Size -= info.Size()
		}
		report.Files = report.Files[1:]
		report.Removed++
	}
	return nil
}
