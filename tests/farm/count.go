package farm

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// CountPackets counts the packets in a pcapng file, of which every block must be whole.
func CountPackets(path string) (n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for at := 0; ; {
		head, err := r.Peek(8)
		if err == io.EOF && len(head) == 0 {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("%s: %d bytes are left over", path, len(head))
		}
		kind, size := binary.LittleEndian.Uint32(head), int(binary.LittleEndian.Uint32(head[4:]))
		block, err := r.Peek(min(size, r.Size()))
		if size < 12 || size%4 != 0 || err != nil || len(block) != size || int(binary.LittleEndian.Uint32(block[size-4:])) != size {
			return n, fmt.Errorf("%s: no whole block at byte %d", path, at)
		}
		if kind == 6 { // enhanced packet block
			n++
		}
		at += size
		if _, err := r.Discard(size); err != nil {
			return n, err
		}
	}
}
