package tests

import (
	"bytes"
	encoding "encoding/binary"
	"io"
	"strings"
	"time"

	"github.com/sshpcap/sshpcap/internal/rawserver"
	"github.com/sshpcap/sshpcap/internal/sshserver"
)

// evil is what must not reach a terminal: a title, a cleared screen, C1 controls, a right-to-left override, a bell.
const evil = "\x1b]0;pwned\x07\x1b[2J\u009b31m\u202etxt.exe\x00\r\b\u2028"

// flood calls send again and again, until it fails or has sent most bytes.
func flood(most int, send func() (int, error)) {
	for sent := 0; sent < most; {
		n, err := send()
		if err != nil {
			return
		}
		sent += n
	}
}

const enough = 128 << 20 // bytes of a flood: far more than may be held

// idle waits for the end of the connection.
func idle(c *rawserver.Conn) { io.Copy(io.Discard, c.Conn) }

// inSession is a server that lets everybody in, starts the command and then does f. It reads what the client sends.
func inSession(window uint32, f func(c *rawserver.Conn, ch uint32)) func(*rawserver.Conn) {
	return func(c *rawserver.Conn) {
		if c.Login() != nil {
			return
		}
		ch, err := c.Session(window)
		if err != nil {
			return
		}
		ended := make(chan struct{})
		go func() { c.Discard(); close(ended) }()
		f(c, ch)
		<-ended
	}
}

// capturing is inSession for a helper that captures.
func capturing(window uint32, f func(c *rawserver.Conn, ch uint32)) func(*rawserver.Conn) {
	return inSession(window, func(c *rawserver.Conn, ch uint32) {
		c.Extended(ch, 1, []byte(introduction(time.Now())))
		c.Data(ch, []byte(pcapHeader(262144, 1)+pcapRecord(time.Now(), "badbadbadbadbad")))
		f(c, ch)
	})
}

// says is a command that writes to stderr and ends.
func says(text string, status int) func(*sshserver.Session) int {
	return func(s *sshserver.Session) int {
		io.WriteString(s.Stderr, text)
		return status
	}
}

// gives is a command whose standard output is a stream, behind its header, until it fails.
func gives(link uint32, next func(w io.Writer) error) func(*sshserver.Session) int {
	return func(s *sshserver.Session) int {
		s.Go(func() { io.Copy(io.Discard, s.Stdin) })
		io.WriteString(s.Stderr, introduction(time.Now()))
		io.WriteString(s.Stdout, pcapHeader(262144, link))
		if next(s.Stdout) != nil {
			return 1
		}
		<-s.Context().Done()
		return 1
	}
}

func wrote(w io.Writer, text string) (int, error) { return io.WriteString(w, text) }

