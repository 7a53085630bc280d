package codec

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

// suite is a machine's table with the machine's type left out, so that every test
// runs over all of them.
type suite struct {
	// kind is the first part of the names on disk.
	kind string
	// folder is the machine's package.
	folder string
	// rows are the names that can be read.
	rows []string
	// current maps each event to the name that it is written under.
	current map[reflect.Type]string
	encode  func(event any) (Encoded, error)
	decode  func(Encoded) (any, error)
	message func(Encoded) (proto.Message, error)
}

func suites() []suite {
	return []suite{
		newSuite("sandbox", "../sandbox", sandboxTable(), EncodeSandbox, DecodeSandbox),
		newSuite("container", "../container", containerTable(), EncodeContainer, DecodeContainer),
		newSuite("image", "../image", imageTable(), EncodeImage, DecodeImage),
		newSuite("node", "../host", hostTable(), EncodeHost, DecodeHost),
	}
}

func newSuite[E any](kind, folder string, t table[E],
	encode func(E) (Encoded, error), decode func(string, uint32, []byte) (E, error)) suite {
	s := suite{
		kind: kind, folder: folder,
		rows:    slices.Sorted(maps.Keys(t.byName)),
		current: map[reflect.Type]string{},
		encode:  func(event any) (Encoded, error) { return encode(event.(E)) },
		decode:  func(e Encoded) (any, error) { return decode(e.Type, e.Schema, e.Payload) },
		message: func(e Encoded) (proto.Message, error) { return t.message(e.Type, e.Schema, e.Payload) },
	}
	for event, r := range t.byType {
		s.current[event] = r.name
	}
	return s
}

// events returns the machine's event types, in the order of their names on disk.
func (s suite) events() []reflect.Type {
	return slices.SortedFunc(maps.Keys(s.current), func(a, b reflect.Type) int {
		return strings.Compare(s.current[a], s.current[b])
	})
}

// sealed returns the names of the machine's events as its source has them: every
// type with a method named event.
func (s suite) sealed(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "event" {
				continue
			}
			names = append(names, f.Recv.List[0].Type.(*ast.Ident).Name)
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s has no events: did they move?", s.folder)
	}
	return names
}

// golden is the file with a type's bytes.
func golden(name string) string { return filepath.Join("testdata", name+".txt") }

func goldenNames(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if name, is := strings.CutSuffix(e.Name(), ".txt"); is {
			names = append(names, name)
		}
	}
	return names
}

// full returns an event in which no field is empty. A field's value depends on its
// name alone, so that a new field changes nothing about the others.
func full(t *testing.T, event reflect.Type) any {
	t.Helper()
	v := reflect.New(event).Elem()
	fill(t, v, "")
	return v.Interface()
}

func fill(t *testing.T, v reflect.Value, name string) {
	t.Helper()
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(name)) // a hash takes everything
	number := int64(sum.Sum32()%1000) + 1
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 11, 21, 5, 0, 0, 123456789, time.UTC).Add(time.Duration(number) * time.Second)))
		return
	case time.Duration:
		v.SetInt(number * int64(time.Millisecond))
		return
	case []byte:
		v.SetBytes([]byte(name))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), fmt.Sprintf("%s[%d]", name, i))
		}
	case reflect.String:
		v.SetString(name)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(number)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(number))
	default:
		t.Fatalf("%s is a %s: teach fill", name, v.Type())
	}
}
