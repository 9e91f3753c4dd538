package farm

import (
	"encoding/binary"
	"fmt"
	"os"
)

// CountPackets counts the packets in a pcapng file, of which every block must be whole.
func CountPackets(path string) (n int, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for at := 0; at < len(raw); {
		if at+12 > len(raw) {
			return n, fmt.Errorf("%s: %d bytes are left over", path, len(raw)-at)
		}
		kind, size := binary.LittleEndian.Uint32(raw[at:]), int(binary.LittleEndian.Uint32(raw[at+4:]))
		if size < 12 || size%4 != 0 || at+size > len(raw) || int(binary.LittleEndian.Uint32(raw[at+size-4:])) != size {
			return n, fmt.Errorf("%s: no whole block at byte %d", path, at)
		}
		if kind == 6 { // enhanced packet block
			n++
		}
		at += size
	}
	return n, nil
}
