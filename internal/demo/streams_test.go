package demo

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/tcpassembly"
)

// TestStreams puts the bytes of all connections together and reads them as HTTP and PostgreSQL.
func TestStreams(t *testing.T) {
	seen := conversation()
	visits := readHTTP(t, reassemble(t, seen[Web]), 80)
	for name, got := range map[string]map[string]int{
		"web to app, seen by web": readHTTP(t, reassemble(t, seen[Web]), 8080),
		"web to app, seen by app": readHTTP(t, reassemble(t, seen[App]), 8080),
	} {
		if !maps.Equal(got, visits) {
			t.Errorf("%s: %v, and visitors got %v", name, got, visits)
		}
	}
	seenByApp, seenByDB := readPostgres(t, reassemble(t, seen[App])), readPostgres(t, reassemble(t, seen[DB]))
	if !maps.Equal(seenByApp, seenByDB) {
		t.Errorf("app and db differ: %v and %v", seenByApp, seenByDB)
	}
	for id, status := range visits {
		want := 2
		if status == http.StatusServiceUnavailable {
			want = 0
		}
		if seenByDB[id] != want {
			t.Errorf("%s: %d statements, want %d", id, seenByDB[id], want)
		}
	}
}

// readHTTP returns the status of each request on connections to a port.
func readHTTP(t *testing.T, streams map[string]*stream, port int) map[string]int {
	t.Helper()
	statuses := make(map[string]int)
	for _, s := range streams {
		if s.port != port {
			continue
		}
		requests, responses := bufio.NewReader(bytes.NewReader(s.data)), bufio.NewReader(bytes.NewReader(streams[s.back].data))
		for {
			request, err := http.ReadRequest(requests)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			if body, err := io.ReadAll(request.Body); err != nil || request.Method == "POST" && !json.Valid(body) {
				t.Errorf("%s: body %q, %v", s.name, body, err)
			}
			if _, err := request.Cookie("session"); err != nil || request.Host == "" {
				t.Errorf("%s: %v, %v", s.name, err, request)
			}
			response, err := http.ReadResponse(responses, request)
			if err != nil {
				t.Fatalf("%s: %v", s.back, err)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || !json.Valid(body) {
				t.Errorf("%s: body %q, %v", s.back, body, err)
			}
			id := response.Header.Get("X-Request-Id")
			if sent := request.Header.Get("X-Request-Id"); sent != "" && sent != id {
				t.Errorf("%s: %s is answered as %s", s.name, sent, id)
			}
			if _, twice := statuses[id]; twice {
				t.Errorf("%s twice", id)
			}
			statuses[id] = response.StatusCode
		}
		if rest, _ := io.ReadAll(responses); len(rest) > 0 {
			t.Errorf("%s: answers without a question: %q", s.back, rest)
		}
	}
	if len(statuses) < 40 {
		t.Errorf("port %d: only %d requests", port, len(statuses))
	}
	return statuses
}

// readPostgres counts the statements of each request.
func readPostgres(t *testing.T, streams map[string]*stream) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	comment := regexp.MustCompile(`^/\* (req-\d+) \*/ \w`)
	for _, s := range streams {
		if s.port != 5432 {
			continue
		}
		startup := int(binary.BigEndian.Uint32(s.data))
		asked := pgKinds(t, s.data[startup:], func(kind byte, body []byte) {
			if kind == 'Q' {
				counts[string(comment.FindSubmatch(body)[1])]++
			}
		})
		answered := pgKinds(t, streams[s.back].data, nil)
		switch {
		case answered == "E" && asked == "":
		case !regexp.MustCompile(`^Q*X$`).MatchString(asked), !regexp.MustCompile(`^RS*KZ((TD*)?CZ)*$`).MatchString(answered):
			t.Errorf("%s: %s, %s", s.name, asked, answered)
		}
	}
	return counts
}

// pgKinds are the kinds of the messages of one side.
func pgKinds(t *testing.T, data []byte, each func(byte, []byte)) string {
	t.Helper()
	var kinds []byte
	for len(data) > 0 {
		size := 1 + int(binary.BigEndian.Uint32(data[1:]))
		if size > len(data) {
			t.Fatalf("%s, then %q cut", kinds, data)
		}
		if kinds = append(kinds, data[0]); each != nil {
			each(data[0], data[5:size])
		}
		data = data[size:]
	}
	return string(kinds)
}

// stream is one direction of a connection. It is complete from SYN to FIN.
type stream struct {
	name, back string
	port       int // it goes to
	data       []byte
	began, end bool
	skipped    int
}

func (s *stream) Reassembled(pieces []tcpassembly.Reassembly) {
	for _, p := range pieces {
		s.data = append(s.data, p.Bytes...)
		s.began, s.end = s.began || p.Start, s.end || p.End
		if p.Skip != 0 {
			s.skipped++
		}
	}
}

func (s *stream) ReassemblyComplete() {}

type factory map[string]*stream

func (f factory) New(network, transport gopacket.Flow) tcpassembly.Stream {
	s := &stream{
		name: fmt.Sprint(network, transport), back: fmt.Sprint(network.Reverse(), transport.Reverse()),
		port: int(binary.BigEndian.Uint16(transport.Dst().Raw())),
	}
	f[s.name] = s
	return s
}

func reassemble(t *testing.T, packets []Packet) map[string]*stream {
	t.Helper()
	streams := make(factory)
	assembler := tcpassembly.NewAssembler(tcpassembly.NewStreamPool(streams))
	for _, p := range packets {
		packet := gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.Default)
		assembler.AssembleWithTimestamp(packet.NetworkLayer().NetworkFlow(), packet.TransportLayer().(*layers.TCP), p.Time)
	}
	names := slices.Sorted(maps.Keys(streams))
	for _, name := range names {
		if s := streams[name]; !s.began || !s.end || s.skipped > 0 {
			t.Errorf("%s: began %v, end %v, skipped %d", name, s.began, s.end, s.skipped)
		}
	}
	return streams
}
