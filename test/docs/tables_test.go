package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// root is the repository's, seen from this package's folder.
const root = "../.."

// row is a line of a table.
type row struct{ cells []string }

// tables returns the tables of a file in docs by the headings above them.
func tables(t *testing.T, file string) map[string][]row {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "docs", file))
	if err != nil {
		t.Fatal(err)
	}
	all, heading := map[string][]row{}, ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if title, is := strings.CutPrefix(line, "## "); is {
			heading = title
		}
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) < 3 {
			t.Fatalf("docs/%s: a row of %d cells: %s", file, len(cells), line)
		}
		if !strings.HasPrefix(line, "| field |") && !strings.HasPrefix(line, "| CVE |") && !strings.HasPrefix(line, "| boundary |") {
			all[heading] = append(all[heading], row{cells})
		}
	}
	return all
}

var quoted = regexp.MustCompile("`([^`]+)`")

// names are those in the first cell, with {a,b} spelled out.
func (r row) names(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, match := range quoted.FindAllStringSubmatch(r.cells[0], -1) {
		all = append(all, spelledOut(match[1])...)
	}
	if len(all) == 0 {
		t.Errorf("a row names nothing: %s", r.cells[0])
	}
	return all
}

var braces = regexp.MustCompile(`\{([^{}]*)\}`)

func spelledOut(name string) []string {
	at := braces.FindStringSubmatchIndex(name)
	if at == nil {
		return []string{name}
	}
	var all []string
	for part := range strings.SplitSeq(name[at[2]:at[3]], ",") {
		all = append(all, spelledOut(name[:at[0]]+part+name[at[1]:])...)
	}
	return all
}

// tests are the repository's, by their folders.
type tests map[string]folder

// folder has the source of each function with its comment, and every text in the tests' files,
// among which the names of subtests are.
type folder struct {
	functions map[string]string
	texts     map[string]bool
}

func findTests(t *testing.T) tests {
	t.Helper()
	found := tests{}
	files := token.NewFileSet()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != "." {
			return skipped(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(files, name, content, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		of, ok := found[path.Dir(name)]
		if !ok {
			of = folder{map[string]string{}, map[string]bool{}}
			found[path.Dir(name)] = of
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				from := n.Pos()
				if n.Doc != nil {
					from = n.Doc.Pos()
				}
				of.functions[n.Name.Name] = string(content[files.Position(from).Offset:files.Position(n.End()).Offset])
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil {
					of.texts[text] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// skipped lets a walk skip a folder, unless it failed.
func skipped(err error) error {
	if err != nil {
		return err
	}
	return fs.SkipDir
}

// check reports whether a cell names tests, and fails for those that do not exist.
func (all tests) check(t *testing.T, where, cell string) bool {
	t.Helper()
	named := all.named(t, where, cell)
	for _, test := range named {
		of, ok := all[test.folder]
		switch {
		case !ok:
			t.Errorf("%s: the folder %s has no tests", where, test.folder)
		case of.functions[test.function] == "":
			t.Errorf("%s: %s has no %s", where, test.folder, test.function)
		case test.sub != "" && !of.texts[test.sub]:
			t.Errorf("%s: %s has no subtest %q", where, test.folder, test.sub)
		}
	}
	return len(named) > 0
}

// named is a test that a cell names.
type named struct{ folder, function, sub string }

// named reads a cell: `folder` TestA, TestB/name of a subtest; `folder` TestC.
func (all tests) named(t *testing.T, where, cell string) []named {
	t.Helper()
	var found []named
	for part := range strings.SplitSeq(cell, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		match := quoted.FindStringSubmatch(part)
		_, names, ok := strings.Cut(part, "` Test")
		if match == nil || !ok {
			t.Errorf("%s: no folder and tests in %q", where, part)
			continue
		}
		for name := range strings.SplitSeq(names, ", Test") {
			function, sub, _ := strings.Cut("Test"+name, "/")
			found = append(found, named{match[1], function, sub})
		}
	}
	return found
}
