package sshx_test

import (
	"io"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/sshx"
)

// What Pad sends is ignored by servers, and there is one of it at a time.
func TestPad(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(t *testing.T) (string, *sshx.Dialer){
		"OpenSSH":  func(t *testing.T) (string, *sshx.Dialer) { s := newSSHD(t); return s.addr(), s.client(t) },
		"dropbear": newDropbear,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, d := server(t)
			p := begin(t, dial(t, d, addr), "cat")
			sizes := []int{208, 1072, 400, 688, 256}
			if !p.Pad(sizes, 20*time.Millisecond) {
				t.Fatal("nothing is sent")
			}
			if p.Pad(sizes, 20*time.Millisecond) {
				t.Error("a second one is sent beside the first")
			}
			for deadline := time.Now().Add(10 * time.Second); !p.Pad(nil, 0); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the first one does not end")
				}
			}
			io.WriteString(p.Stdin, "alive\n")
			p.Stdin.Close()
			if out, err := io.ReadAll(p.Stdout); string(out) != "alive\n" || err != nil || p.Wait() != nil {
				t.Errorf("the session gave %q, %v", out, err)
			}
		})
	}
}
