package projections

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

var update = flag.Bool("update", false, "write testdata/shape.txt anew, once checkpointSchema was raised")

const shapeFile = "testdata/shape.txt"

// A State whose shape changes needs another schema: an older checkpoint would be read as
// what it is not.
func TestShape(t *testing.T) {
	var shape strings.Builder
	for _, of := range []reflect.Type{
		reflect.TypeFor[sandbox.State](), reflect.TypeFor[container.State](), reflect.TypeFor[image.State](),
		reflect.TypeFor[host.State](), reflect.TypeFor[Ended](),
	} {
		fmt.Fprintf(&shape, "\n%s\n", of)
		describe(&shape, of, "  ")
	}
	now := fmt.Sprintf("schema %d\n%s", checkpointSchema, shape.String())
	b, err := os.ReadFile(shapeFile)
	if err != nil {
		t.Fatal(err)
	}
	was := string(b)
	if now == was {
		return
	}
	schemaWas, shapeWas, _ := strings.Cut(was, "\n")
	if shapeWas != shape.String() && schemaWas == fmt.Sprintf("schema %d", checkpointSchema) {
		t.Fatalf("a State has another shape than %s says, and checkpointSchema is still %d.\n"+
			"1. raise checkpointSchema in projections/checkpoint.go\n"+
			"2. give the field its place in proto/state/v1 and actors/codec/state_*.go\n"+
			"3. go test ./projections -run TestShape -update\nNow it is:\n%s", shapeFile, checkpointSchema, shape.String())
	}
	if !*update {
		t.Fatalf("%s is out of date: go test ./projections -run TestShape -update", shapeFile)
	}
	if err := os.WriteFile(shapeFile, []byte(now), 0o644); err != nil {
		t.Fatal(err)
	}
}

// describe writes a type's exported fields, one a line, each with those of its own.
func describe(to *strings.Builder, of reflect.Type, indent string) {
	switch of.Kind() {
	case reflect.Map, reflect.Slice, reflect.Pointer, reflect.Array:
		describe(to, of.Elem(), indent)
	case reflect.Struct:
		for i := range of.NumField() {
			if f := of.Field(i); f.IsExported() {
				fmt.Fprintf(to, "%s%s %s", indent, f.Name, f.Type)
				if kind := f.Type.Kind(); kind.String() != f.Type.String() && f.Type.PkgPath() != "" && kind != reflect.Struct {
					fmt.Fprintf(to, " (%s)", kind)
				}
				to.WriteByte('\n')
				describe(to, f.Type, indent+"  ")
			}
		}
	}
}
