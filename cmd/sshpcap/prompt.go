package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/sshpcap/sshpcap/sshx"
)

// prompter asks on the terminal, also when standard input and output are pipes. It is nil without a terminal.
func prompter(d *display) func(context.Context, sshx.Prompt) (string, error) {
	tty, err := os.OpenFile(terminalDevice, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	tty.Close()
	return func(ctx context.Context, p sshx.Prompt) (string, error) {
		defer ignoreStop()()
		return ask(ctx, p, func() (answered func()) { return d.ask(p.Text) })
	}
}

// ask shows a question and reads one line. The terminal does not echo a secret from before the question is there: an answer
// may come as soon as it can be seen. A ctx that ends leaves the terminal as it was.
func ask(ctx context.Context, p sshx.Prompt, show func() (answered func())) (string, error) {
	tty, err := os.OpenFile(terminalDevice, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", err
	}
	if !p.Echo {
		defer term.Restore(int(tty.Fd()), before)
		if err := silence(int(tty.Fd())); err != nil {
			return "", err
		}
	}
	defer show()()
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1) // one answer; a read that nobody waits for any more ends with the process
	go func() {
		text, err := readLine(tty, p.Echo)
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		if !p.Echo {
			fmt.Fprintln(tty)
		}
		return a.text, a.err
	case <-ctx.Done():
		fmt.Fprintln(tty)
		return "", errors.Join(context.Cause(ctx), term.Restore(int(tty.Fd()), before))
	}
}

func readLine(tty *os.File, echo bool) (string, error) {
	if !echo {
		text, err := term.ReadPassword(int(tty.Fd()))
		return string(text), err
	}
	text, err := bufio.NewReader(tty).ReadString('\n')
	return strings.TrimRight(text, "\r\n"), err
}
