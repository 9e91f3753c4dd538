package demo

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testStart = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// conversation is the one of five seconds that most tests look at.
var conversation = sync.OnceValue(func() map[string][]Packet { return Conversation(testStart, 1, 5*time.Second) })

func TestSameArgumentsSamePackets(t *testing.T) {
	if !reflect.DeepEqual(conversation(), Conversation(testStart, 1, 5*time.Second)) {
		t.Error("two conversations differ")
	}
	if reflect.DeepEqual(conversation()[Web], Conversation(testStart, 2, 5*time.Second)[Web]) {
		t.Error("the seed makes no difference")
	}
}

func TestInTimeOrderAndWithinDuration(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		for _, duration := range []time.Duration{2 * time.Second, 5 * time.Second, partLength} {
			if duration == partLength && seed > 0 {
				continue // takes a second with the race detector
			}
			seen := Conversation(testStart, seed, duration)
			if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, []string{App, DB, Web}) {
				t.Fatalf("seed %d, %v: captures of %v", seed, duration, got)
			}
			for role, packets := range seen {
				if !slices.IsSortedFunc(packets, func(a, b Packet) int { return a.Time.Compare(b.Time) }) {
					t.Errorf("seed %d, %v: %s is out of order", seed, duration, role)
				}
				if last := packets[len(packets)-1].Time; packets[0].Time.Before(testStart) || last.After(testStart.Add(duration)) {
					t.Errorf("seed %d, %v: %s from %v to %v", seed, duration, role, packets[0].Time, last)
				}
			}
		}
	}
}

func TestSize(t *testing.T) {
	for role, packets := range conversation() {
		if len(packets) < 200 || len(packets) > 5000 {
			t.Errorf("%s: %d packets", role, len(packets))
		}
	}
}

func TestEveryFrameDecodes(t *testing.T) {
	for role, packets := range conversation() {
		for i, p := range packets {
			packet := gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.Default)
			if err := packet.ErrorLayer(); err != nil {
				t.Fatalf("%s %d: %v", role, i, err.Error())
			}
			tcp, ok := packet.TransportLayer().(*layers.TCP)
			if !ok || packet.Metadata().Truncated || len(p.Data) > 1514 {
				t.Fatalf("%s %d: not a whole TCP packet: %v", role, i, packet)
			}
			checkFrame(t, p.Data)
			if tcp.ACK == (tcp.SYN && tcp.Ack == 0) {
				t.Errorf("%s %d: flags of %v", role, i, packet)
			}
		}
	}
}

// checkFrame verifies lengths and checksums with arithmetic of its own (RFC 791, RFC 9293, RFC 1071).
func checkFrame(t *testing.T, frame []byte) {
	t.Helper()
	ip := frame[14:]
	if ip[0] != 0x45 || int(binary.BigEndian.Uint16(ip[2:])) != len(ip) {
		t.Errorf("IPv4 header % x with %d bytes", ip[:20], len(ip))
	}
	if sum(ip[:20]) != 0xffff {
		t.Errorf("checksum of IPv4 header % x", ip[:20])
	}
	tcp := ip[20:]
	pseudo := append(slices.Clone(ip[12:20]), 0, ip[9], byte(len(tcp)>>8), byte(len(tcp)))
	if sum(append(pseudo, tcp...)) != 0xffff {
		t.Errorf("checksum of TCP header % x", tcp[:20])
	}
}

