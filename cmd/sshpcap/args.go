package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange moves a command's flags before its arguments, where the cli library wants them, so that users may write them
// in any order. What comes after "--" stays an argument.
func arrange(app *cli.App, args []string) []string {
	at := slices.IndexFunc(args[1:], func(arg string) bool { return app.Command(arg) != nil })
	if at < 0 {
		return args
	}
	at++ // args[at] is the command
	known := app.Command(args[at]).Flags
	flags, words := split(known, args[at+1:])
	for i, flag := range flags {
		switch {
		case flag == "--help" || flag == "-h":
			return append(args[:at+1:at+1], flag) // whatever stands beside it
		case i == len(flags)-1 && takesValue(known, flag) && (i == 0 || !takesValue(known, flags[i-1])):
			words = nil // so that the value is missed, and not found in one of them
		}
	}
	out := slices.Concat(args[:at+1], flags)
	if len(words) > 0 {
		out = append(append(out, "--"), words...)
	}
	return out
}

// split separates flags, each with its value, from arguments.
func split(known []cli.Flag, args []string) (flags, words []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return flags, append(words, args[i+1:]...)
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			words = append(words, arg)
		case takesValue(known, arg) && i+1 < len(args):
			flags = append(flags, arg, args[i+1])
			i++
		default:
			flags = append(flags, arg)
		}
	}
	return flags, words
}

// takesValue reports whether the value of a flag is the next argument.
func takesValue(known []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	for _, f := range known {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
