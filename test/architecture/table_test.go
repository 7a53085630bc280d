package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// vocabulary are the files in which a machine declares what it knows.
var vocabulary = []string{"command.go", "event.go", "effect.go"}

// The table of ARCHITECTURE.md is the way into the code: every command, event and
// effect that it names is one that a machine declares.
func TestTheTableOfCallsIsTrue(t *testing.T) {
	root := filepath.Join("..", "..")
	declared := map[string]bool{}
	for machine, files := range map[string][]string{
		"sandbox": vocabulary, "container": vocabulary, "image": vocabulary, "host": {"host.go"},
	} {
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "actors", machine, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if spec, ok := n.(*ast.TypeSpec); ok {
					declared[machine+"."+spec.Name.Name] = true
					declared[spec.Name.Name] = true
				}
				return true
			})
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| RPC | command | events | effects |\n")
	if !found {
		t.Fatal("ARCHITECTURE.md has no table of calls")
	}
	word := regexp.MustCompile(`[a-z]+\.[A-Z]\w+|\b[A-Z][a-z]\w*[A-Z]?\w*`)
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 6 {
			break
		}
		if strings.HasPrefix(cells[1], "---") {
			continue
		}
		rows++
		for _, cell := range cells[2:5] {
			for _, name := range word.FindAllString(cell, -1) {
				if !declared[name] {
					t.Errorf("the row of%s names %s, which no machine declares", cells[1], name)
				}
			}
		}
	}
	if rows < 11 {
		t.Errorf("the table has %d rows", rows)
	}
}

// Every call of the CRI has its row: a reader who looks for one finds it, or that it is refused.
func TestTheTableOfCallsIsComplete(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| RPC | command | events | effects |\n")
	rows := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 6 {
			break
		}
		for _, call := range regexp.MustCompile(`\w+`).FindAllString(cells[1], -1) {
			rows[call] = true
		}
	}
	for _, service := range []grpc.ServiceDesc{runtimeapi.RuntimeService_ServiceDesc, runtimeapi.ImageService_ServiceDesc} {
		var calls []string
		for _, m := range service.Methods {
			calls = append(calls, m.MethodName)
		}
		for _, s := range service.Streams {
			calls = append(calls, s.StreamName)
		}
		for _, call := range calls {
			if !rows[call] {
				t.Errorf("the table has no row for %s", call)
			}
		}
	}
}
