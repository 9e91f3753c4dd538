package plugin_test

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/sshpcap/sshpcap/cf/plugin"
)

func TestDetect(t *testing.T) {
	for _, test := range []struct {
		args []string
		want plugin.Call
	}{
		{[]string{"1234", "SendMetadata"}, plugin.Call{Port: "1234", Command: plugin.CommandMetadata}},
		{[]string{"65535", "CLI-MESSAGE-UNINSTALL"}, plugin.Call{Port: "65535", Command: plugin.CommandUninstall}},
		{[]string{"1", "pcap"}, plugin.Call{Port: "1", Command: plugin.CommandPcap}},
		{[]string{"1234", "pcap", "shop", "-o", "-", "--", ""}, plugin.Call{Port: "1234", Command: plugin.CommandPcap, Args: []string{"shop", "-o", "-", "--", ""}}},
		{[]string{"1234", "pcap", "1234", "pcap"}, plugin.Call{Port: "1234", Command: plugin.CommandPcap, Args: []string{"1234", "pcap"}}},
	} {
		got, ok := plugin.Detect(append([]string{"/home/u/.cf/plugins/sshpcap"}, test.args...))
		if !ok || got.Port != test.want.Port || got.Command != test.want.Command || !slices.Equal(got.Args, test.want.Args) {
			t.Errorf("%q: %+v, %v", test.args, got, ok)
		}
	}
}

func TestDetectNot(t *testing.T) {
	for _, args := range [][]string{
		nil, {}, {""}, {"1234"}, {"capture"}, {"capture", "web1"}, {"capture", "pcap"}, {"capture", "1234", "pcap"}, {"--help"},
		{"pcap", "shop"}, {"SendMetadata"}, {"SendMetadata", "1234"}, {"demo", "SendMetadata"}, {"merge", "1234", "SendMetadata"},
		{"1234", ""}, {"1234", "capture"}, {"1234", "PCAP"}, {"1234", "sendmetadata"}, {"1234", "pcap "},
		{"1234", "SendMetadata", "x"}, {"1234", "CLI-MESSAGE-UNINSTALL", ""},
		{"", "pcap"}, {"0", "pcap"}, {"-1", "pcap"}, {"+1", "pcap"}, {"01234", "pcap"}, {"65536", "pcap"}, {"99999999999999999999", "pcap"},
		{"1 ", "pcap"}, {" 1", "pcap"}, {"0x10", "pcap"}, {"1_000", "pcap"}, {"1e3", "pcap"}, {"١٢٣٤", "pcap"}, {":1234", "pcap"}, {"127.0.0.1:1234", "pcap"},
	} {
		if call, ok := plugin.Detect(append([]string{"sshpcap"}, args...)); ok || call.Port != "" && call.Command == plugin.CommandPcap {
			t.Errorf("%q is taken for %+v", args, call)
		}
	}
	if _, ok := plugin.Detect(nil); ok {
		t.Error("no command line at all is one of cf's")
	}
}

// FuzzDetect: whatever is detected is what cf would have written, and nothing that begins with a command of ours is.
func FuzzDetect(f *testing.F) {
	f.Add("1234", "pcap", "shop")
	f.Add("01", "SendMetadata", "")
	f.Add("capture", "1234", "pcap")
	f.Fuzz(func(t *testing.T, port, command, arg string) {
		for _, rest := range [][]string{{port}, {port, command}, {port, command, arg}} {
			call, ok := plugin.Detect(append([]string{"sshpcap"}, rest...))
			if !ok {
				continue
			}
			if n, err := strconv.Atoi(call.Port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != port {
				t.Errorf("port %q", call.Port)
			}
			if !slices.Equal(append([]string{call.Port, call.Command}, call.Args...), rest) {
				t.Errorf("%q gives %+v", rest, call)
			}
		}
	})
}

func TestError(t *testing.T) {
	err := error(&plugin.Error{Problem: "cf is not there", Advice: "start it", Err: os.ErrNotExist})
	var hinter interface{ Hint() string }
	if err.Error() != "cf is not there: file does not exist" || !errors.As(err, &hinter) || hinter.Hint() != "start it" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := (&plugin.Error{Problem: "alone"}); err.Error() != "alone" || err.Hint() != "" {
		t.Errorf("%v", err)
	}
}
