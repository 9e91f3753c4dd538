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

// What was left out stands in the report, but for what has come since.
func TestReportLeftOut(t *testing.T) {
	out, err := newFile(Output{Path: filepath.Join(t.TempDir(), "x.pcapng")})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Instances: []Instance{{Name: "shop/web/0"}}, LeftOut: []LeftOut{{Name: "shop/web/0"}, {Name: "shop/web/1", State: "crashed"}, {Name: "shop/web/1"}}}
	r := newRun(cfg.withDefaults(), out)
	if rep := r.report(newPump(r)); len(rep.LeftOut) != 1 || rep.LeftOut[0].Name != "shop/web/1" || rep.LeftOut[0].State != "crashed" {
		t.Errorf("%+v", rep.LeftOut)
	}
	r.cfg.LeftOut = nil
	if rep := r.report(newPump(r)); rep.LeftOut == nil {
		t.Error("none is null")
	}
}
