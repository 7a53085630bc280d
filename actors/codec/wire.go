package codec

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// marshal returns the bytes of a message: the same ones for the same message.
func marshal(m proto.Message) ([]byte, error) {
	deterministic := proto.MarshalOptions{Deterministic: true}
	payload, err := deterministic.Marshal(m)
	if err != nil {
		// Protobuf refuses invalid UTF-8, which a plugin may print. An event that cannot
		// be stored would halt a pod for ever.
		replaceInvalid(m.ProtoReflect())
		payload, err = deterministic.Marshal(m)
	}
	return payload, err
}

// replaceInvalid makes every string in m valid UTF-8. It changes nothing that m
// shares with the event.
func replaceInvalid(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() == protoreflect.StringKind && f.IsList():
			replaced := m.NewField(f).List()
			for i := range v.List().Len() {
				replaced.Append(valid(v.List().Get(i)))
			}
			m.Set(f, protoreflect.ValueOfList(replaced))
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, valid(v))
		case f.Message() != nil && f.IsList():
			for i := range v.List().Len() {
				replaceInvalid(v.List().Get(i).Message())
			}
		case f.Message() != nil:
			replaceInvalid(v.Message())
		}
		return true
	})
}

func valid(v protoreflect.Value) protoreflect.Value {
	return protoreflect.ValueOfString(strings.ToValidUTF8(v.String(), "\uFFFD"))
}

// unmarshal reads a payload into m. times are m's fields that hold times.
func unmarshal(payload []byte, m proto.Message, times []protoreflect.FieldDescriptor) error {
	if err := proto.Unmarshal(payload, m); err != nil {
		return err
	}
	for _, f := range times {
		if err := checkTime(m.ProtoReflect().Get(f).Message().Interface()); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return nil
}

// timesOf returns the fields that hold a Timestamp or a Duration.
func timesOf(m protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	var times []protoreflect.FieldDescriptor
	for i := range m.Fields().Len() {
		if f := m.Fields().Get(i); f.Message() != nil && holdsTime(f.Message()) {
			times = append(times, f)
		}
	}
	return times
}

func holdsTime(m protoreflect.MessageDescriptor) bool {
	switch m.FullName() {
	case (*timestamppb.Timestamp)(nil).ProtoReflect().Descriptor().FullName(),
		(*durationpb.Duration)(nil).ProtoReflect().Descriptor().FullName():
		return true
	}
	return false
}

// checkTime refuses a time off the calendar: a state could hold it, but could not be
// shown. An absent time is fine.
func checkTime(m proto.Message) error {
	switch m := m.(type) {
	case *timestamppb.Timestamp:
		if m != nil {
			return m.CheckValid()
		}
	case *durationpb.Duration:
		if m != nil {
			return m.CheckValid()
		}
	}
	return nil
}
