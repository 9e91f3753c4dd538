package files

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/sshpcap/sshpcap/merge"
)

// Blocks and options that are kept, or not, as draft-ietf-opsawg-pcapng has it.
const (
	blockJournal      = 9          // 4.9: an entry of systemd's journal
	blockCustom       = 0x00000bad // 4.8
	blockCustomNoCopy = 0x40000bad // 4.8: tools that change a file are not to copy it

	optionComment      = 1
	sectionHardware    = 2
	sectionOS          = 3
	sectionApplication = 4
)

// Options that makers of programs have for themselves (section 3.5.1): text or bytes, which may be copied or not.
func custom(code uint16) bool       { return code == 2988 || code == 2989 || customNoCopy(code) }
func customNoCopy(code uint16) bool { return code == 19372 || code == 19373 }

// leftOut are the texts of notes.
const (
	leftOutNoCopy  = "left out: not to be copied"
	leftOutSection = "left out: of a whole section, of which there are several"
	leftOutNoPlace = "left out: pcap has no place for them"
	unpaddedBlock  = "read although the length is not a multiple of 4"
)

// beginSection takes what a section says of itself. Where the input is the only one, the first section's words are those of the
// output; else its interfaces have them as comments.
func (d *pcapngDecoder) beginSection(c *ngChunk, options []byte) {
	d.endSection()
	d.comments = nil
	first := d.sections == 0
	d.sections++
	switch {
	case d.source.plain, d.source.report < 0 && !d.source.alone: // pcap has no place for it; or it is ours
	case d.source.alone && first:
		if own := d.optionsOf(options, blockSection); len(own) > 0 {
			c.events = append(c.events, event{kind: blockSection, off: d.off, body: own})
		}
	default:
		d.comments = d.sectionComments(options)
	}
	d.untold = len(d.comments) > 0
}

// endSection counts a section whose words have found no interface to stand at.
func (d *pcapngDecoder) endSection() {
	if d.untold {
		d.notes.add("section comment", "left out: its section has no interface", int64(len(d.comments)))
	}
	d.untold = false
}

// sectionComments are options of an interface: the comments of its section, and one that has its hardware, system and
// application.
func (d *pcapngDecoder) sectionComments(options []byte) (comments [][]byte) {
	about := []string{sectionHardware: "hardware ", sectionOS: "system ", sectionApplication: "application "}
	known := 0
	var words []string
	d.eachOption(options, func(code uint16, value []byte) {
		switch {
		case code == optionComment:
			comments = append(comments, appendOption(nil, optionComment, value))
		case customNoCopy(code):
			d.notes.add("custom option", leftOutNoCopy, 1)
		case code < uint16(len(about)) && len(value) > 0:
			if code == sectionApplication && string(value) == d.source.application {
				known++ // it is what writes the output
			}
			words = append(words, about[code]+string(value))
		default:
			d.notes.add("section option", leftOutSection, 1)
		}
	})
	if len(words) > 0 && known == 0 {
		comments = append(comments, merge.AppendText(nil, optionComment, "section: "+strings.Join(words, ", ")))
	}
	return d.few(comments)
}

// maxComments is how many bytes of comments every interface of a section has. More has the first one only: else a small file
// would become a large one. Beyond mostComments they are left out.
const (
	maxComments  = 1 << 10
	mostComments = 256 << 10
)

// few returns those of the comments that fit an interface.
func (d *pcapngDecoder) few(comments [][]byte) [][]byte {
	size := 0
	for i, comment := range comments {
		if size += len(comment); size > mostComments {
			d.notes.add("section comment", "left out: too many for an interface", int64(len(comments)-i))
			return comments[:i]
		}
	}
	return comments
}

// appendComments appends to the options of an interface the words of its section, unless they are there.
func (d *pcapngDecoder) appendComments(kept []byte) []byte {
	d.untold = false
	size := 0
	for _, comment := range d.comments {
		size += len(comment)
		if !bytes.Contains(kept, comment) {
			kept = append(kept, comment...)
		}
	}
	if size > maxComments {
		d.comments = nil
	}
	return kept
}

// custom takes a custom block. What stands behind the number of its maker nobody else can read: it is copied as it is.
func (d *pcapngDecoder) custom(c *ngChunk, body []byte) {
	switch {
	case d.source.plain:
		d.notes.add("custom block", leftOutNoPlace, 1)
		return
	case len(body) < 4:
		d.notes.add("custom block", "left out: cut short", 1)
		return
	}
	binary.LittleEndian.PutUint32(body, d.order.Uint32(body))
	d.keep(c, blockCustom, body, d.last)
}

// journal takes an entry of systemd's journal, which has the same bytes in either byte order.
func (d *pcapngDecoder) journal(c *ngChunk, body []byte) {
	if d.source.plain {
		d.notes.add("journal entry", leftOutNoPlace, 1)
		return
	}
	at, ok := merge.JournalTime(body)
	if !ok {
		at = d.last
	}
	d.timed = d.timed || ok
	d.keep(c, blockJournal, body, at)
}

// keep keeps a block where it stands: among the packets, as one of them. Before all packets it needs no time. Its body stays in
// the chunk's memory.
func (d *pcapngDecoder) keep(c *ngChunk, kind uint32, body []byte, at int64) {
	if !d.timed {
		c.events = append(c.events, event{kind: kind, off: d.off, body: body})
		return
	}
	d.last = at
	d.assign(c, noInterface)
	c.options = append(c.options, packetOptions{record: len(c.b.Records), bytes: body, kind: kind})
	c.blocks++
	c.b.Records = append(c.b.Records, merge.Record{Time: at, Off: uint32(d.start + 8)})
}

// other counts a block that is left out since it is not known, by its type.
func (d *pcapngDecoder) other(kind uint32) {
	d.notes.add("block", fmt.Sprintf("left out: %s", blockName(kind)), 1)
}

// blockName says what a block is that is left out, as far as that is known (section 10.1 of the draft).
func blockName(kind uint32) string {
	name := "not known"
	switch {
	case kind == 7:
		name = "of IRIG times or AFDX"
	case kind == 8:
		name = "of ARINC 429 in AFDX"
	case kind >= 0x101 && kind <= 0x10f:
		name = "of Hone"
	case kind >= 0x201 && kind <= 0x221:
		name = "of Sysdig"
	case kind>>31 == 1:
		name = "for local use"
	}
	return fmt.Sprintf("type 0x%08x, %s", kind, name)
}
