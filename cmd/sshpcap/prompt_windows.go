package main

import "golang.org/x/sys/windows"

const terminalDevice = "CONIN$"

// ignoreStop does nothing: there is no ^Z here.
func ignoreStop() (heed func()) { return func() {} }

// silence has a console show nothing of what is typed.
func silence(fd int) error {
	var mode uint32
	if err := windows.GetConsoleMode(windows.Handle(fd), &mode); err != nil {
		return err
	}
	return windows.SetConsoleMode(windows.Handle(fd), mode&^windows.ENABLE_ECHO_INPUT)
}
