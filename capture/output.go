package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sshpcap/sshpcap/merge"
)

// output is a file being written in one of the formats.
type output struct {
	file    *file
	cfg     *Config
	pcapng  *merge.Pcapng // one of the two is set
	pcap    *merge.Pcap
	header  merge.Header             // of a pcap file
	named   map[*instance]netip.Addr // the address that it was named for last
	started time.Time
	unnamed []unnamed // whose names are still to be written
	pending bool      // an interface was added and is not flushed yet
	order   order
	account account
	part    bool // it is that of a single instance, beside the others
	sources int

	expected int             // sources that were asked for
	numbers  map[*source]int // of the interfaces
}

// unnamed is an instance whose names wait for all interfaces: reordercap knows only those before the first other block.
type unnamed struct {
	instance   *instance
	connection string
}

// writeNames writes the names that wait.
func (o *output) writeNames() error {
	for _, u := range o.unnamed {
		if err := o.addNames(u.instance, u.connection); err != nil {
			return err
		}
	}
	o.unnamed = o.unnamed[:0]
	return nil
}

func newOutput(f *file, cfg Config, header merge.Header) *output {
	o := &output{file: f, cfg: &cfg, expected: cfg.streams(), header: header, named: make(map[*instance]netip.Addr, len(cfg.Instances)), started: time.Now(), order: newOrder(), numbers: make(map[*source]int)}
	if cfg.Output.Format == Pcap {
		o.pcap = merge.NewPcap(f, header)
		return o
	}
	o.pcapng = merge.NewPcapng(f, merge.Section{
		OS:          runtime.GOOS + " " + runtime.GOARCH,
		Application: strings.TrimSpace("sshpcap " + cfg.Version),
		Comment:     cfg.comment(),
	})
	return o
}

// comment is that of the whole file.
func (cfg Config) comment() string {
	if !cfg.AlignClocks {
		return cfg.Comment
	}
	return strings.TrimSpace(cfg.Comment + "\n" + "timestamps were shifted to our clock: the comment of each interface says by how much")
}

// add makes room for a stream's packets.
func (o *output) add(src *source) error {
	s := src.stream
	if o.pcap != nil {
		if src.header.LinkType != o.header.LinkType {
			return &Error{
				Problem: fmt.Sprintf("its link type is %v, and a pcap file that holds %v cannot take it", src.header.LinkType, o.header.LinkType),
				Tip:     "write pcapng: -o " + pcapngName(o.cfg.Output.Path),
			}
		}
		return nil
	}
	report := s.remoteReport()
	o.pending = true
	o.sources++
	number, err := o.pcapng.AddInterface(merge.Interface{
		Name:        s.String(),
		Description: describe(src),
		Filter:      effective(report.SelfFilter, o.cfg.Filter),
		Comment:     s.clock().String(),
		LinkType:    src.header.LinkType,
		Snaplen:     src.header.Snaplen,
		Nano:        src.header.Nano,
	})
	if err != nil {
		return err
	}
	o.order.nano = append(o.order.nano, src.header.Nano)
	o.numbers[src] = number
	o.unnamed = append(o.unnamed, unnamed{s.instance, report.Connection})
	return nil
}

// rename names an instance that came back for the address that it has now.
func (o *output) rename(src *source) error {
	if o.pcapng == nil {
		return nil
	}
	return o.addNames(src.stream.instance, src.stream.remoteReport().Connection)
}

// effective is the filter that a helper works with.
func effective(excluded, filter string) string {
	switch {
	case excluded == "":
		return filter
	case filter == "":
		return "not (" + excluded + ")"
	}
	return "not (" + excluded + ") and (" + filter + ")"
}

// addNames lets programs show an instance's name for its address: the one that it has itself, and the one that
// we know it by.
func (o *output) addNames(in *instance, connection string) error {
	own := in.settings()
	if before, ok := o.named[in]; ok && before == own.Address {
		return nil
	}
	o.named[in] = own.Address
	var names []merge.Name
	for _, addr := range []netip.Addr{own.Address, address(serverAddress(connection)), address(hostOf(in.ownAddress()))} {
		known := slices.ContainsFunc(names, func(n merge.Name) bool { return n.Addr == addr })
		if addr.IsValid() && !addr.IsLoopback() && !known {
			names = append(names, merge.Name{Addr: addr, Names: []string{in.hostName()}})
		}
		if own.Address.IsValid() || own.Kind != Host {
			break // its server may be somewhere else
		}
	}
	if len(names) == 0 {
		return nil
	}
	return o.pcapng.WriteNames(names)
}

