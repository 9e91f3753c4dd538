package remote

import "strings"

// Rights are what a user may do who may not run sh with sudo.
type Rights struct {
	Helper bool // run the helper with sudo, which is not enough
	Doas   bool // run sh with doas
}

// RightsLine is a line as [Command.Line] is, of a command that captures nothing: it finds out what the user may do instead
// where sudo does not run sh, and ends. Its standard output is for [ReadRights]. The end of its standard input ends nothing:
// what it runs is over at once, and asks nothing.
func (c Command) RightsLine() string {
	text := strings.NewReplacer("<LOOK>", c.findHelper()).Replace(rightsText)
	return shellLine(c.shell(), joinScript(text), "", "", "", c.program())
}

// rightsText tries rather than to ask sudo what is allowed: it lists also what wants a password.
const rightsText = introText + findText + `
exec </dev/null
[ "$h" ] && [ "$(sudo -n sh -c "echo yes" 2>/dev/null)" != yes ] && sudo -n "$h" --version >/dev/null 2>&1 && echo helper
command -v doas >/dev/null 2>&1 && [ "$(doas -n sh -c "echo yes" 2>/dev/null)" = yes ] && echo doas
exit 0
`

// ReadRights reads what a [Command.RightsLine] wrote to its standard output, whatever it is.
func ReadRights(text string) (r Rights) {
	for _, word := range strings.Fields(text) {
		r.Helper = r.Helper || word == "helper"
		r.Doas = r.Doas || word == "doas"
	}
	return r
}

// MaxRights is how many bytes of that are read.
const MaxRights = 1 << 10

// OnlyHelper is a failure of sudo for a user who may run the helper alone with it.
func (f *Failure) OnlyHelper() *Failure {
	only := *f
	only.Problem = "sudo is allowed for " + f.helper + " there, but not for sh"
	return &only
}
