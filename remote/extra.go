package remote

import "regexp"

// Extra is something that a [Command] asks a helper for although its user did not. There are devices that do not take
// it: netfilter's log, USB, Bluetooth, or an operating system's own. Nothing is lost there that the user asked for when
// it is taken back, see [Command.Without].
type Extra int

const (
	ExtraNanoseconds Extra = iota + 1 // timestamps in nanoseconds; without, they are in microseconds
	ExtraSelfFilter                   // the exclusion of our own connection; without, it is captured if it passes there
	ExtraBuffer                       // a size of the kernel's buffer; without, it is the helper's own
	ExtraImmediate                    // each packet at once; without, the last ones may be missing at the stop
)

var extraNames = [...]string{ExtraNanoseconds: "nanoseconds", ExtraSelfFilter: "self filter", ExtraBuffer: "buffer size", ExtraImmediate: "immediate mode"}

// String is its name in reports.
func (x Extra) String() string {
	if x < 1 || int(x) >= len(extraNames) {
		return ""
	}
	return extraNames[x]
}

// Without is the command without an extra. It reports whether it had asked for it.
func (c Command) Without(x Extra) (Command, bool) {
	had := false
	switch x {
	case ExtraNanoseconds:
		had, c.Nano = c.Nano, false
	case ExtraSelfFilter:
		had, c.NoSelfFilter = !c.NoSelfFilter, true
	case ExtraBuffer:
		had, c.NoBuffer = !c.NoBuffer && c.BufferKiB == 0, true
	case ExtraImmediate:
		had, c.NoImmediate = !c.NoImmediate, true
	}
	return c, had
}

// refusals are the words of libpcap 1.5 to 1.10 for a device that does not take an extra; tcpdump and dumpcap pass them on.
// Those about a filter may be about the user's: without ours it fails again then.
var refusals = []struct {
	extra Extra
	words *regexp.Regexp
}{
	{ExtraNanoseconds, regexp.MustCompile(`time stamp precision`)},
	{ExtraImmediate, regexp.MustCompile(`BIOCIMMEDIATE|[Ii]mmediate mode`)},
	{ExtraBuffer, regexp.MustCompile(`BIOCSBLEN|BIOCSETIF.*No buffer space|buffer size|rx ring|SO_RCVBUF`)},
	{ExtraSelfFilter, regexp.MustCompile(`filtering not implemented|unknown data link type|not supported|filters? (are|is)n't supported|(set|install) .*filter.*: (Invalid argument|Operation not supported|Inappropriate ioctl)`)},
}

// refusal is the extra that a helper that failed did not take; 0 where it was none.
func (s *seen) refusal() (x Extra) {
	s.kept(func(line string) {
		for _, r := range refusals {
			if x == 0 && r.words.MatchString(line) {
				x = r.extra
			}
		}
	})
	return x
}
