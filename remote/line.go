package remote

import (
	"fmt"
	"strings"
)

// A script reaches its sh through a login shell, which may be anything, and each kind has a way of its own to quote: a
// backslash outside of quotes is nothing special to rc and elvish, one inside is to fish and xonsh, csh looks for a "!"
// everywhere, and xonsh for a "$". So the line for the login shell holds none of these, but for what is the same each
// time: single quotes around words that have no quote in them mean the same to every shell there is.
//
// The script and its words are one of these words, in which every other byte than those of plain is written as "^0" and
// three octal digits, and "$", which is frequent, as ",". decodeText turns them back, with what every sh can do by itself.

// plain are the bytes that every shell leaves alone in single quotes.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \"#%&()*+-./:;<=>?@[]_`{|}"

// decodeText runs the script that is its second parameter. The first is a backslash, or two where the login shell leaves
// both: only the first byte of $IFS counts for "$*". The third is the script's length. It is run only if it has that
// length, and begins and ends as it should: a script that was changed on its way, or cut, does not run at all. The
// variable is one that the environment has not got, for a login shell that puts in what it has; "$1" is no name there.
const decodeText = `set -f; ` +
	`[ ${#2} = $3 ] && { IFS=,; sshpcap=$1; set -- $2; IFS="$"; set -- "$*"; IFS=^; set -- $1; IFS=$sshpcap; sshpcap=$(printf %b "$*"); unset IFS; }; ` +
	`case $sshpcap in "` + scriptBegin + `"*"` + scriptEnd + `") set +f; eval "$sshpcap" ;; *) echo ` + marker + `changed >&2; exit 125 ;; esac`

// How every script begins and ends, for decodeText. The beginning holds what has to be turned back, in both ways.
const (
	scriptBegin = ": sshpcap, $ begin; "
	scriptEnd   = "; : sshpcap end"
)

// shellLine is a line that means the same to every login shell: the shell sh runs the script, with the words as its
// parameters.
func shellLine(sh, script string, words ...string) string {
	return encodedLine(sh, encode("set --"+quoted(words)+"; "+script))
}

// encodedLine is shellLine for a script that is encoded already.
func encodedLine(sh, script string) string {
	script = encodedBegin + script + encodedEnd
	return fmt.Sprintf(`exec %s -c '%s' sshpcap '\\' '%s' %d`, sh, decodeText, script, len(script))
}

var encodedBegin, encodedEnd = encode(scriptBegin), encode(scriptEnd)

// quoted is a list of words as a shell reads them, each behind a space.
func quoted(words []string) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteByte(' ')
		b.WriteString(Quote(w))
	}
	return b.String()
}

// encode writes text in bytes that no shell reads in a way of its own. What is encoded in parts is the same as what is
// encoded as a whole.
func encode(text string) string {
	var b strings.Builder
	b.Grow(len(text) + len(text)/8)
	for _, c := range []byte(text) {
		switch {
		case c == '$':
			b.WriteByte(',')
		case isPlain[c]:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "^0%03o", c)
		}
	}
	return b.String()
}

var isPlain = func() (is [256]bool) {
	for _, c := range []byte(plain) {
		is[c] = true
	}
	return is
}()
