package cf_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sshpcap/sshpcap/cf"
	"github.com/sshpcap/sshpcap/internal/cftest/api"
)

func TestConfigPath(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	t.Setenv("CF_HOME", "")
	if got, err := cf.ConfigPath(); got != filepath.FromSlash("/home/ann/.cf/config.json") || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	t.Setenv("CF_HOME", "/cf")
	if got, err := cf.ConfigPath(); got != filepath.FromSlash("/cf/.cf/config.json") || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	t.Setenv("CF_HOME", "")
	t.Setenv("HOME", "")
	_, err := cf.ConfigPath()
	checkError(t, err, cf.KindConfig, "CF_HOME")
}

func TestUserHomeOnWindows(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"HOMEDRIVE": `C:`, "HOMEPATH": `\Users\ann`, "USERPROFILE": `D:\ann`, "HOME": "no"}
	env := func(name string) string { return vars[name] }
	if got := cf.UserHome("windows", env); got != `C:\Users\ann` {
		t.Error(got)
	}
	delete(vars, "HOMEDRIVE")
	delete(vars, "HOMEPATH")
	if got := cf.UserHome("windows", env); got != `D:\ann` {
		t.Error(got)
	}
}

func TestReadConfigErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.json")
	_, err := cf.ReadConfig(path)
	checkError(t, err, cf.KindNoAPI, "No API endpoint set. Use 'cf login' or 'cf api' to target an endpoint.", path, "CF_HOME")
	for text, words := range map[string][]string{
		``:                                  {"is damaged", "cf login"},
		`{"AccessToken":"bearer secret-`:    {"is damaged"},
		`{"AccessToken":{"secret":1}}`:      {"is damaged"},
		`[]`:                                {"is damaged"},
		`{"ConfigVersion":2}`:               {"of version 2", "v7"},
		`{}`:                                {"of version 0"},
		`{"ConfigVersion":5}`:               {"of version 5"},
		`{"CFOnK8s":{"Enabled":true}}`:      {"Kubernetes", "no SSH"},
		`{"ConfigVersion":"secret-secret"}`: {"is damaged"},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := cf.ReadConfig(path)
		checkError(t, err, cf.KindConfig, words...)
		if strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	}
	for _, version := range []int{3, 4} {
		if err := os.WriteFile(path, fmt.Appendf(nil, `{"ConfigVersion":%d,"Target":"https://x","Unknown":[1]}`, version), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := cf.ReadConfig(path); err != nil || c.Target != "https://x" {
			t.Errorf("%v, %v", c, err)
		}
	}
}

func TestNewClientErrors(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	for _, test := range []struct {
		change func(*api.Config)
		kind   cf.Kind
		words  []string
	}{
		{func(c *api.Config) { c.Target = "" }, cf.KindNoAPI, []string{"No API endpoint set. Use 'cf login' or 'cf api' to target an endpoint.", b.config}},
		{func(c *api.Config) { c.Target = "nonsense" }, cf.KindNoAPI, []string{"not a URL"}},
		{func(c *api.Config) { c.Target = "https://ann:topsecret@%zz" }, cf.KindNoAPI, []string{"not a URL"}},
		{func(c *api.Config) { c.AccessToken, c.RefreshToken = "", "" }, cf.KindNotLoggedIn, []string{"Not logged in. Use 'cf login' or 'cf login --sso' to log in.", b.config}},
		{func(c *api.Config) { c.OrganizationFields.GUID = "" }, cf.KindNoOrg, []string{"No org targeted, use 'cf target -o ORG'"}},
		{func(c *api.Config) { c.SpaceFields.GUID = "" }, cf.KindNoSpace, []string{"No space targeted, use 'cf target -s SPACE'"}},
	} {
		b.login(test.change)
		_, err := cf.NewClient(cf.Options{Config: b.read()})
		b.wants(err, test.kind, test.words...)
	}
	_, err := cf.NewClient(cf.Options{})
	b.wants(err, cf.KindNoAPI)
	session := cf.Session{}
	for _, kind := range []cf.Kind{cf.KindNoAPI, cf.KindNotLoggedIn, cf.KindNoOrg, cf.KindNoSpace, cf.KindOther} {
		_, err := cf.NewClient(cf.Options{Session: &session})
		if cf.KindOf(err) != kind {
			t.Errorf("%v, want kind %d", err, kind)
		}
		switch kind {
		case cf.KindNoAPI:
			session.API = "https://x"
		case cf.KindNotLoggedIn:
			session.Token = b.sessionToken
		case cf.KindNoOrg:
			session.Org.GUID = "o"
		case cf.KindNoSpace:
			session.Space.GUID = "s"
		}
	}
}

