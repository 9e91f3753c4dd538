// Package capture captures packets on many instances at once, over SSH, into one output in time order.
// It is the library under the sshpcap command: it never prints, never exits and catches no signals.
//
// One packet's way: an instance's helper (tcpdump) writes it to an SSH channel; a stream (stream.go) frames it into a
// batch; the pump (pump.go) takes the batch, merges it with those of the other streams and writes it to the output
// (output.go). Each stream has one goroutine that reads, and there is one pump.
//
// A new kind of target is a new way to fill [Instance]: a name, and a func that connects.
package capture

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sshpcap/sshpcap/merge"
	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// Instance is one place to capture on.
type Instance struct {
	Name       string   // as it stands in the file and the report: "web1", "shop/web/0"
	Target     string   // as the user named it; "" = Name
	ID         string   // what Config.Discover knows it by, when its name may change; "" = Name
	Interfaces []string // network interfaces to capture on, each with a helper of its own; none = "any"

	// Dial connects. It returns when ctx ends. The connection belongs to Run, which closes it. With Config.Follow it is
	// called again after a loss.
	Dial func(ctx context.Context) (*sshx.Conn, error)
	// Explain turns an error of the instance into plainer words, where whoever made the instance knows more. It returns
	// when ctx ends, and may be called with one that has ended: then what it knows by itself must do. What it gives wraps
	// err. May be nil.
	Explain func(ctx context.Context, err error) error

	Kind        InstanceKind
	Shell       string     // of a Container: a command line that a person runs a command there with, for hints, such as "cf ssh shop -c"
	Helper      string     // in place of Config.Helper where that is ""
	Fallback    string     // helper to take where the one that is found on the instance does not capture there; "" = sudo is tried
	SelfFilter  string     // pcap-filter(7) expression of what carries the capture; "" = the SSH connection, by the instance's own account
	Relays      []string   // HOST:PORT of hosts that it is the jump host to, for others of the capture, as it dials them
	Server      string     // the same for those of a capture that log in to one server, which may lead them to different hosts; "" = no other does
	Port        int        // of its SSH server, by its own count, for when it does not know which connection is ours; 0 = as we see it, or 22
	Description string     // more about where it runs, for the interface's description in the file
	Address     netip.Addr // its own, for showing names in place of addresses; zero = that of its SSH server
	HostName    string     // its name where only host names can stand; "" = made of Name
}

// interfaces are those to capture on.
func (in Instance) interfaces() []string {
	if len(in.Interfaces) == 0 {
		return []string{"any"}
	}
	return in.Interfaces
}

// LeftOut is an instance that is not captured on, because it does not run.
type LeftOut struct {
	Name    string `json:"name"`
	Target  string `json:"target"`  // as the user could name it
	State   string `json:"state"`   // in the platform's words, lower case: "crashed"
	Details string `json:"details"` // why, in the platform's words; may be empty
}

// Sudo says when a helper is started through sudo.
type Sudo int

const (
	SudoAuto   Sudo = iota // when it lacks the permission without
	SudoNever              // not even then
	SudoAlways             // at once
)

// Format is the file format of the output.
type Format int

const (
	Pcapng Format = iota // every packet says which interface of which instance it came from
	Pcap                 // for programs that know nothing else; the origin is lost
)

func (f Format) String() string {
	if f == Pcap {
		return "pcap"
	}
	return "pcapng"
}

// Config says what to capture, where, and for how long. The zero value of every field but Instances and Output works.
type Config struct {
	Instances []Instance
	Output    Output

	Filter        string // pcap-filter(7); "" = everything
	Snaplen       int    // bytes of each packet that are kept; 0 = the helper's own limit (262,144)
	NoPromiscuous bool
	Helper        string // "" = chosen on the instance; or "tcpdump", "dumpcap", a path on the instance
	HelperBuffer  int    // the helper's kernel buffer, KiB; 0 = remote's default
	Sudo          Sudo
	NoSelfFilter  bool // capture our own SSH connection, too
	AlignClocks   bool // shift each instance's timestamps by the measured offset of its clock

	Duration time.Duration // stop so long after all instances are capturing; 0 = no limit
	// MaxRemoteTime is how long a helper may run on its instance, which sees to it itself, whatever becomes of us; 0 = no
	// limit. Whole seconds; what is left of one counts as one. For an instance that is over then, that is a normal end.
	MaxRemoteTime time.Duration
	Count         int64 // stop after so many packets, exactly; 0 = no limit
	MaxSize       int64 // stop before the output has more bytes; 0 = no limit

	Rotation    Rotation // a new file again and again, under names made of Output.Path
	PerInstance bool     // a file for each instance, too, beside the others

	ConnectTimeout time.Duration // from the connection to the helper's first sign of life; 0 means 10 s
	Grace          time.Duration // for instances to end once asked to; 0 means 5 s
	Window         time.Duration // how late a packet may arrive and still be put in place; 0 means 500 ms
	Buffer         int64         // most bytes of packets that wait; 0 means 256 MiB

	// Follow goes on after a loss: it connects again, with growing pauses, until the capture ends. The first packet after
	// a gap says so in its comment (pcapng).
	Follow bool
	// Discover, with Follow, is asked again and again what instances there are; nil = those of Instances, always. Those
	// with an ID that it does not give any more are gone until it does; beside an error what it gives adds, only.
	Discover      func(ctx context.Context) ([]Instance, error)
	DiscoverEvery time.Duration // 0 means 5 s

	LeftOut    []LeftOut // instances that there are and that are not captured on: for the report
	RequireAll bool      // one failed instance ends the capture
	Comment    string    // of the whole file (pcapng)
	Version    string    // of the program, for the file and the report

	// Cut, when it is closed, ends the instances that are still ending at once, without their last packets.
	Cut <-chan struct{}
	// OnEvent is told what happens, as it happens, one event at a time. It must not block for long. May be nil.
	OnEvent func(Event)
	// Progress is counted up as the capture runs. May be nil.
	Progress *Progress
}

