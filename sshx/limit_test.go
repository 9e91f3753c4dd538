package sshx

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func take(t *testing.T, l *limiter, n int) (epochs []int) {
	t.Helper()
	for range n {
		epoch, err := l.acquire(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		epochs = append(epochs, epoch)
	}
	return epochs
}

func full(l *limiter) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	epoch, err := l.acquire(ctx)
	if err == nil {
		l.release(epoch, saysNothing)
	}
	return err != nil
}

func TestLimiter(t *testing.T) {
	var all limiters
	l := all.of("a")
	epochs := take(t, l, unknownHandshakes)
	if !full(l) {
		t.Fatal("more than 4 at once of a server that is not known")
	}
	if full(all.of("b")) {
		t.Error("another server waits")
	}
	l.meet("SSH-2.0-diego-ssh-proxy")
	epochs = append(epochs, take(t, l, firstHandshakes-unknownHandshakes)...)
	if !full(l) {
		t.Fatal("more than 8 at once")
	}
	for _, e := range epochs { // all went well: as many again
		l.release(e, cameThrough)
	}
	epochs = take(t, l, 2*firstHandshakes)
	if !full(l) {
		t.Error("more than 16 at once")
	}
	for _, e := range epochs { // dropped together counts once
		l.release(e, wasDropped)
	}
	epochs = take(t, l, firstHandshakes)
	if !full(l) {
		t.Error("more than 8 after a drop")
	}
	for _, e := range epochs {
		l.release(e, cameThrough)
	}
	if got := int(l.limit); got != firstHandshakes && got != firstHandshakes+1 {
		t.Errorf("limit %d after a full round", got)
	}
	for range 10 {
		l.release(take(t, l, 1)[0], wasDropped)
	}
	if l.limit != 1 || full(l) {
		t.Errorf("limit %v", l.limit)
	}
}

// What is known of some servers is heeded: how many they take before they drop some.
func TestLimiterServers(t *testing.T) {
	for version, want := range map[string]int{"SSH-2.0-OpenSSH_9.2p1 Debian-2": 8, "SSH-2.0-dropbear_2022.83": 4, "SSH-2.0-Go": 64} {
		l := new(limiters).of("a")
		l.meet(version)
		for range 1000 {
			l.release(take(t, l, 1)[0], cameThrough)
		}
		if got := len(take(t, l, want)); !full(l) {
			t.Errorf("%s: more than %d at once", version, got)
		}
	}
}

// All who wait for a server that has never said anything are told when one has waited long enough. Later ones try again.
func TestLimiterSilence(t *testing.T) {
	l := new(limiters).of("a")
	first, why := take(t, l, unknownHandshakes), errors.New("silent")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := l.acquire(t.Context()); err != why {
				t.Errorf("%v", err)
			}
		})
	}
	for waiting := 0; waiting < 20; {
		l.mu.Lock()
		waiting = len(l.queue)
		l.mu.Unlock()
		runtime.Gosched()
	}
	l.silence(why)
	wg.Wait()
	for _, epoch := range first {
		l.release(epoch, saysNothing)
	}
	take(t, l, unknownHandshakes)
}

// Who waits gets its turn, also when others give up in the same moment.
func TestLimiterQueue(t *testing.T) {
	l := &limiter{limit: 2}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%20)*time.Microsecond)
			if i%2 == 0 {
				ctx = context.Background()
			}
			defer cancel()
			epoch, err := l.acquire(ctx)
			if err == nil {
				l.release(epoch, saysNothing)
			}
		})
	}
	wg.Wait()
	if l.busy != 0 || len(l.queue) != 0 {
		t.Errorf("%d busy, %d waiting", l.busy, len(l.queue))
	}
}

func TestBudget(t *testing.T) {
	ctx, cancel := withBudget(context.Background(), 20*time.Millisecond)
	defer cancel()
	one, two := pauseBudget(ctx), pauseBudget(ctx)
	one()
	select {
	case <-ctx.Done():
		t.Error("it ran while paused")
	case <-time.After(60 * time.Millisecond):
	}
	two()
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errBudget) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
	pauseBudget(context.Background())() // nothing to pause
}

func TestCiphers(t *testing.T) {
	got := ciphers()
	all := ssh.SupportedAlgorithms().Ciphers
	if len(got) != len(all) {
		t.Errorf("%q of %q", got, all)
	}
	for _, c := range all {
		if !slices.Contains(got, c) {
			t.Errorf("no %s", c)
		}
	}
	if got[0] != ssh.CipherAES128GCM || got[1] != ssh.CipherAES256GCM || got[2] != ssh.CipherAES128CTR {
		t.Errorf("order %q", got)
	}
}

func TestMatchPattern(t *testing.T) {
	for p, cases := range map[string]map[string]bool{
		"web?":      {"web1": true, "web": false, "web12": false},
		"*":         {"": true, "x": true},
		"*.example": {"a.example": true, ".example": true, "example": false, "a.examples": false},
		"a*b*c":     {"abc": true, "axxbyyc": true, "acb": false},
		"a.b":       {"a.b": true, "axb": false},
		"":          {"": true, "a": false},
	} {
		for s, want := range cases {
			if matchPattern(s, p) != want {
				t.Errorf("%q matches %q: %v", s, p, !want)
			}
		}
	}
}

func TestParseTime(t *testing.T) {
	for s, want := range map[string]time.Duration{"": 0, "0": 0, "90": 90 * time.Second, "1m30s": 90 * time.Second, "2H": 2 * time.Hour,
		"1w": 7 * 24 * time.Hour} {
		if got, ok := parseTime(s); !ok || got != want {
			t.Errorf("%q is %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"x", "1y", "-1", "1 m", "99999999999", "2147483647w"} {
		if got, ok := parseTime(s); ok {
			t.Errorf("%q is %v", s, got)
		}
	}
}
