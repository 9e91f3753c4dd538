//go:build unix

package plugin_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sshpcap/sshpcap/cf/plugin"
)

func TestTrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	other := filepath.Join(t.TempDir(), "trace.log")
	for _, test := range []struct {
		trace plugin.Trace
		out   *os.File
		want  string
	}{
		{plugin.Trace{}, out, ""},
		{plugin.Trace{Env: "true"}, out, "CF_TRACE=true"},
		{plugin.Trace{Env: "TRUE"}, out, "CF_TRACE=TRUE"},
		{plugin.Trace{Env: "tRue"}, out, "CF_TRACE=tRue"},
		{plugin.Trace{Env: "1"}, write, "CF_TRACE=1"},
		{plugin.Trace{Env: "false"}, out, ""},
		{plugin.Trace{Env: "0", Config: "t"}, out, "cf config --trace t"},
		{plugin.Trace{Config: "true"}, out, "cf config --trace true"},
		{plugin.Trace{Env: other}, out, ""},
		{plugin.Trace{Env: file}, out, "CF_TRACE=" + file},
		{plugin.Trace{Env: link}, out, "CF_TRACE=" + link},
		{plugin.Trace{Env: file}, write, ""},
		{plugin.Trace{Env: other, Config: file}, out, "cf config --trace " + file},
		{plugin.Trace{Args: []string{"pcap", "shop", "-o", "-", "-v"}}, out, "-v"},
		{plugin.Trace{Args: []string{"pcap", "shop", "-o", "-"}}, out, ""},
	} {
		if got := test.trace.Reaches(test.out); got != test.want {
			t.Errorf("%+v: %q, want %q", test.trace, got, test.want)
		}
	}
	// A device's name leads to what this process has there.
	stdout, err := os.Stat("/dev/stdout")
	if err != nil {
		t.Fatal(err)
	}
	if mine, err := os.Stdout.Stat(); err == nil && os.SameFile(stdout, mine) {
		if got := (plugin.Trace{Env: "/dev/stdout"}).Reaches(os.Stdout); got == "" {
			t.Error("a trace to /dev/stdout is not seen")
		}
	}
}
