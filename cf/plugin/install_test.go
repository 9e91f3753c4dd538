//go:build linux

package plugin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sshpcap/sshpcap/cf/plugin"
)

// step is a command of cf, and what it must say.
type step struct {
	args   string
	stdin  string
	status int
	says   string
}

func (s step) run(t *testing.T, home, plugins string) {
	t.Helper()
	out, status := cf(t, home, plugins, s.stdin, strings.Fields(s.args)...)
	if status != s.status || !regexp.MustCompile(s.says).MatchString(out) {
		t.Errorf("cf %s: status %d, not %d, or not %q:\n%s", s.args, status, s.status, s.says, out)
	}
}

// TestInstall: the whole life of an installed plugin.
func TestInstall(t *testing.T) {
	t.Parallel()
	home, plugins := login(t), t.TempDir()
	program := os.Args[0]
	installed := filepath.Join(plugins, ".cf", "plugins", "sshpcap")
	help := `(?s)^NAME:\n   pcap - Capture the packets of an app\n\nUSAGE:\n   cf pcap APP \[-i N\]\n\nEXAMPLES:\n   cf pcap shop\n` +
		`\nOPTIONS:\n   -i +the instance\n   --output, -o +the file\n   --overwrite +…\n$`
	for _, s := range []step{
		{"pcap shop", "", 1, `'pcap' is not a registered command`},
		{"install-plugin " + program, "n\n", 0, `Plugin installation cancelled\.\n$`},
		{"plugins", "", 0, `command help\n\n`},
		{"install-plugin " + program, "y\n", 0, `(?s)yN.*Plugin sshpcap 1\.2\.3 successfully installed\.\n$`},
		{"plugins", "", 0, `sshpcap +1\.2\.3 +pcap +Capture the packets`},
		{"help pcap", "", 0, help},
		{"pcap -h", "", 0, help},
		{"pcap shop --help", "", 0, help},
		{"pcap -ask", "", 0, `^` + regexp.QuoteMeta(fmt.Sprint("bearer abc https://api.example.org ",
			plugin.Ref{GUID: "space-guid", Name: "dev"}, plugin.Ref{GUID: "org-guid", Name: "acme"}, " true true true true")) + `( <nil>){8}\n$`},
		{"pcap -v -ask", "", 0, `(?s)^\nREQUEST: .*\nbearer abc`}, // cf's own trace comes first
		{"install-plugin " + program, "y\n", 1, `TIP: Use 'cf install-plugin -f' to force a reinstall`},
		{"install-plugin " + program + " -f", "", 0, `(?s)^Plugin sshpcap 1\.2\.3 is already installed\. Uninstalling.*successfully uninstalled.*successfully installed\.\n$`},
		{"pcap -ask", "", 0, `^bearer abc`},
		{"uninstall-plugin SSHPCAP", "", 0, `^Uninstalling plugin sshpcap\.\.\.\nOK\n\nPlugin sshpcap 1\.2\.3 successfully uninstalled\.\n$`},
		{"uninstall-plugin sshpcap", "", 1, `Plugin sshpcap does not exist`},
		{"pcap -ask", "", 1, `not a registered command`},
	} {
		s.run(t, home, plugins)
	}
	if _, err := os.Stat(installed); err == nil {
		t.Errorf("%s is still there", installed)
	}
	left, err := os.ReadDir(filepath.Dir(installed))
	if err != nil || len(left) != 1 || left[0].Name() != "config.json" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestLoggedOut: the answers of a cf that knows nothing.
func TestLoggedOut(t *testing.T) {
	t.Parallel()
	plugins, err := pluginHome()
	if err != nil {
		t.Fatal(err)
	}
	step{"pcap -ask", "", 0, `^  \{ \} \{ \} false false false false cf has no access token( <nil>){7}\n$`}.run(t, t.TempDir(), plugins)
}
