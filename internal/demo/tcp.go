package demo

import (
	"encoding/binary"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

const (
	segmentSize       = 1448                   // 1500 less the headers of IPv4 and TCP with timestamps
	windowScale       = 7                      // as Linux chooses
	delayedAck        = 40 * time.Millisecond  // as Linux waits for data to go with
	retransmitTimeout = 204 * time.Millisecond // Linux: the round trip, but 200 ms at least
)

// endpoint is one side of a TCP connection.
type endpoint struct {
	net  *network
	host *host
	port uint16
	peer *endpoint

	next     uint32 // sequence number of the next byte sent
	expected uint32 // of the next byte to come
	acked    uint32 // what we have acknowledged
	waiting  int    // segments that came and are not acknowledged
	heard    bool   // the peer's SYN has come

	clock   time.Time // where the timestamp option counts from
	recent  uint32    // the peer's timestamp to echo, RFC 7323 section 4.3
	id      uint16    // of the IP header
	ready   time.Time // when the last segment given to us will have left
	arrived time.Time // when the last one sent arrives: nothing overtakes it
}

// segment is what a TCP header says, and the data.
type segment struct {
	syn, fin, push bool
	sequence       uint32
	data           []byte
	stamp          uint32 // set when it is sent
	came           func() // called when the peer has it; nil for none
	lost           bool   // on the way, at the first try
}

// size is how many sequence numbers it takes.
func (s *segment) size() uint32 {
	size := uint32(len(s.data))
	if s.syn || s.fin {
		size++
	}
	return size
}

// connect opens a connection and calls opened with the client's side.
func (n *network) connect(client, server *host, port uint16, opened func(*endpoint)) {
	local, remote := n.endpoint(client, client.nextPort), n.endpoint(server, port)
	client.nextPort++
	local.peer, remote.peer = remote, local
	local.transmit(segment{syn: true, came: func() {
		remote.later(func() {
			remote.transmit(segment{syn: true, came: func() {
				local.later(func() {
					local.acknowledge()
					opened(local)
				})
			}})
		})
	}})
}

func (n *network) endpoint(h *host, port uint16) *endpoint {
	return &endpoint{
		net: n, host: h, port: port,
		next: n.random.Uint32(), id: uint16(n.random.Uint32()),
		clock: n.now.Add(-n.between(time.Hour, 30*24*time.Hour)),
	}
}

// send sends a message in as many segments as it takes and calls came when the peer has all of it.
func (e *endpoint) send(message []byte, came func()) {
	for len(message) > segmentSize {
		e.queue(segment{data: message[:segmentSize]})
		message = message[segmentSize:]
	}
	e.queue(segment{data: message, push: true, came: came})
}

// sendLost sends a short message that has to be sent again.
func (e *endpoint) sendLost(message []byte, came func()) {
	e.queue(segment{data: message, push: true, came: came, lost: true})
}

// close ends the connection, and has the peer end it too.
func (e *endpoint) close() {
	e.queue(segment{fin: true, came: func() {
		e.peer.later(func() {
			e.peer.transmit(segment{fin: true, came: func() {
				e.later(e.acknowledge)
			}})
		})
	}})
}

// queue sends a segment once those before it have left.
func (e *endpoint) queue(s segment) {
	if e.ready.Before(e.net.now) {
		e.ready = e.net.now
	}
	e.ready = e.ready.Add(e.net.between(3*time.Microsecond, 9*time.Microsecond))
	e.net.after(e.ready.Sub(e.net.now), func() { e.transmit(s) })
}

// later calls f after the time a kernel takes.
func (e *endpoint) later(f func()) {
	e.net.after(e.net.between(8*time.Microsecond, 40*time.Microsecond), f)
}

// transmit sends a new segment now.
func (e *endpoint) transmit(s segment) {
	s.sequence = e.next
	e.next += s.size()
	e.emit(s)
}

// acknowledge sends what acknowledges all that has come and says nothing else.
func (e *endpoint) acknowledge() { e.emit(segment{sequence: e.next}) }

// emit puts a segment on the wire: we see it now, the peer when it arrives.
func (e *endpoint) emit(s segment) {
	s.stamp = uint32(e.net.now.Sub(e.clock).Milliseconds())
	frame := e.frame(&s)
	e.acked, e.waiting = e.expected, 0
	e.net.capture(e.host, frame)
	if s.lost {
		s.lost = false
		e.net.after(retransmitTimeout, func() { e.emit(s) })
		return
	}
	e.net.after(e.flight(), func() {
		e.net.capture(e.peer.host, frame)
		e.peer.receive(&s)
	})
}

// flight is how long the next frame takes; frames of a connection arrive in the order they were sent.
func (e *endpoint) flight() time.Duration {
	path := e.host
	if e.peer.host.delay > path.delay {
		path = e.peer.host
	}
	arrival := e.net.now.Add(path.delay + e.net.between(0, path.jitter))
	if !arrival.After(e.arrived) {
		arrival = e.arrived.Add(time.Microsecond)
	}
	e.arrived = arrival
	return arrival.Sub(e.net.now)
}

// receive takes a segment. Every second one with data is acknowledged at once, the last one with what we answer or
// when that takes too long.
func (e *endpoint) receive(s *segment) {
	if s.syn {
		e.expected, e.heard = s.sequence, true
	}
	if s.syn || int32(s.sequence-e.acked) <= 0 {
		e.recent = s.stamp
	}
	e.expected += s.size()
	if len(s.data) > 0 {
		e.waiting++
		patience := delayedAck + e.net.between(0, 4*time.Millisecond)
		if e.waiting > 1 {
			patience = e.net.between(2*time.Microsecond, 6*time.Microsecond)
		}
		e.net.after(patience, e.acknowledgeIf(e.expected))
	}
	if s.came != nil {
		s.came()
	}
}

// acknowledgeIf acknowledges what came up to a sequence number unless that has been done meanwhile.
func (e *endpoint) acknowledgeIf(upTo uint32) func() {
	return func() {
		if int32(upTo-e.acked) > 0 {
			e.acknowledge()
		}
	}
}

// frame is the segment with its headers, checksums included.
func (e *endpoint) frame(s *segment) []byte {
	ethernet := &layers.Ethernet{SrcMAC: e.host.mac, DstMAC: e.peer.host.mac, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{
		Version: 4, TTL: e.host.ttl, Id: e.id, Flags: layers.IPv4DontFragment,
		Protocol: layers.IPProtocolTCP, SrcIP: e.host.ip, DstIP: e.peer.host.ip,
	}
	e.id++
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(e.port), DstPort: layers.TCPPort(e.peer.port),
		Seq: s.sequence, SYN: s.syn, FIN: s.fin, PSH: s.push, Window: 64128 >> windowScale,
		Options: e.options(s),
	}
	if e.heard {
		tcp.ACK, tcp.Ack = true, e.expected
	}
	if s.syn {
		tcp.Window = 64240 // never scaled
	}
	tcp.SetNetworkLayerForChecksum(ip)
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, ethernet, ip, tcp, gopacket.Payload(s.data)); err != nil {
		panic(err) // only addresses of a wrong length can do that, and ours are constants
	}
	return buffer.Bytes()
}

// options are those of Linux, in its order.
func (e *endpoint) options(s *segment) []layers.TCPOption {
	stamps := binary.BigEndian.AppendUint32(nil, s.stamp)
	stamps = binary.BigEndian.AppendUint32(stamps, e.recent)
	nop := layers.TCPOption{OptionType: layers.TCPOptionKindNop}
	timestamps := layers.TCPOption{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: stamps}
	if !s.syn {
		return []layers.TCPOption{nop, nop, timestamps}
	}
	return []layers.TCPOption{
		{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: binary.BigEndian.AppendUint16(nil, 1460)},
		{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2},
		timestamps,
		nop,
		{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{windowScale}},
	}
}
