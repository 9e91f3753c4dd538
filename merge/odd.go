package merge

import "fmt"

// Odd is a way in which a record or block makes no sense although it is framed soundly. Such a one never ends its
// stream: it is kept, mended as its kind says, or skipped.
type Odd uint8

// The kinds. Those from OddTooLong on are left out, the others kept.
const (
	OddFraction   Odd = iota // a time's fraction is a second or more: it is carried over into the seconds
	OddTime                  // a time that cannot be held becomes the nearest one that can
	OddPcapTime              // a time that pcap cannot hold: where pcap is written it becomes the nearest one that can
	OddOriginal              // more captured bytes than were on the wire
	OddSnaplen               // more captured bytes than the snapshot length
	OddCut                   // the same, and cut: see Reader.CutTo
	OddResolution            // of an interface: a unit of time that no clock has
	OddTooLong               // more than MaxRecord captured bytes
	OddUnfit                 // lacks the header that its link type has
	OddOverrun               // claims more captured bytes than its block has
	OddInterface             // of an interface that is not described
	OddVersion               // of a section whose version of pcapng is not known
	OddBlock                 // a block other than a packet's, whose fields make no sense
	OddName                  // of an address: too short, or without an end
	OddOption                // runs over its block's end, or has a size that its kind cannot have
	odds
)

// Oddities counts what made no sense, by its kind. The zero value is ready.
type Oddities [odds]int64

// Oddity is a kind of what made no sense, and how often it was seen.
type Oddity struct {
	What    string `json:"what"` // in words, in the plural
	Count   int64  `json:"count"`
	Skipped bool   `json:"skipped"` // it is left out; else kept

	Thing string `json:"-"` // of what kind: "packet"
	Text  string `json:"-"` // what is wrong with it, and what became of it
}

// String says it in words, with the count: "1 packet of more than 262144 bytes: left out".
func (o Oddity) String() string {
	if o.Count == 1 {
		return "1 " + o.Thing + " " + o.Text
	}
	return fmt.Sprintf("%d %s", o.Count, o.What)
}

// oddWords say of what thing it is, and what of it.
var oddWords = [odds][2]string{
	OddFraction:   {"packet", "with a fraction of a second or more in the time: carried over into the seconds"},
	OddTime:       {"packet", "with a time that cannot be held: the nearest that can is written"},
	OddPcapTime:   {"packet", "from before 1970 or after 2106, which pcap cannot hold: the nearest time that it can is written"},
	OddOriginal:   {"packet", "with more captured bytes than were on the wire: kept"},
	OddSnaplen:    {"packet", "longer than the snapshot length: kept"},
	OddCut:        {"packet", "longer than the snapshot length: cut to it"},
	OddResolution: {"interface", "with a unit of time that no clock has: kept"},
	OddTooLong:    {"packet", fmt.Sprintf("of more than %d bytes: left out", MaxRecord)},
	OddUnfit:      {"packet", "without the header that the link type has: left out"},
	OddOverrun:    {"packet", "with more captured bytes than the block has: left out"},
	OddInterface:  {"packet", "of an interface that is not described: left out"},
	OddVersion:    {"packet", "of a section whose version of pcapng is not known: left out"},
	OddName:       {"name record", "without sense: left out"},
	OddBlock:      {"block", "with fields that make no sense: left out"},
	OddOption:     {"option", "of a size that makes no sense: left out"},
}

// List returns the kinds that were seen.
func (o *Oddities) List() []Oddity {
	list := []Oddity{}
	for kind, n := range o {
		if n > 0 {
			thing, text := oddWords[kind][0], oddWords[kind][1]
			list = append(list, Oddity{thing + "s " + text, n, Odd(kind) >= OddTooLong, thing, text})
		}
	}
	return list
}

// SkippedPackets returns how many packets are left out.
func (o *Oddities) SkippedPackets() int64 {
	return o[OddTooLong] + o[OddUnfit] + o[OddOverrun] + o[OddInterface] + o[OddVersion]
}

// Add adds those of another stream.
func (o *Oddities) Add(other Oddities) {
	for kind, n := range other {
		o[kind] += n
	}
}
