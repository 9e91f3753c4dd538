package capture

import "github.com/sshpcap/sshpcap/merge"

// written is a number of records of one source that were written at once.
type written struct {
	src     *source
	records int64
}

// account knows whose the records are that may still stand in an output's buffer. Should the output break, they are not
// in the file although they were taken.
type account struct {
	recent []written // the last runs
}

// recentRuns is more than a writer's buffer has room for: 256 KiB of records of 16 bytes and more.
const recentRuns = 20_000

// took notes how a run of the source was written. Of one that failed, what is counted is in the file.
func (a *account) took(src *source, records int, err error) {
	n := len(a.recent)
	switch {
	case err != nil || records == 0:
		return
	case n > 0 && a.recent[n-1].src == src:
		a.recent[n-1].records += int64(records)
		return
	case n >= 2*recentRuns:
		a.recent = append(a.recent[:0], a.recent[n-recentRuns:]...)
	}
	a.recent = append(a.recent, written{src, int64(records)})
}

// pending reports whether records may not be in the file yet.
func (a *account) pending() bool { return len(a.recent) > 0 }

// flushed notes that all that was taken is in the file.
func (a *account) flushed() { a.recent = a.recent[:0] }

// takeBack counts the records with these captured lengths, the last that were taken, as lost by their sources.
func (a *account) takeBack(missed []uint32) {
	for i := len(a.recent) - 1; i >= 0 && len(missed) > 0; i-- {
		run := a.recent[i]
		first := len(missed) - int(min(run.records, int64(len(missed))))
		run.src.lost += int64(len(missed) - first)
		for _, captured := range missed[first:] {
			run.src.lostBytes += int64(captured)
		}
		missed = missed[:first]
	}
}

// book takes what a file of the capture holds into the report, once it is closed. Those of single instances have their
// packets beside the others.
func (p *pump) book(o *output) {
	if o.file.fd != nil && !o.file.empty {
		p.others.accounts = append(p.others.accounts, FileReport{Path: o.file.Path, Packets: o.packets(), Bytes: o.whole()})
	}
	if !o.part {
		o.account.takeBack(o.missed())
	}
}

func bytesOf(recs []merge.Record) (n int64) {
	for i := range recs {
		n += int64(recs[i].CapLen)
	}
	return n
}
