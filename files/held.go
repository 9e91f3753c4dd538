package files

import (
	"errors"

	"github.com/sshpcap/sshpcap/merge"
)

// maxHeld bounds what is held of blocks that are no packets: interfaces and, for every file of a rotated output, their
// descriptions, names and secrets. A few kilobytes of a compressed input can be any number of them.
var maxHeld = 256 << 20 // only a test sets it

// Each byte that is held counts twice: as much again may be garbage before it is collected. What an interface takes
// beside its description is its part of ngInterface, numbers and links, whose memory grows by a quarter at once.
const (
	garbage         = 2
	aroundInterface = 80
	aroundOffset    = 80 // of one whose times begin before 1970: in two maps
)

// budget shares maxHeld among the inputs. Half of it belongs to all in equal parts, so that no input can take another's.
// Of the other half each may take as much as it leaves for the others. One input alone has all.
type budget struct {
	each, rest int // bytes
}

func newBudget(inputs int) *budget {
	if inputs == 1 {
		return &budget{each: maxHeld}
	}
	return &budget{each: maxHeld / 2 / inputs, rest: maxHeld / 2}
}

// holding is what one input holds.
type holding struct {
	own, more int // bytes of its part of the budget, and of what is for all
}

// take has the input hold n bytes more, if they are left for it.
func (b *budget) take(h *holding, n int) bool {
	n *= garbage
	own := min(n, b.each-h.own)
	more := n - own
	if more > 0 && h.more+more > b.rest-more {
		return false
	}
	b.rest -= more
	h.own, h.more = h.own+own, h.more+more
	return true
}

// errTooMuch means that an input describes more interfaces than can be held.
var errTooMuch = errors.New("it has more interfaces than can be held in memory beside those of the other files")

// hold has an input hold n bytes. What is in a temporary file is counted already.
func (s *sink) hold(in *input, n int) bool {
	return in.report < 0 || s.budget.take(&in.holds, n)
}

// blocks are whole blocks as they go into the file, in pieces: one that grew would be copied, and leave garbage.
type blocks struct {
	pieces [][]byte
	size   int
}

const pieceSize = 64 << 10

// room returns a piece to append n bytes to, which put puts back.
func (b *blocks) room(n int) []byte {
	if last := len(b.pieces) - 1; last >= 0 && cap(b.pieces[last])-len(b.pieces[last]) >= n {
		return b.pieces[last]
	}
	b.pieces = append(b.pieces, make([]byte, 0, max(n, pieceSize)))
	return b.pieces[len(b.pieces)-1]
}

func (b *blocks) put(piece []byte) {
	last := &b.pieces[len(b.pieces)-1]
	b.size += len(piece) - len(*last)
	*last = piece
}

func (b *blocks) writeTo(p *merge.Pcapng) error {
	for _, piece := range b.pieces {
		if err := p.WriteBlocks(piece); err != nil {
			return err
		}
	}
	return nil
}
