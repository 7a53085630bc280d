package architecture

import (
	"go/ast"
	"go/token"
	"testing"
)

// What loved code and unloved code differ in most is the longest list of parameters and
// the number of methods on one type; long functions come with both.
const (
	mostParameters = 5
	mostLines      = 70
	mostMethods    = 30
)

func TestSizes(t *testing.T) {
	methods := map[string]int{}
	for _, f := range goFiles(t) {
		if ast.IsGenerated(f.syntax) {
			continue
		}
		for _, decl := range f.syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.path + ": " + fn.Name.Name
			if n := fn.Type.Params.NumFields(); n > mostParameters {
				t.Errorf("%s has %d parameters, and may have %d: a noun is missing; name it", name, n, mostParameters)
			}
			if n := f.lines(fn); n > mostLines && !f.flat(fn) {
				t.Errorf("%s has %d lines, and may have %d unless it is one flat switch or table: find its parts", name, n, mostLines)
			}
			if fn.Recv != nil {
				methods[f.folder+"."+receiver(fn)]++
			}
		}
	}
	for name, n := range methods {
		if n > mostMethods {
			t.Errorf("%s has %d methods, and may have %d: it is more than one thing", name, n, mostMethods)
		}
	}
}

// receiver is the name of the type that a method belongs to.
func receiver(fn *ast.FuncDecl) string {
	x := fn.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.Name
		default:
			return ""
		}
	}
}

func (f file) lines(n ast.Node) int {
	line := func(p token.Pos) int { return f.fset.Position(p).Line }
	return line(n.End()) - line(n.Pos()) + 1
}

// flat reports whether a function is little but one table, or one switch whose cases are
// short.
func (f file) flat(fn *ast.FuncDecl) bool {
	const outside, inCase = 20, 8
	isFlat := false
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		var cases *ast.BlockStmt
		switch n := n.(type) {
		case *ast.SwitchStmt:
			cases = n.Body
		case *ast.TypeSwitchStmt:
			cases = n.Body
		case *ast.CompositeLit:
			isFlat = isFlat || f.lines(fn)-f.lines(n) <= outside
			return true
		default:
			return true
		}
		long := 0
		for _, c := range cases.List {
			if f.lines(c) > inCase {
				long++
			}
		}
		isFlat = isFlat || long == 0 && f.lines(fn)-f.lines(n) <= outside
		return true
	})
	return isFlat
}
