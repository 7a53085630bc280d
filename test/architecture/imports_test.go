package architecture

import (
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestImportsOfOurs(t *testing.T) {
	for _, f := range goFiles(t) {
		r, ok := ruleFor(f.folder)
		if !ok {
			t.Errorf("%s: no rule for the folder %s; add one to rules_test.go and say why", f.path, f.folder)
			continue
		}
		for _, imported := range f.imports {
			if problem := r.refuses(f, imported); problem != "" {
				t.Errorf("%s %s, because %s", f.path, problem, r.why)
			}
		}
	}
}

// A rule about a folder that is gone guards nothing.
func TestRulesNameWhatExists(t *testing.T) {
	var named []string
	for _, r := range rules {
		named = append(append(append(named, r.folder), r.ours...), r.tests...)
	}
	for _, c := range confinements {
		named = append(named, c.to...)
	}
	for _, path := range named {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Errorf("a rule names %s: %v", path, err)
		}
	}
}

// ruleFor finds the rule with the longest folder around folder.
func ruleFor(folder string) (rule, bool) {
	var found rule
	ok := false
	for _, r := range rules {
		if within(folder, r.folder) && len(r.folder) >= len(found.folder) {
			found, ok = r, true
		}
	}
	if found.folder == "executors" && folder != "executors" {
		name, _, _ := strings.Cut(strings.TrimPrefix(folder, "executors/"), "/")
		found = driverRule
		found.folder = "executors/" + name
	}
	return found, ok
}

// refuses says what is wrong with an import, or nothing.
func (r rule) refuses(f file, imported string) string {
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		if within(ours, r.folder) {
			return ""
		}
		// Tests may use what is made for tests.
		if f.test && within(ours, "test") {
			return ""
		}
		allowed := r.ours
		if f.test {
			allowed = with(allowed, r.tests...)
		}
		if slices.ContainsFunc(allowed, func(folder string) bool { return within(ours, folder) }) {
			return ""
		}
		return "must not import " + ours
	}
	if r.theirs != nil && !f.test && !slices.Contains(r.theirs, imported) {
		return "must not import " + imported
	}
	return ""
}

func TestConfinedImports(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || within(f.folder, "test") || ast.IsGenerated(f.syntax) {
			continue
		}
		for _, imported := range f.imports {
			for _, c := range confinements {
				if !c.covers(imported) {
					continue
				}
				if !slices.ContainsFunc(c.to, func(place string) bool { return within(f.path, place) }) {
					t.Errorf("%s must not import %s (only %s may), because %s", f.path, imported, strings.Join(c.to, ", "), c.why)
				}
			}
		}
	}
}

func (c confinement) covers(imported string) bool {
	return slices.ContainsFunc(c.imports, func(prefix string) bool { return within(imported, prefix) })
}

// The types of package time are values; reading the clock is not.
func TestMachinesReadNoClock(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
	for _, f := range goFiles(t) {
		if f.test || !slices.Contains(machines, f.folder) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clock, sel.Sel.Name) {
				t.Errorf("%s uses time.%s: commands carry their time, because %s", f.path, sel.Sel.Name, pureMachine)
			}
			return true
		})
	}
}

// No package-level wiring: what runs, cmd says.
func TestNoInitFunctions(t *testing.T) {
	for _, f := range goFiles(t) {
		if ast.IsGenerated(f.syntax) {
			continue
		}
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function: the commands are parts lists one can read; nothing is wired behind their back", f.path)
			}
		}
	}
}

func TestMonitorLinksLittle(t *testing.T) {
	// go list is asked, because what counts is what is linked in the end.
	list := exec.Command("go", "list", "-deps", "./cmd/stele-monitor")
	list.Dir = root
	list.Env = append(list.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list -deps ./cmd/stele-monitor: %v\n%s", err, stderr.String())
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, prefix := range monitorLinks {
			if within(dep, strings.TrimSuffix(prefix, "/")) {
				t.Errorf("cmd/stele-monitor links %s, because of one of its imports; it must not, because %s", dep, whyMonitorLinks)
			}
		}
	}
}
