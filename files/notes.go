package files

// Note is something about an input that is no damage: what was left out of it, or read although it is wrong.
type Note struct {
	What  string // what there was of it, in the singular: "custom block"
	Text  string // what became of it: "left out: …"
	Count int64
}

// notes are those of one input.
type notes []Note

// mostNotes bounds how many kinds there are: a block's type is any number.
const mostNotes = 24

func (n *notes) add(what, text string, count int64) {
	for i := range *n {
		if note := &(*n)[i]; note.What == what && note.Text == text {
			note.Count += count
			return
		}
	}
	if len(*n) == mostNotes-1 {
		what, text = "other block or option", "left out"
	} else if len(*n) == mostNotes {
		(*n)[mostNotes-1].Count += count
		return
	}
	*n = append(*n, Note{what, text, count})
}

func (n *notes) addAll(others notes) {
	for _, o := range others {
		n.add(o.What, o.Text, o.Count)
	}
}