// hostName is an instance's name in the form of a host name: a resolver's names have no '/', '@' or ':'.
func (in *instance) hostName() string {
	if own := in.settings().HostName; own != "" {
		return own
	}
	name := in.Name[strings.LastIndexByte(in.Name, '@')+1:]
	return hostNames.Replace(name)
}

var hostNames = strings.NewReplacer("/", "-", ":", "-", "[", "", "]", "")

// address is a text as an address; the zero one where it is none.
func address(text string) netip.Addr {
	addr, _ := netip.ParseAddr(text)
	return addr.Unmap().WithZone("")
}

// serverAddress is the instance's own address in its $SSH_CONNECTION.
func serverAddress(connection string) string {
	if fields := strings.Fields(connection); len(fields) == 4 {
		return fields[2]
	}
	return ""
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// describe says where a source's packets come from, for people.
func describe(src *source) string {
	if src.change == "" {
		return src.stream.describe()
	}
	return src.stream.describe() + "; " + src.change
}

// writeRun writes records of a source, which is added if it has not been: it may have come after this file.
func (o *output) writeRun(src *source, b *merge.Batch, recs []merge.Record) (int, error) {
	if _, ok := o.numbers[src]; !ok && o.pcapng != nil {
		if err := o.add(src); err != nil {
			return 0, err
		}
	}
	if err := o.writeNames(); err != nil {
		return 0, err
	}
	o.order.note(o.size(), recs)
	if src.gap != nil && o.pcapng != nil {
		return o.writeAfterGap(src, b, recs)
	}
	return o.write(src, b, recs)
}

func (o *output) write(src *source, b *merge.Batch, recs []merge.Record) (int, error) {
	var n int
	var err error
	if o.pcap != nil {
		n, err = o.pcap.WriteRun(b, recs)
	} else {
		n, err = o.pcapng.WriteRun(o.numbers[src], b, recs)
	}
	o.account.took(src, n, err)
	return n, err
}

// writeAfterGap says so on the first packet after a gap. Some of before it may still have been waiting.
func (o *output) writeAfterGap(src *source, b *merge.Batch, recs []merge.Record) (int, error) {
	first := slices.IndexFunc(recs, func(r merge.Record) bool { return r.Time > src.gap.after })
	if first < 0 {
		return o.write(src, b, recs)
	}
	n, err := o.write(src, b, recs[:first])
	if err != nil {
		return n, err
	}
	text := src.gap.text
	src.gap = nil
	one, err := o.pcapng.WriteCommented(o.numbers[src], b, recs[first], text)
	o.account.took(src, one, err)
	if err != nil {
		return n + one, err
	}
	rest, err := o.write(src, b, recs[first+1:])
	return n + one + rest, err
}

// interim writes what is known of a source while it captures.
func (o *output) interim(src *source, stats merge.SourceStats, now time.Time) error {
	number, ok := o.numbers[src]
	if o.pcapng == nil || !ok || o.cfg.MaxSize > 0 || src.told == stats.Pushed {
		return nil // with a size to keep, only the final ones, for which there is a reserve
	}
	src.told = stats.Pushed
	delivered := uint64(stats.Pushed)
	return o.pcapng.WriteStatistics(number, merge.Statistics{Time: now, Start: o.started, Delivered: &delivered})
}

// final writes what is known of a source in the end. As dumpcap does, what passed the filter stands as received and what
// the kernel dropped as dropped by the interface, too: that is where Wireshark looks for it.
func (o *output) final(src *source, stats merge.SourceStats) error {
	number, ok := o.numbers[src]
	if o.pcapng == nil || !ok {
		return nil
	}
	now := time.Now()
	delivered := uint64(stats.Pushed)
	s := merge.Statistics{Time: now, Start: o.started, End: now, Delivered: &delivered}
	if filtered, dropped, known := src.sums(); known {
		f, d := uint64(filtered), uint64(dropped)
		s.Received, s.FilterAccepted, s.Dropped, s.OSDropped = &f, &f, &d, &d
	}
	return o.pcapng.WriteStatistics(number, s)
}

// Sizes of what stands around a packet's bytes, and an upper bound of a final statistics block.
const (
	pcapRecord      = 16
	pcapngPacket    = 32
	pcapngFinalSize = 128
	pcapngOptions   = 16 // what stands around a comment, at most
)

// cost is how many bytes a record takes in the file.
func (o *output) cost(rec merge.Record) int64 {
	if o.pcap != nil {
		return pcapRecord + int64(rec.CapLen)
	}
	return pcapngPacket + (int64(rec.CapLen)+3)&^3
}

// reserve is how many bytes are still to come beside the packets: when the last one has been written, and for the
// comment of the next one of src.
func (o *output) reserve(src *source) int64 {
	n := int64(o.sources) * pcapngFinalSize
	if late := o.expected - o.sources; o.pcapng != nil && late > 0 {
		n += int64(late) * leastInterface // for those that are still to come
	}
	if src.gap != nil {
		n += int64(len(src.gap.text)) + pcapngOptions
	}
	return n
}

func (o *output) size() int64 {
	if o.pcap != nil {
		return o.pcap.Size()
	}
	return o.pcapng.Size()
}

// whole is how many bytes of whole records have reached the file.
func (o *output) whole() int64 {
	if o.pcap != nil {
		return o.pcap.Flushed()
	}
	return o.pcapng.Flushed()
}

// missed are the captured lengths of the records that were taken and never reached the file, in order.
func (o *output) missed() []uint32 {
	if o.pcap != nil {
		return o.pcap.Missed()
	}
	return o.pcapng.Missed()
}

// packets is how many whole ones are in the file.
func (o *output) packets() int64 {
	if o.pcap != nil {
		return o.pcap.Whole()
	}
	return o.pcapng.Whole()
}

// urgent reports whether somebody who reads along should see the new interfaces before there are packets.
func (o *output) urgent() bool { return o.pending && o.file.live() }

func (o *output) flush() error {
	o.pending = false
	var err error
	if o.pcap != nil {
		err = o.pcap.Flush()
	} else {
		err = o.pcapng.Flush()
	}
	if err == nil {
		o.account.flushed()
	}
	return err
}

// explain says what is wrong with the file in plain words, once.
func (o *output) explain(err error) error {
	var said *Error
	if errors.As(err, &said) {
		return err
	}
	return o.file.explain(err)
}

// errReaderGone is how a pipe breaks when nobody reads it any more.
var errReaderGone error = syscall.EPIPE

// explain says what is wrong with the file in plain words.
func (f *file) explain(err error) error {
	what, tip := err.Error(), "what was captured before is in the file"
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		what, tip = "no space left for it", "the packets up to there are in the file; free some space, or limit it with --max-size"
	case errors.Is(err, syscall.EFBIG):
		what, tip = "it may not become larger here", "the packets up to there are in the file; see ulimit -f and the file system's limit, or begin new files with --rotate-size"
	case errors.Is(err, syscall.EPIPE):
		what, tip = "its reader went away", "the capture was stopped"
	case errors.Is(err, errRemoved):
		tip = "its packets are lost; name a place with -o where nobody cleans up"
	case errors.Is(err, os.ErrDeadlineExceeded):
		what, tip = "its reader does not read", "what it has not read is lost; for a slow reader write to a file"
	case errors.Is(err, syscall.ENXIO):
		what, tip = "nobody reads it", "start the reader first"
	case errors.Is(err, fs.ErrExist):
		what, tip = "somebody else has created it meanwhile", "name another file with -o"
	case f.fd == nil:
		tip = "check the name and the rights"
	}
	return &Error{Problem: f.name() + ": " + what, Tip: tip, Err: err}
}

func pcapngName(path string) string {
	if path == "" {
		return "capture.pcapng"
	}
	return strings.TrimSuffix(path, ".pcap") + ".pcapng"
}
