package plugin_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"net"
	"net/rpc"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/sshpcap/sshpcap/cf/plugin"
)

// FuzzReplies: whatever answers in cf's place, each question ends, and errors are text without tokens.
func FuzzReplies(f *testing.F) {
	reply := func(failure string, body any) []byte {
		var b bytes.Buffer
		e := gob.NewEncoder(&b)
		if err := errors.Join(e.Encode(rpc.Response{Error: failure}), e.Encode(body)); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	whole := reply("", "bearer "+jwt)
	for _, s := range [][]byte{nil, []byte("HTTP/1.0 400 Bad Request\r\n"), whole, whole[:len(whole)-2], reply("", true), reply("", Space{}), reply("no: \x1b[2J\u202e"+jwt, ""),
		reply(strings.Repeat("\x07 ", 5000), ""), {0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0xfc, 0x3f, 0xff, 0xff, 0xff}} {
		f.Add(s)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { listener.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	f.Fuzz(func(t *testing.T, said []byte) {
		defer serveOnce(t, listener, said)()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		conn, err := plugin.Dial(ctx, port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err1 := conn.AccessToken(ctx)
		_, err2 := conn.CurrentSpace(ctx)
		_, err3 := conn.IsLoggedIn(ctx)
		for _, err := range []error{err1, err2, err3} {
			if err == nil {
				continue
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("no end: %v", err)
			}
			if strings.Contains(err.Error(), jwt) {
				t.Errorf("a token is in %q", err)
			}
			for _, r := range err.Error() {
				if !unicode.IsPrint(r) {
					t.Fatalf("%U in %q", r, err)
				}
			}
		}
	})
}

// serveOnce says something to the next client, whatever that asks. What it returns waits for the end.
func serveOnce(t *testing.T, listener net.Listener, said []byte) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = conn.Write(said)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	}()
	return func() { <-done }
}
