package rawserver

import (
	"encoding/binary"

	"golang.org/x/crypto/ssh"
)

// Service answers the client's wish to log in, and waits for its first try.
func (c *Conn) Service() error {
	if _, err := c.Await(MsgServiceRequest); err != nil {
		return err
	}
	if err := c.Send(struct {
		Name string `sshtype:"6"`
	}{"ssh-userauth"}); err != nil {
		return err
	}
	_, err := c.Await(MsgAuthRequest)
	return err
}

// Login lets the client in, whoever it is.
func (c *Conn) Login() error {
	if err := c.Handshake(); err != nil {
		return err
	}
	if err := c.Service(); err != nil {
		return err
	}
	return c.Write([]byte{MsgAuthSuccess})
}

// Session waits for the client to open a channel and to start a command in it. The window is what the client may send.
// It returns the channel's number on the client's side.
func (c *Conn) Session(window uint32) (uint32, error) {
	channel, err := c.Open(window)
	if err != nil {
		return 0, err
	}
	if _, err := c.Await(MsgChannelRequest); err != nil {
		return 0, err
	}
	return channel, c.Send(struct {
		Channel uint32 `sshtype:"99"`
	}{channel})
}

// Open waits for the client to open a channel, and lets it.
func (c *Conn) Open(window uint32) (uint32, error) {
	p, err := c.Await(MsgChannelOpen)
	if err != nil {
		return 0, err
	}
	var open struct {
		Kind           string `sshtype:"90"`
		Channel        uint32
		Window, Packet uint32
		Rest           []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(p, &open); err != nil {
		return 0, err
	}
	return open.Channel, c.Send(struct {
		Channel, Own   uint32 `sshtype:"91"`
		Window, Packet uint32
	}{open.Channel, 0, window, 32 << 10})
}

// Data sends bytes to the channel's standard output.
func (c *Conn) Data(channel uint32, data []byte) error {
	p := binary.BigEndian.AppendUint32([]byte{MsgChannelData}, channel)
	p = binary.BigEndian.AppendUint32(p, uint32(len(data)))
	return c.Write(append(p, data...))
}

// Extended sends bytes of another kind; 1 is standard error.
func (c *Conn) Extended(channel, kind uint32, data []byte) error {
	p := binary.BigEndian.AppendUint32([]byte{MsgChannelExtended}, channel)
	p = binary.BigEndian.AppendUint32(p, kind)
	p = binary.BigEndian.AppendUint32(p, uint32(len(data)))
	return c.Write(append(p, data...))
}

// Request sends a channel request that wants no answer.
func (c *Conn) Request(channel uint32, name string, payload []byte) error {
	return c.Send(struct {
		Channel uint32 `sshtype:"98"`
		Name    string
		Reply   bool
		Payload []byte `ssh:"rest"`
	}{channel, name, false, payload})
}

// Exit sends an exit status.
func (c *Conn) Exit(channel, status uint32) error {
	return c.Request(channel, "exit-status", binary.BigEndian.AppendUint32(nil, status))
}

// End sends the end of data, or the close, of a channel.
func (c *Conn) End(channel uint32, number byte) error {
	return c.Write(binary.BigEndian.AppendUint32([]byte{number}, channel))
}

// Discard reads until the connection fails.
func (c *Conn) Discard() {
	for {
		if _, err := c.Read(); err != nil {
			return
		}
	}
}