// sum is the ones' complement sum, 0xffff over data with a right checksum.
func sum(data []byte) uint16 {
	total := 0
	for i, b := range data {
		total += int(b) << (8 * (1 - i%2))
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

func TestBothSidesSeeInnerPackets(t *testing.T) {
	seen := conversation()
	inner, lost := 0, 0
	for _, role := range roles {
		for _, p := range seen[role] {
			from, to := ends(p.Data)
			if from != role || to == "" {
				continue
			}
			inner++
			if n := occurrences(seen[from], p.Data); n != 1 {
				t.Fatalf("%s sees a packet %d times", from, n)
			}
			there := slices.IndexFunc(seen[to], func(q Packet) bool { return bytes.Equal(p.Data, q.Data) })
			if there < 0 {
				lost++
				continue
			}
			if n := occurrences(seen[to], p.Data); n != 1 {
				t.Fatalf("%s sees a packet %d times", to, n)
			}
			if delay := seen[to][there].Time.Sub(p.Time); delay < 100*time.Microsecond || delay > 600*time.Microsecond {
				t.Errorf("%s to %s takes %v", from, to, delay)
			}
		}
	}
	toLose := requestsToLose()
	if inner < 400 || lost != toLose || lost == 0 {
		t.Errorf("%d inner packets, %d lost, want %d", inner, lost, toLose)
	}
	// And nobody sees a packet of others.
	for role, packets := range seen {
		for _, p := range packets {
			if from, to := ends(p.Data); from != role && to != role {
				t.Fatalf("%s sees a packet from %q to %q", role, from, to)
			}
		}
	}
}

// requestsToLose is how many the story has lose on their way.
func requestsToLose() int {
	n := 0
	for number := range requests(conversation()[Web]) {
		if o := (order{number: number}); o.lost() {
			n++
		}
	}
	return n
}

func occurrences(packets []Packet, data []byte) int {
	n := 0
	for _, p := range packets {
		if bytes.Equal(p.Data, data) {
			n++
		}
	}
	return n
}

// ends are the roles that a frame goes from and to, "" for a visitor.
func ends(frame []byte) (from, to string) {
	addresses := map[string]string{"192.0.2.10": Web, "192.0.2.20": App, "192.0.2.30": DB}
	return addresses[net.IP(frame[26:30]).String()], addresses[net.IP(frame[30:34]).String()]
}

// TestStory looks for what a user is to find: slow requests, a lost one, a refused one.
func TestStory(t *testing.T) {
	times := requests(conversation()[Web])
	if len(times) < ofEach {
		t.Fatalf("only %d requests", len(times))
	}
	for number, r := range times {
		took, status := r.answered.Sub(r.asked), "200 OK"
		o := order{number: number}
		switch {
		case o.refused():
			status = "503 Service Unavailable"
		case r.post:
			status = "201 Created"
		}
		if r.status != status {
			t.Errorf("request %d: status %q, want %q", number, r.status, status)
		}
		if slow := took > 150*time.Millisecond; slow != (o.slow() || o.lost()) {
			t.Errorf("request %d takes %v", number, took)
		}
	}
}

type exchange struct {
	asked, answered time.Time
	post            bool
	status          string
}

// requests are those that web makes to app, by number, as far as the capture of web shows them.
func requests(packets []Packet) map[int]*exchange {
	found := make(map[int]*exchange)
	for _, p := range packets {
		from, to := ends(p.Data)
		_, rest, ok := bytes.Cut(p.Data, []byte("X-Request-Id: req-"))
		if !ok || from == "" || to == "" {
			continue
		}
		number, _ := strconv.Atoi(string(rest[:4]))
		_, status, answer := bytes.Cut(p.Data, []byte("HTTP/1.1 "))
		switch {
		case found[number] == nil:
			found[number] = &exchange{asked: p.Time, post: bytes.Contains(p.Data, []byte("POST /"))}
		case answer && from == App:
			line, _, _ := bytes.Cut(status, []byte("\r\n"))
			found[number].answered, found[number].status = p.Time, string(line)
		}
	}
	return found
}

// TestEachSideKnowsOnlyWhatCame checks that what a side acknowledges and echoes has been with it before.
func TestEachSideKnowsOnlyWhatCame(t *testing.T) {
	for role, packets := range conversation() {
		next, stamps := make(map[string]uint32), make(map[string][]uint32) // by direction: what came
		for i, p := range packets {
			packet := gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.Default)
			tcp := packet.TransportLayer().(*layers.TCP)
			ip := packet.NetworkLayer().NetworkFlow()
			back := ip.Reverse().String() + tcp.TransportFlow().Reverse().String()
			stamp, echo := timestamps(tcp)
			if from, _ := ends(p.Data); from != role {
				there := ip.String() + tcp.TransportFlow().String()
				next[there] = tcp.Seq + uint32(len(tcp.Payload))
				if tcp.SYN || tcp.FIN {
					next[there]++
				}
				stamps[there] = append(stamps[there], stamp)
				continue
			}
			if !tcp.ACK {
				continue
			}
			if tcp.Ack != next[back] && int32(next[back]-tcp.Ack) > 2*segmentSize || int32(tcp.Ack-next[back]) > 0 {
				t.Errorf("%s %d: acknowledges %d, %d came", role, i, tcp.Ack, next[back])
			}
			if !slices.Contains(stamps[back], echo) || len(tcp.Payload) == 0 && stamps[back][len(stamps[back])-1]-echo > 60 {
				t.Errorf("%s %d: echoes %d, which is not of late", role, i, echo)
			}
		}
	}
}

func timestamps(tcp *layers.TCP) (value, echo uint32) {
	for _, o := range tcp.Options {
		if o.OptionType == layers.TCPOptionKindTimestamps {
			return binary.BigEndian.Uint32(o.OptionData), binary.BigEndian.Uint32(o.OptionData[4:])
		}
	}
	return 0, 0
}
