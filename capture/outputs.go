package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sshpcap/sshpcap/internal/newfile"
	"github.com/sshpcap/sshpcap/merge"
)

// Rotation makes a new file of the output again and again. Each is whole and describes itself, and packets are in strict
// time order within and across files. The zero value is one file.
type Rotation struct {
	Size     int64         // bytes after which a file is full; 0 = no limit
	Interval time.Duration // of packet time that a file holds; 0 = no limit
	Keep     int           // files that are kept, the youngest; 0 = all
}

func (r Rotation) on() bool { return r.Size > 0 || r.Interval > 0 }

// openFiles is how many full files of a rotated output wait for late packets before they are put in order and closed.
const openFiles = 3

// outputs are the files of a capture beside the one that is being written: full ones, and those of single instances.
type outputs struct {
	made    int       // files of the rotated output
	full    []*output // the last of them, oldest first, not closed yet
	names   []string  // of all that are there
	removed int       // of those that were, by Rotation.Keep
	size    int64     // of those that are closed
	strayed bool      // a packet came so late that its file was closed, or full twice over
	messy   bool      // a closed file is not in order
	reason  error     // why
	parts   map[*instance]*output

	accounts []FileReport // of those that are closed
}

// partName is the name of the file of one instance: capture.shop-web-0.pcapng.
func partName(path string, in *instance) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "." + strings.NewReplacer("/", "-", string(os.PathSeparator), "-", ":", "-").Replace(in.Name) + ext
}

// beside is another file like this one.
func (f *file) beside(path string) *file {
	return &file{Output: Output{Path: path, Format: f.Format, Overwrite: f.Overwrite}, stopping: f.stopping}
}

// checkedOutput is what must be possible from the beginning: a rotated output's own name is that of no file.
func (cfg Config) checkedOutput() Output {
	out := cfg.Output
	out.Overwrite = out.Overwrite || cfg.Rotation.on()
	return out
}

// checkOutputs refuses what several files cannot be, and says early which are there already.
func (r *run) checkOutputs() error {
	rotation, least := r.cfg.Rotation, int64(leastFile+r.cfg.streams()*leastInterface)
	switch {
	case rotation.Keep > 0 && !rotation.on():
		return &Error{Problem: "nothing says when a new file is to begin", Tip: "give --rotate-size or --rotate-interval", Usage: true}
	case rotation.Size > 0 && rotation.Size < least:
		return &Error{Problem: fmt.Sprintf("a file of %d bytes has no room for packets", rotation.Size), Tip: fmt.Sprintf("give --rotate-size at least %d", least), Usage: true}
	case (rotation.on() || r.cfg.PerInstance) && r.out.special, (rotation.on() || r.cfg.PerInstance) && r.out.File != nil:
		return &Error{Problem: r.out.name() + " cannot be several files", Tip: "name a file with -o", Usage: true}
	case r.cfg.PerInstance:
		return r.checkParts()
	}
	return nil
}

func (r *run) checkParts() error {
	seen := make(map[string]string)
	for _, in := range r.all() {
		path := partName(r.out.Path, in)
		if other, ok := seen[path]; ok {
			return &Error{Problem: fmt.Sprintf("the packets of %s and %s would go to one file, %s", other, in.Name, path), Tip: "leave --per-instance out", Usage: true}
		}
		seen[path] = in.Name
		part, err := newFile(Output{Path: path, Overwrite: r.out.Overwrite})
		if err != nil {
			return err
		}
		if part.special {
			return &Error{Problem: path + " exists, and is no file", Tip: "remove it, or use another -o", Usage: true, Err: fs.ErrExist}
		}
	}
	return nil
}

// placeOf returns the output for the first records of a run, and how many of them it is for.
func (p *pump) placeOf(recs []merge.Record) (*output, int, error) {
	first := recs[0].Time
	if !p.run.cfg.Rotation.on() {
		return p.output, len(recs), nil
	}
	if first < p.output.order.begin && len(p.others.full) > 0 {
		o, end := p.fullFile(first)
		if !o.isOverfull(p.run.cfg.Rotation) {
			return o, countBefore(recs, end), nil
		}
		p.others.strayed = true
	}
	if p.isFull(first) {
		if err := p.rotate(first); err != nil {
			return nil, 0, err
		}
	}
	return p.output, p.output.room(recs, p.run.cfg.Rotation), nil
}

