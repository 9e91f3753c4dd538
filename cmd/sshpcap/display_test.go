package main

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"go.uber.org/goleak"

	"github.com/sshpcap/sshpcap/capture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// screen is what a display writes to.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (s *screen) waitFor(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !strings.Contains(s.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q does not come: %.300q", text, s)
		}
	}
}

func TestBarShowsTheProgress(t *testing.T) {
	for _, g := range []goal{{}, {count: 4000}, {duration: time.Hour}} {
		s, progress := new(screen), new(capture.Progress)
		progress.Instances.Store(3)
		progress.Capturing.Store(2)
		progress.Packets.Store(1234)
		progress.Bytes.Store(5_000_000)
		d := &display{w: s, progress: progress, goal: g, columns: 120, bar: newBar(s, g), every: time.Millisecond, stop: make(chan struct{})}
		d.begin()
		s.waitFor(t, "2/3 instances  1,234 packets  5.0 MB")
		s.waitFor(t, "dropped ?")
		if g.count > 0 {
			s.waitFor(t, "30%")
		}
		progress.Dropped.Store(7)
		progress.Reported.Store(1)
		s.waitFor(t, "dropped 7")
		d.line("a %s", "line")
		s.waitFor(t, "\r\033[2Ka line\n")
		d.end()
	}
}

func TestPauseLeavesTheLineAlone(t *testing.T) {
	s, progress := new(screen), new(capture.Progress)
	d := &display{w: s, progress: progress, columns: 120, bar: newBar(s, goal{}), every: time.Millisecond, stop: make(chan struct{})}
	d.begin()
	s.waitFor(t, "instances")
	answered := d.ask("password: ")
	before := s.String()
	d.show()
	if after := s.String(); after != before {
		t.Errorf("%q was drawn over a question", after[len(before):])
	}
	d.line("news")
	if !strings.HasSuffix(s.String(), "password: \nnews\npassword: ") {
		t.Errorf("the question does not stand below the news: %q", s)
	}
	answered()
	d.show()
	if s.String() == before {
		t.Error("nothing is drawn any more")
	}
	d.end()
}

func TestQuietShowsProblemsOnly(t *testing.T) {
	s := new(screen)
	d := &display{w: s, quiet: true, progress: new(capture.Progress), stop: make(chan struct{})}
	d.begin()
	d.line("hello")
	d.problem(func(w io.Writer) { w.Write([]byte("trouble\n")) })
	d.end()
	if s.String() != "trouble\n" {
		t.Errorf("%q", s)
	}
}

// TestOnlyText: whatever a message or a question holds, a terminal gets characters.
func TestOnlyText(t *testing.T) {
	const evil = "\x1b]0;pwned\x07\x1b[2J\u009b31m\u202etxt.exe\x00\r\b\u2028\xff"
	s := new(screen)
	d := &display{w: s, progress: new(capture.Progress), stop: make(chan struct{})}
	session := &session{display: d, connected: func() {}}
	for kind := capture.Ready; kind <= capture.Left; kind++ {
		session.tell(capture.Event{Kind: kind, Instance: "a" + evil, Err: &usageError{"é" + evil, "hint" + evil + "\nsecond line"}, Text: evil})
	}
	session.summarize(capture.Report{Output: capture.OutputReport{Path: "-" + evil, Problem: evil, Files: []string{evil}},
		Instances: []capture.InstanceReport{{Name: "a" + evil, State: capture.LostState, Problem: evil}}})
	d.ask(evil)()
	for _, r := range s.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%U in %q", r, s)
		}
	}
	if !strings.Contains(s.String(), "é") || !strings.Contains(s.String(), "\nsecond line\n") {
		t.Errorf("%q", s)
	}
}

func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		s := watchSignals()
		syscall.Kill(syscall.Getpid(), sig)
		<-s.ctx.Done()
		if s.isCut() {
			t.Errorf("%v cuts at once", sig)
		}
		syscall.Kill(syscall.Getpid(), sig)
		<-s.cut
		s.close()
	}
	s := watchSignals()
	s.close() // without any
}
