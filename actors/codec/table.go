package codec

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"google.golang.org/protobuf/proto"
)

// Schema is the version of the payloads' encoding, protobuf. The version of an event's
// message is part of its name.
const Schema = 1

// Encoded is an event as the log stores it.
type Encoded struct {
	// Type is the event's name on disk, with its kind and version.
	Type    string
	Schema  uint32
	Payload []byte
}

// UnknownTypeError says that this version does not know a record's type.
type UnknownTypeError struct {
	Type   string
	Schema uint32
}

// Skippable reports whether a reader that does not know the type can go on as if the record
// were not there. What is decided later must not depend on such an event.
func (e *UnknownTypeError) Skippable() bool { return strings.HasSuffix(e.Type, skippable) }

// skippable ends the names of events that older readers can skip.
const skippable = ".skippable"

// CanSkip reports whether an error of a decoder is of a record that can be skipped.
func CanSkip(err error) bool {
	unknown, is := errors.AsType[*UnknownTypeError](err)
	return is && unknown.Skippable()
}

func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("unknown event type %q, schema %d", e.Type, e.Schema)
}

// PayloadError says that a record's payload does not match its type.
type PayloadError struct {
	Type string
	Err  error
}

func (e *PayloadError) Error() string { return fmt.Sprintf("payload of %q: %v", e.Type, e.Err) }

// Unwrap returns the decoder's error.
func (e *PayloadError) Unwrap() error { return e.Err }

// table knows every event of one machine; E is the machine's Event.
type table[E any] struct {
	// byName finds the row that reads a name on disk.
	byName map[string]row[E]
	// byType finds the row that writes an event.
	byType map[reflect.Type]row[E]
}

// row knows one version of one event.
type row[E any] struct {
	name   string
	event  reflect.Type
	encode func(E) proto.Message
	decode func([]byte) (proto.Message, E, error)
}

// newTable returns a table. Of two rows for one event, the later one encodes.
func newTable[E any](rows ...row[E]) table[E] {
	t := table[E]{byName: map[string]row[E]{}, byType: map[reflect.Type]row[E]{}}
	for _, r := range rows {
		t.byName[r.name] = r
		t.byType[r.event] = r
	}
	return t
}

func (t table[E]) encode(e E) (Encoded, error) {
	r, known := t.byType[reflect.TypeOf(e)]
	if !known {
		return Encoded{}, fmt.Errorf("encode event: %T has no row in its table", e)
	}
	payload, err := marshal(r.encode(e))
	if err != nil {
		return Encoded{}, fmt.Errorf("encode event %s: %w", r.name, err)
	}
	return Encoded{Type: r.name, Schema: Schema, Payload: payload}, nil
}

func (t table[E]) decode(name string, schema uint32, payload []byte) (E, error) {
	_, e, err := t.read(name, schema, payload)
	return e, err
}

// message returns a payload as the message that was written.
func (t table[E]) message(name string, schema uint32, payload []byte) (proto.Message, error) {
	m, _, err := t.read(name, schema, payload)
	return m, err
}

func (t table[E]) read(name string, schema uint32, payload []byte) (proto.Message, E, error) {
	var none E
	r, known := t.byName[name]
	if !known || schema != Schema {
		return nil, none, unknown(name, schema, payload)
	}
	m, e, err := r.decode(payload)
	if err != nil {
		return nil, none, &PayloadError{Type: name, Err: err}
	}
	return m, e, nil
}
