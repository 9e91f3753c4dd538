package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sshpcap/sshpcap"

// rules says which packages of ours each package may import. Imports go one way: cmd → capture → sshx, remote, merge; and
// those three stand alone.
var rules = map[string]struct {
	imports []string
	tests   []string // and its tests, beside
}{
	"cmd/sshpcap":        {imports: []string{"cf", "cf/plugin", "capture", "files", "sshx", "remote", "merge", "internal/demo", "internal/newfile"}, tests: []string{"internal/sshserver", "internal/cftest/api"}},
	"cf":                 {imports: []string{"sshx"}, tests: []string{"cf", "internal/cftest/api", "internal/cftest/container"}},
	"cf/plugin":          {tests: []string{"cf/plugin", "internal/cftest/fakecf"}},
	"capture":            {imports: []string{"sshx", "remote", "merge", "internal/newfile"}, tests: []string{"capture", "internal/sshserver", "internal/rawserver", "internal/demo"}},
	"sshx":               {tests: []string{"sshx", "internal/sshserver", "internal/rawserver"}},
	"remote":             {tests: []string{"remote", "internal/cftest/container"}},
	"merge":              {tests: []string{"merge"}},
	"files":              {imports: []string{"merge", "internal/newfile"}, tests: []string{"files"}},
	"internal/newfile":   {tests: []string{"internal/newfile"}},
	"internal/sshserver": {tests: []string{"internal/sshserver"}},
	"internal/rawserver": {tests: []string{"internal/rawserver"}},
	"internal/demo":      {imports: []string{"internal/sshserver"}, tests: []string{"internal/demo", "remote", "merge"}},
	"tests":              {tests: []string{"remote", "tests/bed", "tests/farm", "internal/sshserver", "internal/rawserver", "internal/cftest/api", "internal/cftest/container", "internal/cftest/fakecf"}},
	"tests/bed":          {},
	"tests/farm":         {imports: []string{"internal/sshserver"}},
	"tests/bench":        {imports: []string{"tests/farm"}},
	"tests/picture":      {},

	"internal/cftest/api":       {tests: []string{"internal/cftest/api"}},
	"internal/cftest/cfpcap":    {},
	"internal/cftest/container": {imports: []string{"internal/sshserver"}, tests: []string{"internal/cftest/container"}},
	"internal/cftest/fakecf":    {tests: []string{"internal/cftest/fakecf"}},
	"internal/cftest/fakecf/cf": {imports: []string{"internal/cftest/fakecf"}},
}

// listed is what `go list -json` says of a package.
type listed struct {
	Dir          string
	ImportPath   string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func (p listed) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportDirection(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		rule, ok := rules[p.name()]
		if !ok {
			t.Errorf("%s: no rule says what it may import", p.name())
			continue
		}
		check := func(what string, imports []string, allowed ...string) {
			for _, path := range imports {
				if ours, ok := strings.CutPrefix(path, module+"/"); ok && !slices.Contains(allowed, ours) {
					t.Errorf("%s%s imports %s", p.name(), what, ours)
				}
			}
		}
		check("", p.Imports, rule.imports...)
		check(" (tests)", slices.Concat(p.TestImports, p.XTestImports), slices.Concat(rule.imports, rule.tests)...)
	}
}

// TestOnlyCommandsTalk: below cmd nothing prints, exits or catches signals.
func TestOnlyCommandsTalk(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if slices.ContainsFunc([]string{"cmd/", "tests", "internal/cftest/cfpcap", "internal/cftest/fakecf/cf"}, func(s string) bool { return strings.HasPrefix(p.name(), s) }) {
			continue // commands, and tests
		}
		for _, path := range p.Imports {
			if path == "log" || path == "log/slog" || path == "os/signal" {
				t.Errorf("%s imports %s", p.name(), path)
			}
		}
		for _, file := range p.GoFiles {
			forbidden(t, filepath.Join(p.Dir, file))
		}
	}
}

// TestNoProgramIsRun: sshpcap runs no other program, and so no shell, on the user's side: not in our code, and not in what it
// is built of.
func TestNoProgramIsRun(t *testing.T) {
	t.Parallel()
	for _, system := range []string{"linux", "darwin", "windows"} {
		cmd := exec.Command("go", "list", "-deps", "./cmd/sshpcap")
		cmd.Dir, cmd.Env = "..", append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		built := strings.Fields(string(out))
		for _, path := range []string{"os/exec", "plugin", "runtime/cgo"} {
			if slices.Contains(built, path) {
				t.Errorf("on %s it is built of %s", system, path)
			}
		}
		for _, p := range packages(t) {
			if !slices.Contains(built, p.ImportPath) {
				continue // tests, and what they need
			}
			for _, file := range p.GoFiles {
				uses(t, filepath.Join(p.Dir, file), "os.StartProcess", "syscall.Exec", "syscall.ForkExec", "syscall.StartProcess", "unix.Exec")
			}
		}
	}
}

// forbidden reports what only a command may use.
func forbidden(t *testing.T, path string) {
	t.Helper()
	names := []string{"os.Exit", "os.Stdout", "os.Stderr", "os.Stdin", "fmt.Print", "fmt.Printf", "fmt.Println"}
	// An output that is standard output has to be named as such.
	if strings.HasSuffix(path, "capture/file.go") {
		names = slices.DeleteFunc(names, func(n string) bool { return n == "os.Stdout" })
	}
	uses(t, path, names...)
}

// uses reports where a file uses one of the names.
func uses(t *testing.T, path string, names ...string) {
	t.Helper()
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(names, x.Name+"."+sel.Sel.Name) {
				t.Errorf("%s: %s.%s", files.Position(n.Pos()), x.Name, sel.Sel.Name)
			}
		}
		return true
	})
}
