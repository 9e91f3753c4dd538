package capture

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sshpcap/sshpcap/remote"
	"github.com/sshpcap/sshpcap/sshx"
)

// askMost is how long a question may take that an instance is asked beside a capture: its command must be over, or
// have been asked to end, before it misses a sign of life.
const askMost = 10 * time.Second

// answer is what a command said, and how it ended.
type answer struct {
	text string // of its standard output, as much as was asked for
	log  *stderr
	err  error
	late bool // it was ended because it took too long
}

// about asks an instance what it is and has, by the helper's command.
func (cfg Config) about(ctx context.Context, conn *sshx.Conn, c remote.Command) (remote.About, answer) {
	a := cfg.ask(ctx, conn, c.AboutLine(), remote.MaxAbout)
	return remote.ReadAbout(a.text), a
}

// clock is what it tells of the instance's clock, if it does.
func (a answer) clock() Clock {
	select {
	case r := <-a.log.read:
		c, _ := r.clock()
		return c
	default:
		return Clock{}
	}
}

// ask runs a command that tells something and ends, and ends it as a capture is ended when ctx does, or the time for it.
func (cfg Config) ask(ctx context.Context, conn *sshx.Conn, line string, most int64) answer {
	a := answer{log: newStderr(time.Now())}
	ctx, cancel := context.WithTimeout(ctx, min(askMost, cfg.ConnectTimeout))
	defer cancel()
	process, err := conn.Start(ctx, line)
	a.late = ctx.Err() == context.DeadlineExceeded
	if err != nil {
		a.err = err
		return a
	}
	over, said := make(chan struct{}), make(chan struct{}) // closed when it has ended, and when it has said all
	var beside sync.WaitGroup
	beside.Go(func() { io.Copy(a.log, process.Stderr); close(said) })
	beside.Go(func() { cfg.endInTime(ctx, process, over) })
	var text strings.Builder
	n, _ := io.Copy(&text, io.LimitReader(process.Stdout, most)) // its only error is its end
	if n == most {
		process.Close() // no honest instance says that much
	}
	a.text = text.String()
	a.err = process.Wait()
	<-said
	a.late = ctx.Err() == context.DeadlineExceeded
	close(over)
	process.Close()
	beside.Wait()
	return a
}

// endInTime ends a command by the end of its input when ctx ends, and cuts it when it does not take notice.
func (cfg Config) endInTime(ctx context.Context, process *sshx.Process, over <-chan struct{}) {
	defer process.Stdin.Close()
	select {
	case <-over:
		return
	case <-ctx.Done():
	}
	process.Stdin.Close()
	patience := time.NewTimer(cfg.Grace)
	defer patience.Stop()
	select {
	case <-over:
	case <-patience.C:
	case <-cfg.Cut:
	}
	process.Close()
}
