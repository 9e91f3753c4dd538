//go:build linux

package plugin_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sshpcap/sshpcap/cf/plugin"
	"github.com/sshpcap/sshpcap/internal/cftest/fakecf"
)

// TestMain is the plugin too: cf installs and starts the test's own program.
func TestMain(m *testing.M) {
	if call, ok := plugin.Detect(os.Args); ok {
		os.Exit(asPlugin(call))
	}
	if len(os.Args) > 2 && os.Args[1] == "launch" {
		os.Exit(launch(os.Args[2:]))
	}
	status := m.Run()
	if folder != "" {
		os.RemoveAll(folder)
	}
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

var folder string // for what all tests share; cfProgram makes it

// cfProgram is the cf, and pluginHome where the plugin is installed for those tests that only use it.
var (
	cfProgram = sync.OnceValues(func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var err error
		if folder, err = os.MkdirTemp("", "plugin"); err != nil {
			return "", err
		}
		return fakecf.Build(ctx, folder)
	})
	pluginHome = sync.OnceValues(func() (string, error) {
		cf, err := cfProgram()
		if err != nil {
			return "", err
		}
		home := filepath.Join(folder, "home")
		cmd := exec.Command(cf, "install-plugin", "-f", os.Args[0])
		cmd.Env = environment(home, home)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return home, nil
	})
)

// environment is that of a cf. Under the race detector a program would wait a second before it ends.
func environment(home, plugins string) []string {
	return append(os.Environ(), "CF_HOME="+home, "HOME="+home, "CF_PLUGIN_HOME="+plugins, "GORACE=atexit_sleep_ms=0",
		"PATH="+folder+":"+os.Getenv("PATH"), "ENV=", "TERM=dumb", "LC_ALL=C")
}

// login gives a new home in which cf is logged in.
func login(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	config := `{"ConfigVersion":4,"Target":"https://api.example.org","AccessToken":"bearer abc","RefreshToken":"r",` +
		`"OrganizationFields":{"GUID":"org-guid","Name":"acme"},"SpaceFields":{"GUID":"space-guid","Name":"dev"},"SSLDisabled":true}`
	if err := os.Mkdir(filepath.Join(home, ".cf"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".cf", "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return home
}

// asPlugin is the plugin of the tests: it captures until it is told to stop, takes its time to save, and leaves files in
// a folder that say how far it came.
func asPlugin(call plugin.Call) int {
	switch call.Command {
	case plugin.CommandUninstall:
		return 0
	case plugin.CommandMetadata:
		if err := plugin.SendMetadata(context.Background(), call.Port, about); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	var c capturing
	flags := flag.NewFlagSet("pcap", flag.ContinueOnError)
	flags.StringVar(&c.dir, "dir", "", "")
	flags.StringVar(&c.output, "o", "", "")
	flags.DurationVar(&c.save, "save", 100*time.Millisecond, "")
	flags.IntVar(&c.exit, "exit", 0, "")
	flags.BoolVar(&c.panics, "panic", false, "")
	flags.BoolVar(&c.ask, "ask", false, "")
	if err := flags.Parse(call.Args); err != nil {
		return 2
	}
	conn, err := plugin.Dial(context.Background(), call.Port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	if c.ask {
		return answers(conn)
	}
	return c.run(conn)
}

// answers prints all that cf says.
func answers(conn *plugin.Conn) int {
	ctx := context.Background()
	token, err1 := conn.AccessToken(ctx)
	api, err2 := conn.APIEndpoint(ctx)
	space, err3 := conn.CurrentSpace(ctx)
	org, err4 := conn.CurrentOrg(ctx)
	disabled, err5 := conn.IsSSLDisabled(ctx)
	loggedIn, err6 := conn.IsLoggedIn(ctx)
	hasOrg, err7 := conn.HasOrganization(ctx)
	hasSpace, err8 := conn.HasSpace(ctx)
	fmt.Println(token, api, space, org, disabled, loggedIn, hasOrg, hasSpace, err1, err2, err3, err4, err5, err6, err7, err8)
	return 0
}

type capturing struct {
	dir, output string
	save        time.Duration
	exit        int
	panics, ask bool
}

func (c capturing) run(conn *plugin.Conn) int {
	background := signal.Ignored(syscall.SIGINT)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	restore, err := func() {}, error(nil)
	if !background {
		restore, err = plugin.Foreground(signal.Ignore)
	}
	defer func() {
		restore()
		restore()
		c.note("after", fmt.Sprintln(syscall.Getpgrp()))
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c.note("pids", fmt.Sprintln(os.Getpid(), os.Getppid(), syscall.Getpgrp()))
	fmt.Fprintln(os.Stderr, "capturing")
	left := 2 // signals until it gives up; that cf is gone is none, and may come before or after the first
	select {
	case <-signals:
		left--
	case <-conn.Gone():
	case <-time.After(time.Minute): // nothing of a failed test lives on
		return 1
	}
	fmt.Fprintln(os.Stderr, "saving")
	if c.panics {
		var gone sync.WaitGroup
		gone.Go(func() { panic("on purpose") })
		gone.Wait()
	}
	for done := time.After(c.save); done != nil; {
		select {
		case <-done:
			done = nil
		case <-signals:
			if left--; left == 0 {
				fmt.Fprintln(os.Stderr, "cut")
				return 130
			}
		}
	}
	if c.output == "-" {
		fmt.Println("packets")
	}
	fmt.Fprintln(os.Stderr, "saved")
	c.note("saved", "")
	return c.exit
}

// launch runs a program in the foreground and, other than a shell, never takes the terminal back. It waits until somebody
// gives it.
func launch(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	err := cmd.Run()
	fmt.Println("ended:", err)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil && group == syscall.Getpgrp() {
			fmt.Println("given back")
			return 0
		}
	}
	return 1
}

func (c capturing) note(name, text string) {
	temp := filepath.Join(c.dir, "."+name)
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(temp, filepath.Join(c.dir, name)); err != nil {
		panic(err)
	}
}

// cf runs a command of cf without a terminal.
func cf(t *testing.T, home, plugins string, stdin string, args ...string) (out string, status int) {
	t.Helper()
	program, err := cfProgram()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stdin = environment(home, plugins), strings.NewReader(stdin)
	all, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(all), cmd.ProcessState.ExitCode()
}
