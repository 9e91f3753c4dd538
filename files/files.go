// Package files merges capture files into one in time order: pcap and pcapng, also compressed. It knows nothing of SSH
// and of live captures; the formats that it writes are package merge's.
//
// One packet's way: an input (input.go, pcapng.go) frames what it reads into chunks; a worker (merger.go) gathers a round
// of what the inputs have read (reading.go), merges it (round.go, tree.go), and gives it to the sink (sink.go), which
// writes round after round.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Format is that of the output.
type Format int

const (
	Pcapng Format = iota // keeps interfaces, comments and all that pcap has no place for
	Pcap                 // one link type, packets only
)

// Config says what to merge, and where to.
type Config struct {
	Inputs []string  // paths; "-" is Stdin. Packets of the same time come in the order of the inputs, as long as these are sorted
	Stdin  io.Reader // nil: none
	Format Format

	Path      string    // of the output, which appears when it is complete
	Overwrite bool      // what is at Path may be replaced
	Out       io.Writer // instead of Path
	Compress  Compression

	RotateSize     int64         // bytes, before they are compressed, after which a new file is begun; 0 = never. Names are made of Path
	RotateInterval time.Duration // of packet time in one file; 0 = no limit
	RotateKeep     int           // files that are kept; 0 = all

	// Dedup marks a packet that has the same bytes as one of another interface, or another input, up to so long before, by
	// a comment. None is dropped. 0 = off; pcapng only.
	Dedup time.Duration

	Application, Comment string // of the output (pcapng)
	TempDir              string // for what does not fit into memory; "" = os.TempDir()
	MaxOpen              int    // inputs that are open at once; 0 = as many as the system lets us
	Progress             *Progress
}

// Progress is counted up while Merge runs. Whoever shows it reads it when it likes.
type Progress struct {
	Read    atomic.Int64 // bytes of the inputs, as they are on disk
	Total   atomic.Int64 // of them; 0 = not known
	Packets atomic.Int64 // written
}

// Report is what a merge did.
type Report struct {
	Packets    int64
	Duplicates int64    // packets marked
	Moved      int64    // packets that stood behind later ones of their own input
	Files      []string // that are there, whole: of a rotated output also when the merge failed later
	Removed    int      // files that were not kept
	Size       int64    // bytes, as they are on disk
	Inputs     []InputReport

	// Tcpdump reads no pcapng whose interfaces differ in link type or snapshot length, or with packets beyond that; other
	// programs do. Only the last two are no matter in pcap.
	SeveralLinkTypes bool
	SeveralSnaplens  bool
}

// InputReport is what was in one input.
type InputReport struct {
	Name       string
	Format     string // "pcap", "pcapng, gzip"
	Packets    int64
	Interfaces int
	Sorted     bool
	Damage     *Damage // nil = whole
	Notes      []Note
	Skipped    int64 // packets that make no sense, and are left out
}

// Damage is where an input ends to make sense. What is before was used.
type Damage struct {
	File   string
	Offset int64 // bytes from the beginning, of what it is when it is uncompressed
	Reason string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d: %s", d.File, d.Offset, d.Reason)
}

// InputError is an input that cannot be used at all.
type InputError struct {
	Name string
	Err  error
}