// Event is something that happened on the way. Instance is "" when it is about the whole capture.
type Event struct {
	Kind     EventKind
	Instance string
	Err      error  // Failed, Lost and Left: why
	Text     string // Note: one line
	Ready    int    // Ready: how many instances are capturing
}

// EventKind tells events apart.
type EventKind int

const (
	Ready    EventKind = iota // every instance is capturing or has failed to
	Failed                    // an instance could not be captured on
	Lost                      // an instance's capture broke off
	Note                      // something worth a line
	Stopping                  // the instances are asked to end
	Joined                    // an instance has come, or come back (Follow)
	Left                      // an instance has gone; it may come back (Follow)
)

// Run captures on all instances until ctx ends, a limit of cfg is reached, or no instance is left. A ctx that ends is the
// normal end, not an error: all helpers are stopped then, and what they still had is written before Run returns.
//
// One instance's failure is in its report and stops no other (but see RequireAll). The error is about the whole: the
// configuration or the output (*Error), or that no instance could be captured on (ErrNothing). The report is
// valid with an error, too.
func Run(ctx context.Context, cfg Config) (Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return Report{}, err
	}
	out, err := newFile(cfg.checkedOutput())
	if err != nil {
		return Report{}, err
	}
	out.Overwrite = cfg.Output.Overwrite
	r := newRun(cfg, out)
	if err := r.checkOutputs(); err != nil {
		return Report{}, err
	}
	return r.run(ctx)
}

// ErrNothing means that there was no instance that could be captured on.
var ErrNothing = errors.New("nothing captured: no instance could be captured on")

// ErrRequired means that an instance failed and all were required.
var ErrRequired = errors.New("an instance failed, and all are required")

// Error is a problem with the capture as a whole, and what to do about it.
type Error struct {
	Problem string
	Tip     string
	Usage   bool  // the configuration makes no sense; nothing was tried
	Err     error // the cause, or nil
}

func (e *Error) Error() string { return e.Problem }
func (e *Error) Hint() string  { return e.Tip }
func (e *Error) Unwrap() error { return e.Err }

func (cfg Config) withDefaults() Config {
	setDefault(&cfg.ConnectTimeout, 10*time.Second)
	setDefault(&cfg.Grace, 5*time.Second)
	setDefault(&cfg.Window, 500*time.Millisecond)
	setDefault(&cfg.Buffer, 256<<20)
	setDefault(&cfg.DiscoverEvery, 5*time.Second)
	if cfg.Progress == nil {
		cfg.Progress = new(Progress)
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	return cfg
}

// What a file needs beside packets: for itself, and for each interface with its statistics and names.
const (
	leastFile      = 4096
	leastInterface = 1024
)

// streams is how many helpers there will be.
func (cfg Config) streams() (n int) {
	for _, in := range cfg.Instances {
		n += len(in.interfaces())
	}
	return n
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (cfg Config) check() error {
	if len(cfg.Instances) == 0 && (!cfg.Follow || cfg.Discover == nil) {
		return &Error{Problem: "no instance to capture on", Tip: "name at least one target", Usage: true}
	}
	if least := int64(leastFile + cfg.streams()*leastInterface); cfg.MaxSize > 0 && cfg.MaxSize < least {
		return &Error{Problem: fmt.Sprintf("a file of %d bytes has no room for packets", cfg.MaxSize), Tip: fmt.Sprintf("give --max-size at least %d", least), Usage: true}
	}
	if err := cfg.checkOpenFiles(); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, in := range cfg.Instances {
		if seen[in.Name] {
			return &Error{Problem: fmt.Sprintf("%s is named twice", in.Name), Tip: "name each instance once", Usage: true}
		}
		seen[in.Name] = true
		for _, iface := range in.interfaces() {
			if err := cfg.command(in, iface, false).Check(); err != nil {
				return &Error{Problem: err.Error(), Tip: "see the documentation of Config", Usage: true, Err: err}
			}
		}
	}
	return nil
}

// command is what runs on an instance for one of its interfaces.
func (cfg *Config) command(in Instance, iface string, sudo bool) remote.Command {
	c := remote.Command{
		Helper:        cfg.Helper,
		Interface:     iface,
		Filter:        cfg.Filter,
		Snaplen:       cfg.Snaplen,
		NoPromiscuous: cfg.NoPromiscuous,
		// Many old programs read pcap only with microseconds; every reader of pcapng knows nanoseconds.
		Nano:         cfg.Output.Format == Pcapng,
		BufferKiB:    cfg.HelperBuffer,
		NoSelfFilter: cfg.NoSelfFilter,
		SelfFilter:   in.SelfFilter,
		ServerPort:   in.Port,
		Sudo:         sudo,
		MaxTime:      cfg.MaxRemoteTime,
	}
	if c.Helper == "" || c.Helper == "auto" {
		c.Helper = in.Helper
	}
	return c
}

func (cfg Config) mergerConfig() merge.MergerConfig {
	return merge.MergerConfig{Window: cfg.Window, Lag: lagWindows * cfg.Window, Settle: settle, Buffer: cfg.Buffer}
}

// lagWindows is how many windows an instance may be behind that delivers: 10 seconds where the window is half of one.
const lagWindows = 20

// settle is how long a packet waits for another of its own source with an earlier timestamp: the kernel stamps packets
// before it queues them, so those of two CPUs may be queued the wrong way round.
const settle = 5 * time.Millisecond