// TestConfigIsNotPrinted: whoever prints a config by mistake gives nothing away.
func TestConfigIsNotPrinted(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		b.tell(fmt.Sprintf(verb, b.read()))
		b.tell(fmt.Sprintf(verb, *b.read()))
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ before, after string }{
		{`{"a":1,"K":"old","b":2}`, `{"a":1,"K":"n\"w","b":2}`},
		{"{\n  \"K\" :  \"old\" ,\"x\":{\"K\":\"old\"}}\n", "{\n  \"K\" :  \"n\\\"w\" ,\"x\":{\"K\":\"old\"}}\n"},
		{`{"K":null}`, `{"K":"n\"w"}`},
		{`{"k":"1","K":{"K":[1,{}]}}`, `{"k":"n\"w","K":"n\"w"}`},
		{`{}`, "{\n  \"K\": \"n\\\"w\"}"},
		{"{\n  \"a\": 1e400\n}\n", "{\n  \"a\": 1e400,\n  \"K\": \"n\\\"w\"\n}\n"},
	} {
		got, err := cf.Patch([]byte(test.before), "K", `n"w`)
		if err != nil || string(got) != test.after {
			t.Errorf("%s: %s, %v", test.before, got, err)
		}
	}
	for _, text := range []string{``, `[]`, `{`, `{"K":`, `{"K":1}x`, `{"K":1}{}`, `"K"`} {
		if got, err := cf.Patch([]byte(text), "K", "v"); err == nil {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, s := range []string{`{"ConfigVersion":4}`, `{"ConfigVersion":3,"AccessToken":"bearer x","RefreshToken":"y"}`, `{"accesstoken":1}`, `{"a":{"AccessToken":[]}}`,
		"{\n}", `{"CFOnK8s":{"Enabled":true}}`, `{"\u0041ccessToken":"x"} `, `{"AccessToken":"x","AccessToken":"y"}`, `nonsense`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := cf.ParseConfig("config.json", raw); err != nil && cf.KindOf(err) != cf.KindConfig {
			t.Error(err)
		}
		patched, err := cf.Patch(raw, "AccessToken", "new")
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		if err := json.Unmarshal(patched, &after); err != nil {
			t.Fatalf("%q: %v", patched, err)
		}
		if json.Unmarshal(raw, &before) != nil {
			return
		}
		var read struct{ AccessToken string }
		if err := json.Unmarshal(patched, &read); err != nil || read.AccessToken != "new" {
			t.Fatalf("%q: %v, %v", patched, read, err)
		}
		for key, value := range before {
			if !strings.EqualFold(key, "AccessToken") && !bytes.Equal(after[key], value) {
				t.Errorf("%s: %s, was %s", key, after[key], value)
			}
		}
		if again, err := cf.Patch(patched, "AccessToken", "new"); err != nil || !bytes.Equal(again, patched) {
			t.Errorf("not the same when done twice: %q, %q", patched, again)
		}
	})
}

func TestSaveKeepsTheRest(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	before, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	before = bytes.Replace(before, []byte("{"), []byte("{\n  \"Zukunft\": {\"RefreshToken\": \"x\"},"), 1)
	if err := os.WriteFile(b.config, before, 0o644); err != nil {
		t.Fatal(err)
	}
	old := b.read()
	if err := cf.SaveTokens(b.config, old.Target, old.RefreshToken, "bearer new&<>", "fresh"); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(strings.ReplaceAll(string(before), old.AccessToken, `bearer new\u0026\u003c\u003e`), old.RefreshToken, "fresh")
	if string(after) != want {
		t.Errorf("%s\nwant\n%s", after, want)
	}
	if info, err := os.Stat(b.config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// Somebody has logged in since, or targeted another platform: their login stays.
	for _, other := range [][2]string{{old.Target, old.RefreshToken}, {"https://other", "fresh"}} {
		if err := cf.SaveTokens(b.config, other[0], other[1], "bearer no", "no"); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.ReadFile(b.config); err != nil || !bytes.Equal(now, after) {
		t.Errorf("%s, %v", now, err)
	}
}

func TestSaveFollowsLinks(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	link := filepath.Join(t.TempDir(), "config.json")
	if err := os.Symlink(b.config, link); err != nil {
		t.Skip(err)
	}
	old := b.read()
	if err := cf.SaveTokens(link, old.Target, old.RefreshToken, "bearer new", "fresh"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%v, %v", info, err)
	}
	if b.read().RefreshToken != "fresh" {
		t.Error("not saved")
	}
}

// saveForEver is a process that does nothing else, until it is killed.
func saveForEver(path string) {
	c, err := cf.ReadConfig(path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("begin")
	for n, old := 0, c.RefreshToken; ; n++ {
		refresh := fmt.Sprintf("refresh-%d-%d", os.Getpid(), n)
		access := "bearer " + strings.Repeat("x", n%5000) + refresh
		if err := cf.SaveTokens(path, c.Target, old, access, refresh); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		old = refresh
	}
}

// TestKilledInTheMiddle kills a process that writes the config, again and again.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	b := newBed(t, nil)
	first, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	var rest map[string]json.RawMessage
	if err := json.Unmarshal(first, &rest); err != nil {
		t.Fatal(err)
	}
	saved := 0
	for range 25 {
		saved += killInTheMiddle(t, b.config)
		now, err := os.ReadFile(b.config)
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(now, &all); err != nil {
			t.Fatalf("damaged: %v\n%s", err, now)
		}
		for key, value := range rest {
			if key != "AccessToken" && key != "RefreshToken" && !bytes.Equal(all[key], value) {
				t.Fatalf("%s: %s", key, all[key])
			}
		}
		if c := b.read(); !bytes.Equal(now, first) && !strings.HasSuffix(c.AccessToken, c.RefreshToken) {
			t.Fatalf("one token is old: %s, %s", c.AccessToken, c.RefreshToken)
		}
	}
	if saved == 0 {
		t.Error("never saved")
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(b.config), "temp-config?*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(b.config))
	if err != nil || len(entries) != 1+len(left) {
		t.Errorf("%v, %v", entries, err)
	}
	t.Logf("%d times saved when killed, %d files left behind", saved, len(left))
}

// killInTheMiddle says 1 when the config changed before the process was killed.
func killInTheMiddle(t *testing.T, path string) int {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CF_TEST_SAVE="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "begin\n" {
		t.Errorf("%q, %v", line, err)
	}
	time.Sleep(rand.N(20 * time.Millisecond)) // the moment is to be any
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(before, after) {
		return 0
	}
	return 1
}
