package capture

import (
	"path/filepath"
	"testing"

	"github.com/sshpcap/sshpcap/merge"
)

// An instance that comes back with ever another link type makes no more than some interfaces, and may come back with
// each of those that it had.
func TestManyLinkTypes(t *testing.T) {
	out, err := newFile(Output{Path: filepath.Join(t.TempDir(), "x.pcapng")})
	if err != nil {
		t.Fatal(err)
	}
	p := newPump(newRun(Config{Instances: []Instance{{Name: "shifty"}}}.withDefaults(), out))
	s := p.sources[0].stream
	come := func(link merge.LinkType) bool {
		return p.admit(p.of[s], message{stream: s, header: merge.Header{LinkType: link, Snaplen: 100}}).err == nil
	}
	for link := range merge.LinkType(20) {
		if ok := come(link); ok != (link < mostHeaders) {
			t.Errorf("link type %d: admitted %v", link, ok)
		}
	}
	for _, link := range []merge.LinkType{3, 0, 7, 7, 3} {
		if !come(link) || p.of[s].header.LinkType != link {
			t.Errorf("link type %d is not that of an interface again", link)
		}
	}
	if n := len(p.sourcesOf(s)); n != mostHeaders || len(p.sources) != mostHeaders || p.output.sources != mostHeaders {
		t.Errorf("%d sources of the stream, %d in all, %d interfaces", n, len(p.sources), p.output.sources)
	}
}
