package sshx_test

import (
	"io"
	"testing"

	"github.com/sshpcap/sshpcap/sshx"
)

// BenchmarkStdout reads 512 MiB from a command of the machine's sshd.
func BenchmarkStdout(b *testing.B) {
	s := newSSHD(b)
	c, err := s.client(b).Dial(b.Context(), s.addr())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const size = 512 << 20
	b.SetBytes(size)
	buf := make([]byte, 256<<10)
	for b.Loop() {
		p, err := c.Start(b.Context(), "head -c 536870912 /dev/zero")
		if err != nil {
			b.Fatal(err)
		}
		if n := readAll(b, p, buf); n != size {
			b.Fatalf("%d bytes", n)
		}
		if err := p.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

func readAll(b *testing.B, p *sshx.Process, buf []byte) (sum int) {
	for {
		n, err := p.Stdout.Read(buf)
		sum += n
		if err == io.EOF {
			return sum
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
