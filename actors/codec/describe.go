package codec

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Description is an event as people read it.
type Description struct {
	// Name is the event's, without its stream's kind and version.
	Name   string
	Fields []Field
}

// Field is one field of an event that is not empty.
type Field struct{ Name, Value string }

// valueMost bounds a value that is shown, in bytes.
const valueMost = 256

// Describe returns an event of any machine as people read it. Of bytes only the
// size is shown: the CRI's configurations among them hold what users put into
// environments. Errors: *UnknownTypeError, *PayloadError.
func Describe(name string, schema uint32, payload []byte) (Description, error) {
	m, err := decodeAny(name, schema, payload)
	if err != nil {
		return Description{}, err
	}
	_, short, _ := strings.Cut(name, ".")
	short, _, _ = strings.Cut(short, ".")
	d := Description{Name: short}
	if m != nil {
		d.Fields = fields("", m.ProtoReflect())
	}
	return d, nil
}

// decodeAny reads a payload as the message of whichever machine knows the name;
// nil for an event without fields.
func decodeAny(name string, schema uint32, payload []byte) (proto.Message, error) {
	kind, _, _ := strings.Cut(name, ".")
	switch kind {
	case "sandbox":
		return sandboxTable().message(name, schema, payload)
	case "container":
		return containerTable().message(name, schema, payload)
	case "image":
		return imageTable().message(name, schema, payload)
	case "node":
		return hostTable().message(name, schema, payload)
	}
	return nil, &UnknownTypeError{Type: name, Schema: schema}
}

func (t table[E]) message(name string, schema uint32, payload []byte) (proto.Message, error) {
	e, err := t.decode(name, schema, payload)
	if err != nil {
		return nil, err
	}
	if r := t.byName[name]; r.encode != nil {
		return r.encode(e), nil
	}
	return nil, nil
}

func fields(prefix string, m protoreflect.Message) []Field {
	var all []Field
	of := m.Descriptor().Fields()
	for i := range of.Len() {
		f := of.Get(i)
		if !m.Has(f) {
			continue
		}
		name := prefix + string(f.Name())
		if f.Message() != nil && !f.IsList() {
			if value, flat := timeValue(m.Get(f).Message().Interface()); flat {
				all = append(all, Field{name, value})
			} else {
				all = append(all, fields(name+".", m.Get(f).Message())...)
			}
			continue
		}
		all = append(all, Field{name, value(f, m.Get(f))})
	}
	return all
}

func timeValue(m proto.Message) (string, bool) {
	switch m := m.(type) {
	case *timestamppb.Timestamp:
		return m.AsTime().Format(time.RFC3339Nano), true
	case *durationpb.Duration:
		return m.AsDuration().String(), true
	}
	return "", false
}

func value(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case f.IsList():
		var all []string
		for i := range v.List().Len() {
			all = append(all, v.List().Get(i).String())
		}
		return bounded(fmt.Sprintf("%q", all))
	case f.Kind() == protoreflect.BytesKind:
		return fmt.Sprintf("%d bytes", len(v.Bytes()))
	}
	return bounded(v.String())
}

func bounded(s string) string {
	if !utf8.ValidString(s) {
		s = base64.StdEncoding.EncodeToString([]byte(s))
	}
	if len(s) > valueMost {
		return s[:valueMost] + "…"
	}
	return s
}
