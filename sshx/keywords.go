package sshx

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// treatment is what becomes of a keyword of ssh_config.
type treatment int

const (
	used     treatment = iota // it means what ssh_config(5) says, or what the note in docs/ssh_config.md says
	hinted                    // not supported; named when a login or a host key fails that may depend on it
	refused                   // not supported; a target that has it cannot be captured on
	noted                     // not supported; named once in the life of a Dialer if it is set to something else than off
	harmless                  // about what is not done here: forwarding, terminals, logs
)

// keyword is one keyword of ssh_config.
type keyword struct {
	treatment treatment
	means     string   // of noted ones: what it means here, behind the keyword and its value
	off       []string // of noted ones: values that need no note, in lower case
}

// keywords are those of ssh_config(5), by their names in lower case; docs/ssh_config.md has a row for each. Those that
// OpenSSH no longer knows itself are left out.
var keywords = map[string]keyword{
	"host": {}, "match": {}, "include": {}, "ignoreunknown": {}, "tag": {},
	"hostname": {}, "port": {}, "user": {}, "addressfamily": {}, "bindaddress": {}, "bindinterface": {}, "connecttimeout": {},
	"connectionattempts": {}, "serveraliveinterval": {}, "serveralivecountmax": {}, "tcpkeepalive": {}, "proxyjump": {}, "refuseconnection": {},

	"userknownhostsfile": {}, "globalknownhostsfile": {}, "stricthostkeychecking": {}, "hashknownhosts": {}, "hostkeyalias": {},
	"hostkeyalgorithms": {}, "casignaturealgorithms": {}, "requiredrsasize": {}, "revokedhostkeys": {},

	"identityfile": {}, "certificatefile": {}, "identitiesonly": {}, "identityagent": {}, "batchmode": {}, "numberofpasswordprompts": {},
	"preferredauthentications": {}, "pubkeyauthentication": {}, "passwordauthentication": {}, "kbdinteractiveauthentication": {},
	"pubkeyacceptedalgorithms": {},

	"ciphers": {}, "macs": {}, "kexalgorithms": {}, "rekeylimit": {},

	"proxycommand": {treatment: refused}, "proxyusefdpass": {treatment: harmless},
	"knownhostscommand": {treatment: hinted}, "pkcs11provider": {treatment: hinted}, "securitykeyprovider": {treatment: hinted},
	"gssapiauthentication": {treatment: hinted}, "hostbasedauthentication": {treatment: hinted}, "controlpath": {treatment: hinted},

	"checkhostip":                      {noted, "host keys are looked up by the host's name only", []string{"no", "false"}},
	"verifyhostkeydns":                 {noted, "host keys are looked up in known_hosts only", []string{"no", "false"}},
	"nohostauthenticationforlocalhost": {noted, "host keys of this machine are checked like any other", []string{"no", "false"}},
	"canonicalizehostname":             {noted, "names are used as they are; what names mean is left to the resolver", []string{"no", "false"}},
	"compression":                      {noted, "nothing is compressed", []string{"no", "false"}},
	"ipqos":                            {noted, "packets have the system's class of service", []string{"none"}},
	"setenv":                           {noted, "no variables are sent", nil},
	"gssapikeyexchange":                {noted, "keys are exchanged without GSSAPI, so that the host key counts", []string{"no", "false"}},
	"kbdinteractivedevices":            {noted, "the server chooses", nil},
	"versionaddendum":                  {noted, "it is not sent", []string{"none"}},
}

func init() {
	for _, name := range strings.Fields(harmlessKeywords) {
		keywords[name] = keyword{treatment: harmless}
	}
}

const harmlessKeywords = `addkeystoagent canonicaldomains canonicalizefallbacklocal canonicalizemaxdots canonicalizepermittedcnames channeltimeout
	clearallforwardings controlmaster controlpersist dynamicforward enableescapecommandline enablesshkeysign escapechar exitonforwardfailure
	fingerprinthash forkafterauthentication forwardagent forwardx11 forwardx11timeout forwardx11trusted gatewayports gssapiclientidentity
	gssapidelegatecredentials gssapikexalgorithms gssapirenewalforcesrekey gssapiserveridentity gssapitrustdns hostbasedacceptedalgorithms
	localcommand localforward loglevel logverbose obscurekeystroketiming permitlocalcommand permitremoteopen remotecommand remoteforward
	requesttty sendenv sessiontype stdinnull streamlocalbindmask streamlocalbindunlink syslogfacility tunnel tunneldevice updatehostkeys
	usekeychain visualhostkey warnweakcrypto xauthlocation`

// aliases are old and other names of keywords, as OpenSSH's readconf.c has them.
var aliases = map[string]string{
	"challengeresponseauthentication": "kbdinteractiveauthentication",
	"skeyauthentication":              "kbdinteractiveauthentication",
	"tisauthentication":               "kbdinteractiveauthentication",
	"dsaauthentication":               "pubkeyauthentication",
	"pubkeyacceptedkeytypes":          "pubkeyacceptedalgorithms",
	"hostbasedkeytypes":               "hostbasedacceptedalgorithms",
	"identityfile2":                   "identityfile",
	"smartcarddevice":                 "pkcs11provider",
	"keepalive":                       "tcpkeepalive",
	"protocolkeepalives":              "serveraliveinterval", // Debian's
	"setuptimeout":                    "serveraliveinterval", // Debian's
}

// deprecated are keywords that ssh takes and does nothing about.
const deprecated = `afstokenpassing cipher compressionlevel fallbacktorsh globalknownhostsfile2 kerberosauthentication kerberostgtpassing protocol
	rhostsauthentication rhostsrsaauthentication rsaauthentication useblacklistedkeys useprivilegedport userknownhostsfile2 useroaming usersh`

// canonicalKeyword gives the name under which a keyword is looked up.
func canonicalKeyword(name string) string {
	name = strings.ToLower(name)
	if other, ok := aliases[name]; ok {
		return other
	}
	return name
}

// notes tells what is set for h and not supported, each keyword once in the life of the Dialer.
func (d *Dialer) notes(h *host) {
	ignored := h.ignored()
	inOrder := slices.SortedFunc(maps.Keys(h.found), func(a, b string) int { return h.found[a][0].order - h.found[b][0].order })
	for _, name := range inOrder {
		lines := h.found[name]
		k, known := keywords[name]
		first := lines[0]
		switch {
		case !known && !isDeprecated(name) && !matchList(name, ignored):
			d.warnOnce("keyword "+name, fmt.Sprintf("%s:%d: %s is not a keyword that is known, and is left out", first.file, first.line, oneLine(first.written)))
		case known && k.treatment == noted && !k.isOff(first):
			d.warnOnce("keyword "+name, fmt.Sprintf("%s:%d: %s is not supported: %s", first.file, first.line, oneLine(first.written), k.means))
		}
	}
}

func isDeprecated(name string) bool {
	return slices.Contains(strings.Fields(deprecated), name)
}

func (k keyword) isOff(s setting) bool {
	words, err := splitWords(s.value)
	if err != nil || len(words) == 0 {
		return true // nothing is set
	}
	for _, off := range k.off {
		if strings.EqualFold(words[0], off) {
			return true
		}
	}
	return false
}

// ignored are the patterns of IgnoreUnknown.
func (h *host) ignored() (patterns []string) {
	_, words, err := h.first("ignoreunknown")
	if err != nil {
		return nil
	}
	for _, w := range words {
		patterns = append(patterns, strings.Split(strings.ToLower(w), ",")...)
	}
	return patterns
}
