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
		defer d.ask(p.Text)()
		return ask(ctx, p)
	}
}

// ask reads one line. A ctx that ends leaves the terminal as it was.
func ask(ctx context.Context, p sshx.Prompt) (string, error) {
	tty, err := os.OpenFile(terminalDevice, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", err
	}
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
