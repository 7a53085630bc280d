package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// file is a Go file of ours.
type file struct {
	// path and folder are relative to the repository's root, with slashes.
	path, folder string
	test         bool
	imports      []string
	syntax       *ast.File
	fset         *token.FileSet
}

// root is the repository's, seen from this package's folder.
const root = "../.."

// skipped are folders of the root that hold what was built, or git's own.
func skipped(name string) bool {
	switch name {
	case ".git", ".cache", ".demo", "bin":
		return true
	}
	return false
}

// goFiles parses every Go file of the repository. Packages that don't compile
// yet are read all the same.
func goFiles(t *testing.T) []file {
	t.Helper()
	var files []file
	fset := token.NewFileSet()
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		syntax, err := parser.ParseFile(fset, filepath.Join(root, path), nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			t.Fatalf("parse %s: %v", path, err)
		}
		f := file{
			path:   path,
			folder: filepath.ToSlash(filepath.Dir(path)),
			test:   strings.HasSuffix(path, "_test.go"),
			syntax: syntax,
			fset:   fset,
		}
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatalf("%s imports %s: %v", path, spec.Path.Value, err)
			}
			f.imports = append(f.imports, imported)
		}
		files = append(files, f)
	})
	if len(files) < 10 {
		t.Fatalf("found %d Go files: is %s the repository's root?", len(files), root)
	}
	return files
}

// walk calls visit with the path of every regular file, relative to the root.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if skipped(path) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil // in a worktree, .git is a file
		}
		if entry.Type().IsRegular() {
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("walk the repository: %v", err)
	}
}

// within reports whether path is folder or in it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}
