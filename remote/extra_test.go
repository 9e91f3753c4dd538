package remote

import (
	"strings"
	"testing"
)

// TestExtras: the words of each device that does not take an extra are known, the command without it does not have its
// flag, and it is taken back once.
func TestExtras(t *testing.T) {
	for _, tt := range []struct {
		words string
		extra Extra
		flag  string
	}{
		{"tcpdump: nflog:5: Can't set nanosecond time stamp precision: That device doesn't support that time stamp precision", ExtraNanoseconds, "precision=nano"},
		{"tcpdump: NFLOG link-layer type filtering not implemented", ExtraSelfFilter, "say \"self "},
		{"tcpdump: USB link-layer type filtering not implemented", ExtraSelfFilter, "say \"self "},
		{"tcpdump: unknown data link type 281 (min 0, max 299)", ExtraSelfFilter, "say \"self "},
		{"dumpcap: Invalid capture filter \"x\" for interface 'nflog:5'.\nThat string isn't a valid capture filter (NFLOG link-layer type filtering not implemented).", ExtraSelfFilter, "say \"self "},
		{"tcpdump: BIOCSBLEN: 134217728: Invalid argument", ExtraBuffer, " -B 131072"},
		{"tcpdump: en0: can't mmap rx ring: Invalid argument", ExtraBuffer, " -B 131072"},
		{"tcpdump: BIOCIMMEDIATE: Operation not supported", ExtraImmediate, "--immediate-mode"},
		{"tcpdump: expression rejects all packets", 0, ""},
		{"tcpdump: can't parse filter expression: syntax error", 0, ""},
		{"tcpdump: eth9: No such device exists", 0, ""},
		{"tcpdump: eth0: You don't have permission to capture on that device\n(socket: Operation not permitted)", 0, ""},
	} {
		f := logged(started+tt.words+"\n", 1<<20).Failure(1)
		if f == nil || f.Refused != tt.extra {
			t.Errorf("%s: %+v, want %v", tt.words, f, tt.extra)
			continue
		}
		if tt.extra == 0 {
			continue
		}
		full := Command{Nano: true}
		less, had := full.Without(tt.extra)
		if !had || !strings.Contains(full.Line(), tt.flag) || strings.Contains(less.Line(), tt.flag) || tt.extra.String() == "" {
			t.Errorf("%v, %v: %s", tt.extra, had, less.Line())
		}
		if _, again := less.Without(tt.extra); again {
			t.Errorf("%v is taken back twice", tt.extra)
		}
	}
	if c, had := (Command{BufferKiB: 64}).Without(ExtraBuffer); had || !strings.Contains(c.Line(), " -B 64") {
		t.Error("the user's own buffer is taken back")
	}
}
