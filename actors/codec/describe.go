package codec

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stele-runtime/stele/actors/redact"
)

// Description is an event as people read it.
type Description struct {
	// Name is the event's, without its stream's kind and version.
	Name string
	// Fields are in the order of the message's declaration.
	Fields []Field
}

// Field is one field of an event that is not empty. A field of a message within
// the event has both names, with a dot between. The value is safe to print: it has
// no control characters.
type Field struct{ Name, Value string }

// Detail makes Describe show more than it does by itself.
type Detail int

const (
	// Configs are the CRI's configurations, as JSON, with the values of environment
	// variables left out.
	Configs Detail = iota + 1
	// Environment is the values of environment variables, which may be secrets: in
	// base64, as JSON has bytes. It matters only together with Configs.
	Environment
)

// valueMost bounds a value that is shown, in bytes; configurations are shown whole.
const valueMost = 1024

// Describe returns an event of any machine as people read it. Of bytes it shows
// only the size, unless asked for the configurations. Errors: *UnknownTypeError,
// *PayloadError.
func Describe(name string, schema uint32, payload []byte, more ...Detail) (Description, error) {
	m, err := readAny(name, schema, payload)
	if err != nil {
		return Description{}, err
	}
	d := describer{}
	for _, detail := range more {
		switch detail {
		case Configs:
			d.configs = true
		case Environment:
			d.environment = true
		}
	}
	d.add("", m.ProtoReflect())
	return Description{Name: strings.Split(name, ".")[1], Fields: d.fields}, nil
}

// readAny reads a payload as the message of whichever machine knows the name.
func readAny(name string, schema uint32, payload []byte) (proto.Message, error) {
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

// describer collects the fields of a message.
type describer struct {
	configs, environment bool
	fields               []Field
}

// maxListed is how many messages of a list are shown.
const maxListed = 16

func (d *describer) add(prefix string, m protoreflect.Message) {
	declared := m.Descriptor().Fields()
	for i := range declared.Len() {
		f := declared.Get(i)
		if !m.Has(f) {
			continue
		}
		name, v := prefix+string(f.Name()), m.Get(f)
		if f.Message() != nil && f.IsList() {
			// The rest of a long list is in the payload.
			for i := range min(v.List().Len(), maxListed) {
				d.add(fmt.Sprintf("%s.%d.", name, i), v.List().Get(i).Message())
			}
			continue
		}
		if f.Message() != nil && !holdsTime(f.Message()) {
			d.add(name+".", v.Message())
			continue
		}
		d.fields = append(d.fields, Field{Name: name, Value: d.value(f, v)})
	}
}

func (d *describer) value(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case f.IsList():
		return bounded(list(v.List()))
	case f.Message() != nil:
		return moment(v.Message().Interface())
	case f.Kind() == protoreflect.BytesKind:
		if d.configs {
			if shown, is := configJSON(f.FullName(), v.Bytes(), d.environment); is {
				return shown
			}
		}
		return size(v.Bytes())
	}
	if f.FullName() == adjustment {
		shown := v.String()
		if !d.environment {
			shown = redact.Adjustment(shown)
		}
		return bounded(printable(shown))
	}
	return bounded(printable(redact.Text(v.String())))
}

// adjustment is the field that has what NRI plug-ins changed.
const adjustment = "stele.event.v1.ContainerCreated4.nri_adjustment"

// moment is a time or a duration as people read it.
func moment(m proto.Message) string {
	if d, is := m.(*durationpb.Duration); is {
		return d.AsDuration().String()
	}
	return m.(*timestamppb.Timestamp).AsTime().Format(time.RFC3339Nano)
}

func list(values protoreflect.List) string {
	all := make([]string, values.Len())
	for i := range all {
		all[i] = values.Get(i).String()
	}
	return fmt.Sprintf("%q", all)
}

func size(b []byte) string { return fmt.Sprintf("%d bytes", len(b)) }

// printable returns s with everything escaped that a terminal would act on.
func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			quoted := strconv.Quote(s)
			return quoted[1 : len(quoted)-1]
		}
	}
	return s
}

// bounded returns at most valueMost bytes of s and says if it left any out.
func bounded(s string) string {
	if len(s) <= valueMost {
		return s
	}
	end := valueMost
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// Check returns why an event of any machine cannot be read; nil if it can.
func Check(name string, schema uint32, payload []byte) error {
	_, err := readAny(name, schema, payload)
	return err
}