// isOverfull reports whether a file takes no more, not even what belongs into it: with one packet of the far future, behind
// which all others are late, an instance could have it grow without end.
func (o *output) isOverfull(r Rotation) bool { return r.Size > 0 && o.size() >= 2*r.Size }

// mostEarly is how many files may be begun by packet time beyond those for which time has passed here, once what waited
// has been written: with packets an hour apart an instance could have a file made for each.
const mostEarly = 1000

// isFull reports whether a packet of the time t begins a new file.
func (p *pump) isFull(t int64) bool {
	r := p.run.cfg.Rotation
	if p.output.isOverfull(r) {
		p.others.strayed = p.others.strayed || t < p.output.order.newest
		return true
	}
	if r.Interval > 0 && int64(p.others.made) > mostEarly+int64(time.Since(p.run.started)/r.Interval) {
		r.Interval = 0
	}
	return p.output.isFull(t, r)
}

// fullFile returns the full file that a late packet belongs to, and the time at which the next one begins.
func (p *pump) fullFile(t int64) (o *output, end int64) {
	full := p.others.full
	i := len(full) - 1
	for i > 0 && t < full[i].order.begin {
		i--
	}
	if t < full[i].order.begin && p.others.made > len(full)+1+p.others.removed {
		p.others.strayed = true
	}
	end = p.output.order.begin
	if i+1 < len(full) {
		end = full[i+1].order.begin
	}
	return full[i], end
}

func countBefore(recs []merge.Record, end int64) int {
	n := 1
	for n < len(recs) && recs[n].Time < end {
		n++
	}
	return n
}

// isFull is what a packet of the time t finds.
func (o *output) isFull(t int64, r Rotation) bool {
	switch {
	case !o.order.begun:
		return false
	case r.Interval > 0 && t >= o.order.begin+int64(r.Interval):
		return true
	}
	return r.Size > 0 && o.size()+o.ending() >= r.Size && t >= o.order.newest
}

// ending is how many bytes the file's last blocks take.
func (o *output) ending() int64 {
	if o.pcap != nil {
		return 0
	}
	return int64(o.sources) * pcapngFinalSize
}

// room is how many of the records the file takes: at least one.
func (o *output) room(recs []merge.Record, r Rotation) int {
	begin := recs[0].Time
	if o.order.begun {
		begin = o.order.begin
	}
	n := len(recs)
	if r.Interval > 0 {
		n = countBefore(recs, begin+int64(r.Interval))
	}
	if r.Size == 0 {
		return n
	}
	left := r.Size - o.size() - o.ending()
	for i := range n {
		if left -= o.cost(recs[i]); left < 0 {
			return max(i, 1)
		}
	}
	return n
}

