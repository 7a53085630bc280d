package codec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// -update writes the golden files. A change of a line that was there means that
// logs which users have can no longer be read.
var update = flag.Bool("update", false, "write testdata anew")

func TestEveryEventHasARow(t *testing.T) {
	for _, s := range suites() {
		var known []string
		for _, event := range s.events() {
			known = append(known, event.Name())
		}
		for _, name := range s.sealed(t) {
			if !slices.Contains(known, name) {
				t.Errorf("%s.%s has no row in this package's table: add it, its message and its golden file", s.kind, name)
			}
		}
	}
}

func TestNamesOnDisk(t *testing.T) {
	for _, s := range suites() {
		for event, name := range s.current {
			want := regexp.MustCompile(`^` + s.kind + `\.` + event.Name() + `\.v[1-9][0-9]*(\.skippable)?$`)
			if !want.MatchString(name) {
				t.Errorf("%s is written as %q, want %s", event, name, want)
			}
		}
	}
}

// TestGoldenBytes holds every version of every event against the bytes that are
// in users' logs.
func TestGoldenBytes(t *testing.T) {
	var rows []string
	for _, s := range suites() {
		rows = append(rows, s.rows...)
		for _, event := range s.events() {
			t.Run(s.current[event], func(t *testing.T) { testCurrent(t, s, event) })
		}
		for _, name := range s.rows {
			t.Run("read "+name, func(t *testing.T) { testReadable(t, s, name) })
		}
	}
	for _, name := range goldenNames(t) {
		if !slices.Contains(rows, name) {
			t.Errorf("%s: nothing reads %s any more, but logs hold it: put its row back", golden(name), name)
		}
	}
}

// testCurrent checks an event as it is written today.
func testCurrent(t *testing.T, s suite, event reflect.Type) {
	e := full(t, event)
	encoded, err := s.encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		write(t, encoded)
	}
	if was := read(t, encoded.Type); !bytes.Equal(was.Payload, encoded.Payload) {
		t.Errorf("a full event is encoded as\n%s\nwant, as in %s,\n%s", hex.Dump(encoded.Payload), golden(encoded.Type), hex.Dump(was.Payload))
	}
	decoded, err := s.decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(decoded, e) {
		t.Errorf("read back as\n%+v\nwant\n%+v", decoded, e)
	}
	m, err := s.message(encoded)
	if err != nil {
		t.Fatal(err)
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.ProtoReflect().Has(f) {
			t.Errorf("a full event leaves %s empty", f.FullName())
		}
		// Times are checked in an event's own fields only.
		if f.Message() != nil && !holdsTime(f.Message()) && len(timesOf(f.Message())) > 0 {
			t.Errorf("%s holds times within: let unmarshal check them", f.FullName())
		}
	}
}

// testReadable checks a version that logs hold, whether it is still written or not.
func testReadable(t *testing.T, s suite, name string) {
	was := read(t, name)
	if _, err := s.decode(was); err != nil {
		t.Error(err)
	}
	content, err := os.ReadFile(golden(name))
	if err != nil {
		t.Fatal(err)
	}
	if shown := render(t, was); shown != string(content) {
		t.Errorf("shown as\n%s\nwant\n%s", shown, content)
	}
}

// render returns a golden file: what Describe says, a blank line, the payload.
func render(t *testing.T, e Encoded) string {
	t.Helper()
	d, err := Describe(e.Type, e.Schema, e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, schema %d\n", d.Name, e.Schema)
	for _, f := range d.Fields {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
	}
	b.WriteString("\n")
	for line := range slices.Chunk(e.Payload, 24) {
		fmt.Fprintf(&b, "% x\n", line)
	}
	return b.String()
}

func write(t *testing.T, e Encoded) {
	t.Helper()
	if err := os.WriteFile(golden(e.Type), []byte(render(t, e)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read returns what a golden file holds.
func read(t *testing.T, name string) Encoded {
	t.Helper()
	e, err := goldenOf(name)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s has no golden file: go test ./actors/codec -update", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func goldenOf(name string) (Encoded, error) {
	content, err := os.ReadFile(golden(name))
	if err != nil {
		return Encoded{}, err
	}
	return parse(name, string(content))
}

func parse(name, content string) (Encoded, error) {
	head, body, _ := strings.Cut(content, "\n\n")
	e := Encoded{Type: name}
	if _, err := fmt.Sscanf(head, strings.Split(name, ".")[1]+", schema %d", &e.Schema); err != nil {
		return Encoded{}, fmt.Errorf("%s: first line: %w", golden(name), err)
	}
	payload, err := hex.DecodeString(strings.Join(strings.Fields(body), ""))
	if err != nil {
		return Encoded{}, fmt.Errorf("%s: payload: %w", golden(name), err)
	}
	e.Payload = payload
	return e, nil
}

// TestOneMessageForEachEvent: an event that shared its message with another could
// not change without it. Fault is a part of many, and no event, and so are
// LoadedImage and BlockedSyscall.
func TestOneMessageForEachEvent(t *testing.T) {
	user := map[protoreflect.FullName]string{}
	files := map[string]protoreflect.FileDescriptor{}
	for _, s := range suites() {
		for _, name := range s.rows {
			m, err := s.message(read(t, name))
			if err != nil {
				t.Fatal(err)
			}
			of := m.ProtoReflect().Descriptor()
			if other, taken := user[of.FullName()]; taken {
				t.Errorf("%s and %s are both stored as %s", other, name, of.FullName())
			}
			user[of.FullName()] = name
			files[of.ParentFile().Path()] = of.ParentFile()
		}
	}
	for _, file := range files {
		for i := range file.Messages().Len() {
			if declared := file.Messages().Get(i).FullName(); user[declared] == "" && declared != "stele.event.v1.LoadedImage" && declared != "stele.event.v1.BlockedSyscall" {
				t.Errorf("no event is stored as %s", declared)
			}
		}
	}
}