func (e *InputError) Error() string { return e.Name + ": " + e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// ErrNoCapture is what is wrong with an input of another kind.
var ErrNoCapture = errors.New("not a capture file: neither pcap nor pcapng")

// LinkTypeError says that a pcap file cannot hold the packets of all inputs.
type LinkTypeError struct {
	Types map[string][]string // link type: the inputs
}

func (e *LinkTypeError) Error() string {
	var types []string
	for name, inputs := range e.Types {
		if len(inputs) > 3 {
			inputs = append(slices.Clone(inputs[:3]), fmt.Sprintf("%d more", len(inputs)-3))
		}
		types = append(types, name+" in "+strings.Join(inputs, ", "))
	}
	slices.Sort(types)
	return "a pcap file holds one link type only, and there are " + strings.Join(types, " and ")
}

// Merge merges all inputs. The output appears when it is complete; if Merge fails, or ctx ends before, there is none, except
// for what has gone to Out and for full files of a rotated output. Damage is no failure: see the report. When ctx ends
// Merge does not wait for an input that is no regular file: what comes from it next may still be read, and is dropped.
func Merge(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Progress == nil {
		cfg.Progress = new(Progress)
	}
	if cfg.TempDir == "" {
		cfg.TempDir = os.TempDir()
	}
	if cfg.MaxOpen == 0 {
		cfg.MaxOpen = mostOpen()
	}
	m := &merging{cfg: cfg, budget: newBudget(len(cfg.Inputs))}
	defer m.close()
	err := m.run(ctx)
	return m.report, err
}

// merging is one Merge. Where all goes well there is one pass from the inputs to the output. More inputs than can be
// open at once are merged in groups before; and an output that cannot be put in order afterwards (a stream, several
// files, or a compressed one) is made of a temporary one that was.
type merging struct {
	cfg    Config
	report Report
	budget *budget
	temps  []*os.File // nameless
}

func (m *merging) close() {
	for _, f := range m.temps {
		_ = f.Close() // is gone with it
	}
}

func (m *merging) run(ctx context.Context) error {
	inputs, err := m.sources()
	if err != nil {
		return err
	}
	for len(inputs) > m.cfg.MaxOpen {
		if inputs, err = m.group(ctx, inputs); err != nil {
			return err
		}
	}
	if m.inOneFile() {
		return m.toFile(ctx, inputs)
	}
	return m.toOrdered(ctx, inputs)
}

func (c *Config) rotates() bool { return c.RotateSize > 0 || c.RotateInterval > 0 }

// inOneFile reports whether the output can be put in order when it is there.
func (m *merging) inOneFile() bool {
	return m.cfg.Out == nil && !m.cfg.rotates() && m.cfg.Compress == Uncompressed
}

// sources are the inputs as they were given. Each is looked at, so that one that is no capture fails before any work.
func (m *merging) sources() (inputs []source, err error) {
	total, known, packed := int64(0), true, 0
	for i, name := range m.cfg.Inputs {
		s := m.source(name, i)
		if name == "-" {
			s.name, s.from, s.late = "standard input", m.cfg.Stdin, !isRegular(m.cfg.Stdin)
			if m.cfg.Stdin == nil {
				return nil, &InputError{s.name, errors.New("there is none")}
			}
			known = false
			packed++
		} else {
			size, zstd, err := probe(name)
			if err != nil {
				return nil, &InputError{name, err}
			}
			if zstd {
				packed++
			}
			s.late = size < 0
			known = known && !s.late
			total += size
		}
		inputs = append(inputs, s)
		m.report.Inputs = append(m.report.Inputs, InputReport{Name: s.name, Sorted: true})
	}
	if most := maxWindows / minWindow; packed > most {
		m.cfg.MaxOpen = min(m.cfg.MaxOpen, most)
	}
	for i := range inputs {
		inputs[i].window = share(packed)
	}
	if known {
		m.cfg.Progress.Total.Store(total)
	}
	return inputs, nil
}

func (m *merging) source(name string, report int) source {
	return source{name: name, report: report, alone: len(m.cfg.Inputs) == 1, plain: m.cfg.Format == Pcap, application: m.cfg.Application}
}

// group merges groups of inputs into temporary files.
func (m *merging) group(ctx context.Context, inputs []source) (merged []source, err error) {
	dedup := m.cfg.Dedup
	m.cfg.Dedup = 0 // is for the last pass, which sees all of them
	defer func() { m.cfg.Dedup = dedup }()
	size := min(m.cfg.MaxOpen, (len(inputs)+m.cfg.MaxOpen-1)/m.cfg.MaxOpen+1)
	size = max(size, 2)
	for part := range slices.Chunk(inputs, size) {
		s, err := m.toTemp(ctx, part)
		if err != nil {
			return nil, err
		}
		merged = append(merged, s)
	}
	return merged, nil
}

// toTemp merges inputs into a temporary file.
func (m *merging) toTemp(ctx context.Context, inputs []source) (source, error) {
	f, err := m.temp()
	if err != nil {
		return source{}, err
	}
	s, err := m.pass(ctx, inputs, newOutFile(f), Pcapng)
	if err == nil && s.order.disordered() {
		ordered, err := m.temp()
		if err != nil {
			return source{}, err
		}
		if err := s.rewrite(ctx, f, ordered, m.cfg.TempDir); err != nil {
			return source{}, err
		}
		f = ordered
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	temporary := m.source("a temporary file", -1)
	temporary.from = f
	return temporary, err
}

// temp makes a temporary file without a name.
func (m *merging) temp() (*os.File, error) {
	f, err := os.CreateTemp(m.cfg.TempDir, ".sshpcap-*")
	if err != nil {
		return nil, err
	}
	m.temps = append(m.temps, f)
	return f, os.Remove(f.Name())
}