// hostiles are by what they do.
var hostiles = map[string]hostile{
	// Before SSH.
	"lines before the version": {
		raw: func(c *rawserver.Conn) {
			flood(enough, func() (int, error) { return wrote(c.Conn, strings.Repeat(evil+"\r\n", 1000)) })
			idle(c)
		}, says: []string{"no SSH server"}, state: "failed", told: true},
	"one line without end": {
		raw: func(c *rawserver.Conn) {
			flood(enough, func() (int, error) { return wrote(c.Conn, strings.Repeat("x", 64<<10)) })
			idle(c)
		}, says: []string{"no SSH server"}, state: "failed", told: true},
	"a drop each second": {
		raw: func(c *rawserver.Conn) {
			for range 60 {
				if _, err := wrote(c.Conn, "S"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, says: []string{"within 3s"}, state: "failed", told: true},
	"silence": {raw: idle, says: []string{"said nothing"}, state: "failed", told: true},
	"evil version": {
		raw: func(c *rawserver.Conn) { wrote(c.Conn, "SSH-2.0-"+evil+"\r\n\x00\x00\x00\x05"); idle(c) }, state: "failed", told: true,
		says: []string{""}},
	"evil greeting": {
		raw: func(c *rawserver.Conn) { wrote(c.Conn, "Go away "+evil+"\r\n") }, says: []string{"Go away"}, state: "failed", told: true},
	// In the handshake.
	"compression only": {
		raw:  func(c *rawserver.Conn) { c.Compression = "zlib@openssh.com"; c.Handshake(); idle(c) },
		says: []string{"no common algorithm", "compression"}, state: "failed", told: true},
	"banners without end": {
		raw: func(c *rawserver.Conn) {
			if c.Handshake() != nil || c.Service() != nil {
				return
			}
			flood(enough, func() (int, error) {
				return 30 << 10, c.Send(struct {
					Text, Language string `sshtype:"53"`
				}{strings.Repeat(evil, 1000), ""})
			})
			idle(c)
		}, says: []string{"3s"}, state: "failed", told: true},
	"refusals without end": {
		raw: func(c *rawserver.Conn) {
			if c.Handshake() != nil || c.Service() != nil {
				return
			}
			flood(enough, func() (int, error) {
				return 100, c.Send(struct {
					Methods []string `sshtype:"51"`
					Partial bool
				}{[]string{"publickey", "password", "keyboard-interactive"}, true})
			})
			idle(c)
		}, says: []string{"login refused"}, state: "failed", told: true},
	"evil farewell": {
		raw: func(c *rawserver.Conn) {
			if c.Handshake() == nil {
				c.Send(struct {
					Reason         uint32 `sshtype:"1"`
					Text, Language string
				}{2, "farewell " + evil, ""})
			}
			idle(c)
		}, says: []string{"farewell"}, state: "failed", told: true},
	"never a session": {
		raw:  func(c *rawserver.Conn) { c.Login(); c.Discard() },
		says: []string{"3s"}, state: "failed", told: true},
	"never an answer to exec": {
		raw: func(c *rawserver.Conn) {
			if c.Login() == nil {
				c.Open(1 << 20)
			}
			c.Discard()
		}, says: []string{"3s"}, state: "failed", told: true},
	"evil refusal of a session": {
		raw: func(c *rawserver.Conn) {
			if c.Login() != nil {
				return
			}
			if _, err := c.Await(rawserver.MsgChannelOpen); err != nil {
				return
			}
			c.Send(struct {
				Channel, Reason uint32 `sshtype:"92"`
				Text, Language  string
			}{0, 1, "refused " + evil, ""})
			c.Discard()
		}, says: []string{"refused"}, state: "failed", told: true},
	// On the connection, while it captures.
	"keys without end": {
		raw: func(c *rawserver.Conn) {
			if c.Login() != nil {
				return
			}
			ch, err := c.Session(1 << 20)
			if err != nil {
				return
			}
			c.Extended(ch, 1, []byte(introduction(time.Now())))
			c.Data(ch, []byte(pcapHeader(262144, 1)))
			for c.Rekey() == nil {
			}
			idle(c)
		}, says: []string{"keys again and again"}, state: "lost", told: true},
	"requests without end": {
		raw: capturing(1<<20, func(c *rawserver.Conn, _ uint32) {
			flood(enough, func() (int, error) {
				return 8 << 10, c.Send(struct {
					Name  string `sshtype:"80"`
					Reply bool
					Rest  []byte `ssh:"rest"`
				}{"evil@" + evil, true, make([]byte, 8<<10)})
			})
		}), says: []string{"did not end in time"}, state: "cut"},
	"requests without end, and answers are not read": {
		raw: func(c *rawserver.Conn) {
			if c.Login() != nil {
				return
			}
			ch, err := c.Session(1 << 20)
			if err != nil {
				return
			}
			c.Extended(ch, 1, []byte(introduction(time.Now())))
			c.Data(ch, []byte(pcapHeader(262144, 1)))
			flood(enough, func() (int, error) {
				return 100, c.Send(struct {
					Name  string `sshtype:"80"`
					Reply bool
				}{"evil", true})
			})
		}, says: []string{"did not end in time"}, state: "cut"},
	"channels without end": {
		raw: capturing(1<<20, func(c *rawserver.Conn, _ uint32) {
			kinds, n := []string{"forwarded-tcpip", "x11", "auth-agent@openssh.com", "session", evil}, uint32(0)
			flood(enough>>2, func() (int, error) {
				n++
				return 1 << 10, c.Send(struct {
					Kind                    string `sshtype:"90"`
					Channel, Window, Packet uint32
					Rest                    []byte `ssh:"rest"`
				}{kinds[n%5], n, 1 << 31, 1 << 15, make([]byte, 1<<10)})
			})
		}), says: []string{"did not end in time"}, state: "cut"},
	"a packet of 2 GiB": {
		raw: capturing(1<<20, func(c *rawserver.Conn, _ uint32) {
			wrote(c.Conn, "\x7f\xff\xff\xff")
			flood(enough, func() (int, error) { return wrote(c.Conn, strings.Repeat("x", 64<<10)) })
		}), says: []string{"connection lost"}, state: "lost", told: true},
	"more than a message may hold": {
		raw:  capturing(1<<20, func(c *rawserver.Conn, ch uint32) { c.Data(ch, make([]byte, 200<<10)) }),
		says: []string{"connection lost", "exceeds maximum"}, state: "lost", told: true},
	"more than the window": {
		raw: capturing(1<<20, func(c *rawserver.Conn, ch uint32) {
			c.Send(struct {
				Channel, More uint32 `sshtype:"93"`
			}{ch, 1<<32 - 1})
		}), says: []string{"connection lost", "window"}, state: "lost", told: true},
	"data without regard to the window": {
		raw: capturing(1<<20, func(c *rawserver.Conn, ch uint32) {
			records := []byte(strings.Repeat(pcapRecord(time.Now(), strings.Repeat("b", 1000)), 31))
			flood(enough, func() (int, error) { return len(records), c.Data(ch, records) })
		}), says: []string{""}, state: "lost|cut"},
	"data of no kind": {
		raw: capturing(1<<20, func(c *rawserver.Conn, ch uint32) {
			flood(enough, func() (int, error) { return 32 << 10, c.Extended(ch, 7, make([]byte, 32<<10)) })
		}), says: []string{"did not end in time"}, state: "cut"},
	"pings without end": {
		raw: capturing(1<<20, func(c *rawserver.Conn, _ uint32) {
			flood(enough>>2, func() (int, error) {
				return 8 << 10, c.Send(struct {
					Data []byte `sshtype:"192"`
				}{make([]byte, 8<<10)})
			})
		}), says: []string{"did not end in time"}, state: "cut"},
	"evil farewell while it captures": {
		raw: capturing(1<<20, func(c *rawserver.Conn, _ uint32) {
			c.Send(struct {
				Reason         uint32 `sshtype:"1"`
				Text, Language string
			}{11, "farewell " + evil, ""})
		}), says: []string{"farewell"}, state: "lost", told: true},
	"coming and going": {
		handler: func(s *sshserver.Session) int {
			io.WriteString(s.Stderr, introduction(time.Now()))
			io.WriteString(s.Stdout, pcapHeader(262144, 1)+pcapRecord(time.Now(), "badbadbadbadbad")+evil)
			return sshserver.NoStatus
		}, says: []string{"bad"}, state: "lost", args: []string{"--follow"}},
	"a message for no channel": {
		raw:  capturing(1<<20, func(c *rawserver.Conn, ch uint32) { c.Data(ch+1000, []byte("x")) }),
		says: []string{"connection lost", "channel"}, state: "lost", told: true},
	"more behind the end": {
		raw: capturing(1<<20, func(c *rawserver.Conn, ch uint32) {
			for range 200 {
				if c.Data(ch+1000, make([]byte, 1000)) != nil {
					return
				}
			}
		}), says: []string{"connection lost"}, state: "lost", told: true},
	"more behind the end of the login": {
		raw: func(c *rawserver.Conn) {
			if c.Handshake() != nil || c.Service() != nil {
				return
			}
			flood(1<<20, func() (int, error) { return 1000, c.Data(0, make([]byte, 1000)) })
			idle(c)
		}, says: []string{"login refused"}, state: "failed", told: true},
	"no window, and no end": {
		raw:  capturing(0, func(*rawserver.Conn, uint32) {}),
		says: []string{"did not end in time"}, state: "cut"},
	"no window, and garbage": {
		raw:  capturing(0, func(c *rawserver.Conn, ch uint32) { c.Data(ch, bytes.Repeat([]byte{0xff}, 64)) }),
		says: []string{"broken pcap stream"}, state: "lost", told: true},
	"a byte at a time": {
		raw: capturing(1<<20, func(c *rawserver.Conn, ch uint32) {
			record, n := recordHeader(uint32(time.Now().Unix()), 0, 0, 0), 0
			flood(1<<20, func() (int, error) {
				n++
				return 1, c.Data(ch, []byte{record[n%16]})
			})
		}), says: []string{"did not end in time"}, state: "cut|lost"},
	// The helper's end.
	"statuses at odd times": {
		raw: inSession(1<<20, func(c *rawserver.Conn, ch uint32) {
			c.Exit(ch, 7)
			c.Extended(ch, 1, []byte(introduction(time.Now())))
			c.Exit(ch, 0)
			c.Data(ch, []byte(pcapHeader(262144, 1)+pcapRecord(time.Now(), "badbadbadbadbad")))
			c.Exit(ch, 1<<32-1)
			c.Request(ch, "exit-status", nil)
			c.Request(ch, "exit-signal", []byte{0xff})
			c.End(ch, rawserver.MsgChannelEOF)
			c.End(ch, rawserver.MsgChannelEOF)
			c.End(ch, rawserver.MsgChannelClose)
		}), says: []string{"exit status 7"}, state: "lost", told: true},
	"a status after the close": {
		raw: capturing(1<<20, func(c *rawserver.Conn, ch uint32) {
			c.End(ch, rawserver.MsgChannelEOF)
			c.End(ch, rawserver.MsgChannelClose)
			c.Exit(ch, 0)
			c.Data(ch, []byte("more"))
		}), says: []string{""}, state: "lost", told: true},
	"evil signal": {
		raw: capturing(1<<20, func(c *rawserver.Conn, ch uint32) {
			text := func(s string) []byte { return append(encoding.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }
			c.Request(ch, "exit-signal", bytes.Join([][]byte{text("SEGV" + evil), {0}, text("message " + evil), text("")}, nil))
			c.End(ch, rawserver.MsgChannelClose)
		}), says: []string{""}, state: "lost", told: true},
	"packets that go on after the stop": {
		handler: gives(1, func(w io.Writer) error {
			for range 20_000 {
				if _, err := wrote(w, strings.Repeat(pcapRecord(time.Now(), "badbadbadbadbad"), 10)); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
			}
			return nil
		}), says: []string{"did not end in time"}, state: "cut"},
	"stderr that goes on after the end": {
		raw: capturing(1<<20, func(c *rawserver.Conn, ch uint32) {
			c.Exit(ch, 3)
			flood(enough, func() (int, error) {
				time.Sleep(10 * time.Millisecond)
				return 1 << 10, c.Extended(ch, 1, bytes.Repeat([]byte("tcpdump: "+evil+"\n"), 30))
			})
		}), says: []string{""}, state: "lost|cut"},
	// What it says.
	"stderr without end": {
		handler: func(s *sshserver.Session) int {
			io.WriteString(s.Stderr, introduction(time.Now()))
			flood(enough, func() (int, error) { return wrote(s.Stderr, strings.Repeat("12 packets captured "+evil+"\n", 1000)) })
			return 1
		}, says: []string{""}, state: "failed"},
	"a line on stderr without end": {
		handler: func(s *sshserver.Session) int {
			flood(enough, func() (int, error) { return wrote(s.Stderr, strings.Repeat("packet", 10_000)) })
			return 1
		}, says: []string{""}, state: "failed"},
	"evil words": {
		handler: says(introduction(time.Now())+"tcpdump: eth0"+evil+": No such device exists"+evil+"\n", 1),
		says:    []string{"no such interface"}, state: "failed", told: true},
	"evil report": {
		handler: func(s *sshserver.Session) int {
			io.WriteString(s.Stderr, "@sshpcap clock 99999999999999\n@sshpcap uid "+evil+"\n@sshpcap host a "+evil+"\n@sshpcap connection "+evil+" 1 "+evil+" 22\n@sshpcap self tcp "+
				evil+"\n@sshpcap helper /usr/bin/"+evil+"; rm -rf ~\n@sshpcap start\n@sshpcap watched\n")
			io.WriteString(s.Stdout, pcapHeader(262144, 1)+pcapRecord(time.Now(), "badbadbadbadbad"))
			io.WriteString(s.Stderr, "listening on "+evil+"\n"+evil+": failed "+evil+"\n18446744073709551615 packets captured\n18446744073709551615 packets received by filter\n"+
				"18446744073709551615 packets dropped by kernel\n")
			return 9
		}, says: []string{"failed"}, state: "lost", told: true},
	"no stream but words": {
		handler: func(s *sshserver.Session) int { wrote(s.Stdout, "Welcome "+evil+" to this host\n"); return 0 },
		says:    []string{"Welcome"}, state: "failed", told: true},
	// Its packets.
	"all times at once": { // to 2038: capinfos cannot compare times more than 2^31 s apart
		handler: gives(1, func(w io.Writer) error {
			for i := range uint32(100_000) {
				if _, err := wrote(w, recordHeader((1<<31-1)*(i%2), 999_999*(i%3&1), 4, 1<<32-1)+"evil"); err != nil {
					return err
				}
			}
			return nil
		}), says: []string{"did not end in time"}, state: "cut"},
	"packets of tomorrow": {
		handler: gives(1, func(w io.Writer) error {
			at, data := time.Now().Add(24*time.Hour), strings.Repeat("b", 1000)
			flood(48<<20, func() (int, error) { at = at.Add(time.Second); return wrote(w, pcapRecord(at, data)) })
			return nil
		}), says: []string{"did not end in time"}, state: "cut"},
	"captured more than there was": {
		handler: gives(1, func(w io.Writer) error {
			_, err := wrote(w, strings.Repeat(recordHeader(uint32(time.Now().Unix()), 0, 15, 3)+"badbadbadbadbad", 20))
			return err
		}), says: []string{"did not end in time"}, state: "cut", format: "pcap"},
	"empty packets without end": {
		handler: gives(1, func(w io.Writer) error {
			flood(8<<20, func() (int, error) {
				return wrote(w, strings.Repeat(recordHeader(uint32(time.Now().Unix()), 0, 0, 0), 1000))
			})
			return nil
		}), says: []string{"did not end in time"}, state: "cut"},
	"a packet that Wireshark gives up at": {
		handler: gives(197, func(w io.Writer) error { _, err := wrote(w, pcapRecord(time.Now(), "short")); return err }),
		says:    []string{"gave 1 packet without the header"}, state: "cut"},
	"packets that are too long": {
		handler: gives(1, func(w io.Writer) error {
			flood(64<<20, func() (int, error) {
				return wrote(w, recordHeader(1, 0, 1<<24, 1<<24)+strings.Repeat("e", 1<<24))
			})
			return nil
		}), says: []string{"packets of more than 262144 bytes"}, state: "cut"},
	"times with a fraction of an hour": {
		handler: gives(1, func(w io.Writer) error {
			_, err := wrote(w, strings.Repeat(recordHeader(1<<31-1, 1<<32-1, 4, 4)+"evil", 1000))
			return err
		}), says: []string{"gave 1,000 packets with a fraction of a second or more"}, state: "cut"},
	"a giant packet": {
		handler: gives(1, func(w io.Writer) error { _, err := wrote(w, recordHeader(1, 0, 1<<32-1, 1<<32-1)); return err }),
		says:    []string{"more than"}, state: "lost", told: true},
}
