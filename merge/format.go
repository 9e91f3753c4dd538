package merge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// magics are the first bytes of files that users take for captures, and what to call them.
var magics = []struct{ magic, name string }{
	{"\x0a\x0d\x0d\x0a", "pcapng"},
	{"snoop\x00\x00\x00", "a snoop file"},
	{"GMBU", "a capture of Microsoft Network Monitor"},
	{"RTSS", "a capture of Microsoft Network Monitor"},
	{"TRSNIFF data", "a capture of Sniffer"},
	{"XCP\x00", "a capture of NetXRay"},
	{"\x54\x00\x4d\x56\x45\x43", "a capture of iSpy"},
	{"iptrace 1.0", "an iptrace file"},
	{"iptrace 2.0", "an iptrace file"},
	{"btsnoop\x00", "a btsnoop file"},
	{"\x7fVeriWave", "a capture of VeriWave"},
	{"\x1c\x00\x01\xac", "a capture of Ixia"},
	{"\xac\x01\x00\x1c", "a capture of Ixia"},
	{"\x1c\x00\x01\xab", "a capture of Ixia"},
	{"\xab\x01\x00\x1c", "a capture of Ixia"},
	{"\xd4\xc3\xb2\xa1", "pcap"},
	{"\xa1\xb2\xc3\xd4", "pcap"},
	{"\x4d\x3c\xb2\xa1", "pcap"},
	{"\xa1\xb2\x3c\x4d", "pcap"},
	{"BZh", "compressed with bzip2"},
	{"\xfd7zXZ\x00", "compressed with xz"},
	{"\x04\x22\x4d\x18", "compressed with lz4"},
	{"\x02\x21\x4c\x18", "compressed with lz4"},
	{"\x1f\x9d", "compressed with compress"},
	{"LZIP", "compressed with lzip"},
	{"\x1f\x8b", "compressed with gzip"},
	{"\x28\xb5\x2f\xfd", "compressed with zstd"},
	{"PK\x03\x04", "a zip archive"},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive"},
	{"\x7fELF", "an ELF program"},
	{"SQLite format 3\x00", "an SQLite database"},
	{"%PDF-", "a PDF document"},
}

// Identify returns what a file or stream is that begins with head, in words that stand behind "it is"; "" = it is not
// known. It knows what is often given in the place of a capture.
func Identify(head []byte) string {
	if what := identifyBinary(head); what != "" {
		return what
	}
	if words := firstWords(head); words != "" {
		return fmt.Sprintf("text: %q", words)
	}
	return ""
}

func identifyBinary(head []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) && (m.magic != "BZh" || isBzip2(head)) {
			return m.name
		}
	}
	switch {
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return "a tar archive"
	case isERF(head):
		return "an ERF file, as it seems"
	case isNothing(head):
		return "nothing but zeros"
	}
	return ""
}

// isBzip2 tells it from a word: behind its magic stand a digit and the first digits of pi.
func isBzip2(head []byte) bool {
	return len(head) >= 10 && head[3] >= '1' && head[3] <= '9' && string(head[4:10]) == "\x31\x41\x59\x26\x53\x59"
}

func isNothing(head []byte) bool { return len(head) >= 16 && len(bytes.Trim(head, "\x00")) == 0 }

// isERF guesses: ERF has no magic. Its records begin with a time of 64 bits, whose upper half are seconds, a type, flags,
// the record's length, a counter and the packet's length. Two of them must make sense, one behind the other.
func isERF(head []byte) bool {
	const (
		fixed     = 16
		firstYear = 631152000 // 1990
		types     = 48
		apart     = 86400
	)
	last := uint32(0)
	for range 2 {
		if len(head) < fixed {
			return false
		}
		sec, kind := le.Uint32(head[4:]), head[8]&0x7f
		size, wire := int(binary.BigEndian.Uint16(head[10:])), int(binary.BigEndian.Uint16(head[14:]))
		if sec < firstYear || kind == 0 || kind > types || size < fixed || wire == 0 || last != 0 && (sec < last || sec-last > apart) {
			return false
		}
		last, head = sec, head[min(size, len(head)):]
	}
	return true
}

// firstWords returns the beginning of a text, of its first line that has anything; "" = it is no text. What a terminal
// would act on is not in it.
func firstWords(head []byte) string {
	const most, least = 60, 2
	for len(head) > 0 && !utf8.FullRune(lastRune(head)) {
		head = head[:len(head)-1] // the rest of a character that is cut off
	}
	text := string(head)
	bad := func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsPrint(r) && !unicode.IsSpace(r) && r != 0x1b
	}
	if strings.ContainsFunc(text, bad) {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	line = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.TrimSpace(line))
	if len(line) < least {
		return ""
	}
	if cutLine := cut(line, most); cutLine != line {
		return cutLine + "…"
	}
	return line
}

// lastRune is the end of p from where its last character begins.
func lastRune(p []byte) []byte {
	for i := len(p) - 1; i >= 0 && i >= len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			return p[i:]
		}
	}
	return nil // no start: not UTF-8, which is seen later
}