// rotate puts a new file in the place of the full one.
func (p *pump) rotate(first int64) error {
	full := p.output
	if err := p.complete(full); err != nil {
		return err
	}
	p.others.full = append(p.others.full, full)
	for len(p.others.full) > openFiles {
		if err := p.closeFull(context.Background()); err != nil {
			return err
		}
	}
	p.output = newOutput(p.nextFile(time.Unix(0, first)), p.run.cfg, full.header)
	if p.output.pcapng != nil {
		for _, src := range p.awaited() {
			if err := p.output.add(src); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextFile is where packets go from now on. For one of a rotated output the oldest beyond what is kept is removed.
func (p *pump) nextFile(first time.Time) *file {
	if !p.run.cfg.Rotation.on() {
		return p.run.out
	}
	p.others.made++
	path := newfile.Rotated(p.run.out.Path, p.others.made, first)
	p.others.names = append(p.others.names, path)
	for keep := p.run.cfg.Rotation.Keep; keep > 0 && len(p.others.names) > keep; {
		p.removeOldest()
	}
	return p.run.out.beside(path)
}

func (p *pump) removeOldest() {
	oldest := p.others.names[0]
	p.others.names = p.others.names[1:]
	p.others.removed++
	if full := p.others.full; len(full) > 0 && full[0].file.Path == oldest {
		p.others.full = full[1:]
		p.others.size += full[0].whole()
		_ = full[0].file.fd.Close() // nothing of it is wanted
	} else {
		p.others.accounts = slices.DeleteFunc(p.others.accounts, func(f FileReport) bool { return f.Path == oldest })
	}
	if info, err := os.Stat(oldest); err == nil && os.Remove(oldest) == nil { // what cannot be removed stays
		p.others.size -= info.Size()
	}
}

// closeFull puts the oldest full file in order and closes it.
func (p *pump) closeFull(ctx context.Context) error {
	o := p.others.full[0]
	p.others.full = p.others.full[1:]
	return p.closeOutput(ctx, o)
}

// closeOutput ends a file that is complete.
func (p *pump) closeOutput(ctx context.Context, o *output) error {
	err := o.flush()
	if err == nil {
		if e := o.putInOrder(ctx); e != nil {
			p.others.messy, p.others.reason = true, e
		}
	}
	err = errors.Join(err, o.file.close(o.whole()))
	p.book(o)
	p.others.size += o.whole()
	if err != nil {
		return o.explain(err)
	}
	return nil
}

// complete writes what ends a file: the statistics of what it holds.
func (p *pump) complete(o *output) error {
	if err := o.writeNames(); err != nil {
		return err
	}
	for _, src := range p.openSources() {
		if err := o.final(src, p.merger.Stats(src.id)); err != nil {
			return err
		}
	}
	return o.flush()
}

// writePart writes a run to the file of its instance, with the gap that came before it.
func (p *pump) writePart(src *source, gap *gap, b *merge.Batch, recs []merge.Record) error {
	if !p.run.cfg.PerInstance || len(recs) == 0 {
		return nil
	}
	in := src.stream.instance
	o := p.others.parts[in]
	if o == nil {
		o = newOutput(p.run.out.beside(partName(p.run.out.Path, in)), p.run.cfg, p.output.header)
		o.part = true
		p.others.parts[in] = o
	}
	left := src.gap
	src.gap = gap
	_, err := o.writeRun(src, b, recs)
	if src.gap = left; err != nil {
		return o.explain(err)
	}
	return nil
}

// flushOthers writes what the other files still hold.
func (p *pump) flushOthers() error {
	for _, o := range p.others.all() {
		if err := o.flush(); err != nil {
			return o.explain(err)
		}
	}
	return nil
}

// errStrayed is why a rotated output is not in order.
var errStrayed = errors.New("some came when the files that they belong to had been closed")

// list names the files that there are, beside one that is the whole output.
func (o *outputs) list(whole string) (files []string) {
	for _, account := range o.accounts {
		if account.Path != whole {
			files = append(files, account.Path)
		}
	}
	return files
}

// all are the outputs that are open.
func (o *outputs) all() []*output {
	return slices.AppendSeq(slices.Clone(o.full), maps.Values(o.parts))
}

// size is how many bytes the output has in all its files.
func (p *pump) size() int64 {
	n := p.others.size + p.output.size()
	for _, o := range p.others.full {
		n += o.size()
	}
	return n
}

// closeOthers ends all files but the one that is being written.
func (p *pump) closeOthers() (err error) {
	ctx, cancel := p.run.untilCut()
	defer cancel()
	for len(p.others.full) > 0 {
		err = errors.Join(err, p.closeFull(ctx))
	}
	size := p.others.size
	for _, o := range p.others.parts {
		if p.err == nil {
			err = errors.Join(err, p.complete(o))
		}
		err = errors.Join(err, p.closeOutput(ctx, o))
	}
	p.others.size = size // is that of the rotated output
	return err
}
