package merge

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"pgregory.net/rapid"
)

func TestPcapBytes(t *testing.T) {
	list := []sample{{1_000_000_002_000_003_004, []byte("abc"), 5}, {1_000_000_003_000_000_001, nil, 0}}
	for _, in := range forms {
		for _, nano := range []bool{false, true} {
			var got bytes.Buffer
			w := NewPcap(&got, Header{LinkType: LinkTypeLinuxSLL2, Nano: nano, Snaplen: 1<<32 - 1})
			for _, b := range batchesOf(t, in.stream(list)) {
				if n, err := w.WriteRun(b, b.Records); n != len(list) || err != nil {
					t.Fatal(n, err)
				}
				b.Release()
			}
			if got.Len() > 0 {
				t.Error("writes before it is flushed")
			}
			size := w.Size()
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			out := forms[0]
			out.nano = nano
			want := out.header(276, MaxRecord)
			for _, s := range list {
				s.time = in.resolved(s.time)
				want = out.record(want, s)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s, nano %v: %x\nwant %x", in.name, nano, got.Bytes(), want)
			}
			if n := int64(len(want)); size != n || w.Flushed() != n || w.Lost() != 0 {
				t.Errorf("size %d, flushed %d, lost %d; want %d", size, w.Flushed(), w.Lost(), n)
			}
		}
	}
}

func TestPcapClampsTimes(t *testing.T) {
	for _, nano := range []bool{false, true} {
		var out bytes.Buffer
		w := NewPcap(&out, Header{Nano: nano})
		b := literal(sample{time: -5}, sample{time: 1 << 62})
		if _, err := w.WriteRun(b, b.Records); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r := NewReader(&out)
		mustHeader(t, r)
		got, _ := readAll(r)
		f := form{nano: nano}
		if len(got) != 2 || got[0].time != 0 || got[1].time != f.resolved(maxTime) {
			t.Errorf("nano %v: %+v", nano, got)
		}
	}
}

// Records that a sort has moved, and runs of any part of them, are written as they are.
func TestPcapRunsOfAnyRecords(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := rapid.SampledFrom(forms[:2]).Draw(rt, "form")
		list := drawSamples(rt)
		var out, wantRecords = bytes.Buffer{}, []byte{}
		w := NewPcap(&out, Header{Nano: f.nano})
		for _, b := range batchesOf(rt, f.stream(list)) {
			recs := slices.Clone(b.Records)
			if rapid.Bool().Draw(rt, "shuffle") {
				recs = rapid.Permutation(recs).Draw(rt, "order")
			}
			recs = recs[rapid.IntRange(0, len(recs)).Draw(rt, "from"):]
			for _, r := range recs {
				wantRecords = f.record(wantRecords, sample{r.Time, b.Packet(r), r.OrigLen})
			}
			if n, err := w.WriteRun(b, recs); n != len(recs) || err != nil {
				rt.Fatal(n, err)
			}
		}
		if err := w.Flush(); err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(out.Bytes()[fileHeader:], wantRecords) {
			rt.Fatalf("%x\nwant %x", out.Bytes()[fileHeader:], wantRecords)
		}
	})
}

// pcapgo reads a Pcap's output as what went in, through any size of run.
func TestPcapAgainstPcapgo(t *testing.T) {
	for _, f := range forms {
		list := append(samples(4000), sample{start.UnixNano() + 1e9, bytes.Repeat([]byte("x"), MaxRecord), MaxRecord})
		var out bytes.Buffer
		w := NewPcap(&out, Header{LinkType: LinkTypeEthernet, Nano: true})
		for _, b := range batchesOf(t, f.stream(list)) {
			if _, err := w.WriteRun(b, b.Records); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r, err := pcapgo.NewReader(&out)
		if err != nil {
			t.Fatal(err)
		}
		if r.LinkType() != layers.LinkTypeEthernet || r.Snaplen() != MaxRecord {
			t.Errorf("%v, %d", r.LinkType(), r.Snaplen())
		}
		equalToPcapgo(t, r, f, list)
	}
}

func TestPcapInWireshark(t *testing.T) {
	for _, c := range []struct {
		nano    bool
		snaplen uint32
		want    string
	}{
		{false, 0, ".123456000\n"}, {false, 1<<32 - 1, ".123456000\n"}, {true, 96, ".123456789\n"},
	} {
		var out bytes.Buffer
		w := NewPcap(&out, Header{LinkType: LinkTypeEthernet, Snaplen: c.snaplen, Nano: c.nano})
		frame := udp(t, "hello")
		b := literal(
			sample{start.UnixNano() + 123456789, frame, uint32(len(frame))},
			sample{start.UnixNano() + 123456799, make([]byte, (c.snaplen-1)%MaxRecord+1), MaxRecord},
		)
		if _, err := w.WriteRun(b, b.Records); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		path := writeFile(t, "x.pcap", out.Bytes())
		if info := tool(t, "capinfos", "-Tm", path); !strings.Contains(info, ",2,") {
			t.Errorf("capinfos: %s", info)
		}
		want := strconv.FormatInt(start.Unix(), 10) + c.want
		got := tool(t, "tshark", "-r", path, "-n", "-T", "fields", "-e", "frame.time_epoch", "-c", "1")
		if got != want {
			t.Errorf("tshark: %q, want %q", got, want)
		}
	}
}
