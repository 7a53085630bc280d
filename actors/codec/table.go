package codec

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// Schema is the version of the way in which payloads are encoded: protobuf.
const Schema = 1

// Encoded is an event as it goes into the log.
type Encoded struct {
	Type    string
	Schema  uint32
	Payload []byte
}

// UnknownTypeError says that a record holds what this version cannot read.
type UnknownTypeError struct {
	Type   string
	Schema uint32
}

func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("unknown event type %q, schema %d", e.Type, e.Schema)
}

// PayloadError says that a record's payload is not what its type promises.
type PayloadError struct {
	Type string
	Err  error
}

func (e *PayloadError) Error() string { return fmt.Sprintf("payload of %q: %v", e.Type, e.Err) }

// Unwrap returns the decoder's error.
func (e *PayloadError) Unwrap() error { return e.Err }

// table knows every event of one machine; E is the machine's Event.
type table[E any] struct {
	byName map[string]row[E]
	byType map[reflect.Type]row[E]
}

// row knows one version of one event.
type row[E any] struct {
	name   string
	event  reflect.Type
	encode func(E) proto.Message // nil for an event without fields
	decode func([]byte) (E, error)
}

// newTable returns a table. Of two rows for one event the later one encodes.
func newTable[E any](rows ...row[E]) table[E] {
	t := table[E]{byName: map[string]row[E]{}, byType: map[reflect.Type]row[E]{}}
	for _, r := range rows {
		t.byName[r.name] = r
		t.byType[r.event] = r
	}
	return t
}

// message is the row of an event T that is stored as the message *M.
func message[E, T, M any, P interface {
	*M
	proto.Message
}](name string, to func(T) P, from func(P) T) row[E] {
	return row[E]{
		name: name, event: reflect.TypeFor[T](),
		encode: func(e E) proto.Message { return to(any(e).(T)) },
		decode: func(b []byte) (E, error) {
			var m M
			if err := proto.Unmarshal(b, P(&m)); err != nil {
				var none E
				return none, err
			}
			return any(from(&m)).(E), nil
		},
	}
}

// plain is the row of an event that has no fields.
func plain[E, T any](name string) row[E] {
	return row[E]{
		name: name, event: reflect.TypeFor[T](),
		decode: func([]byte) (E, error) {
			var event T
			return any(event).(E), nil
		},
	}
}

func (t table[E]) encode(e E) (Encoded, error) {
	r, known := t.byType[reflect.TypeOf(e)]
	if !known {
		return Encoded{}, fmt.Errorf("event %T has no row in its table", e)
	}
	encoded := Encoded{Type: r.name, Schema: Schema}
	if r.encode == nil {
		return encoded, nil
	}
	var err error
	if encoded.Payload, err = (proto.MarshalOptions{Deterministic: true}).Marshal(r.encode(e)); err != nil {
		return Encoded{}, fmt.Errorf("encode %s: %w", r.name, err)
	}
	return encoded, nil
}

func (t table[E]) decode(name string, schema uint32, payload []byte) (E, error) {
	var none E
	r, known := t.byName[name]
	if !known || schema != Schema {
		return none, &UnknownTypeError{Type: name, Schema: schema}
	}
	e, err := r.decode(payload)
	if err != nil {
		return none, &PayloadError{Type: name, Err: err}
	}
	return e, nil
}
