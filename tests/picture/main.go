// Command picture runs sshpcap's demo in a terminal of its own and draws what a user sees there: docs/terminal.svg. Every
// line in it comes from that run.
//
//	make picture
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/creack/pty"
)

// columns is how wide the terminal is; longer lines are cut, as `less -S` does.
const columns = 106

func main() {
	binary := flag.String("sshpcap", "bin/sshpcap", "the program to run")
	output := flag.String("o", "docs/terminal.svg", "where the picture goes")
	flag.Parse()
	if err := draw(*binary, *output); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

// step is one command of the picture: what is shown as typed, and what runs.
type step struct {
	typed string
	argv  []string
	lines int // of its output that are shown
}

func draw(binary, output string) error {
	dir, err := os.MkdirTemp("", "picture")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err = filepath.Abs(binary)
	if err != nil {
		return err
	}
	const fields = "-Y http -T fields -e frame.time_relative -e frame.interface_name -e _ws.col.Info"
	steps := []step{ // tshark warns root on its standard error
		{typed: "sshpcap demo -d 3s -o shop.pcapng", argv: []string{binary, "demo", "-d", "3s", "-o", "shop.pcapng"}, lines: 6},
		{typed: "tshark -r shop.pcapng " + fields, argv: []string{"sh", "-c", "tshark -r shop.pcapng " + fields + " 2>/dev/null"}, lines: 8},
	}
	var screen []string
	for _, s := range steps {
		text, err := s.run(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", s.typed, err)
		}
		screen = append(screen, "$ "+s.typed)
		screen = append(screen, s.shown(text)...)
		screen = append(screen, "")
	}
	return os.WriteFile(output, []byte(svg(screen[:len(screen)-1])), 0o644)
}

// run gives what the command leaves on a terminal.
func (s step) run(dir string) (string, error) {
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TERM=xterm")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: columns})
	if err != nil {
		return "", err
	}
	defer terminal.Close()
	text, err := io.ReadAll(terminal)
	if err != nil && !errors.Is(err, syscall.EIO) { // the end of a terminal
		return "", err
	}
	return string(text), cmd.Wait()
}

// shown are the lines of what was written to the terminal: a line that was drawn again counts as it was last.
func (s step) shown(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if at := strings.LastIndexByte(line, '\r'); at >= 0 {
			line = line[at+1:]
		}
		lines = append(lines, strings.TrimRight(expand(plain(line)), " "))
	}
	lines = trim(lines)
	return lines[:min(len(lines), s.lines)]
}

// trim takes empty lines from both ends.
func trim(lines []string) []string {
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// plain is a line without the terminal's control sequences (ECMA-48: ESC [ parameters final byte).
func plain(line string) string {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] != 0x1b {
			b.WriteByte(line[i])
			continue
		}
		for i++; i+1 < len(line) && (line[i] == '[' || line[i] < 0x40 || line[i] > 0x7e); i++ {
		}
	}
	return b.String()
}

// expand puts blanks in the place of tabs.
func expand(line string) string {
	var b strings.Builder
	n := 0
	for _, r := range line {
		if r != '\t' {
			b.WriteRune(r)
			n++
			continue
		}
		for ok := true; ok; ok = n%8 != 0 {
			b.WriteByte(' ')
			n++
		}
	}
	return b.String()
}

// Sizes of the picture, in pixels.
const (
	charWidth  = 9
	lineHeight = 19
	margin     = 16
)

func svg(lines []string) string {
	var b strings.Builder
	width, height := columns*charWidth+2*margin, len(lines)*lineHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`+"\n", width, height)
	fmt.Fprintf(&b, "<title>sshpcap captures on three instances, and tshark shows where each packet came from</title>\n")
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="#1d2330"/>`+"\n")
	fmt.Fprintf(&b, `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="#d7dce5" xml:space="preserve">`+"\n")
	for i, line := range lines {
		if runes := []rune(line); len(runes) > columns {
			line = string(runes[:columns-1]) + "…"
		}
		color := ""
		if strings.HasPrefix(line, "$ ") {
			color = ` fill="#8fd694" font-weight="bold"`
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d"%s>%s</text>`+"\n", margin, margin+(i+1)*lineHeight-5, color, escape.Replace(line))
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
