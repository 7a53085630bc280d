package codec

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/redact"
)

// WithoutSecrets returns an event's payload without the values of environment variables, and
// without credentials in addresses. The event is of the same type, and can be decoded as before.
// Errors: *UnknownTypeError, *PayloadError.
func WithoutSecrets(name string, schema uint32, payload []byte) ([]byte, error) {
	m, err := readAny(name, schema, payload)
	if err != nil {
		return nil, err
	}
	if err := strip(m.ProtoReflect()); err != nil {
		return nil, fmt.Errorf("remove the secrets of %s: %w", name, err)
	}
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return out, nil
}

// strip removes secrets from a message and those in it. What this version does not know is
// dropped: it may be one.
func strip(m protoreflect.Message) (err error) {
	m.SetUnknown(nil)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				if err = strip(v.List().Get(i).Message()); err != nil {
					return false
				}
			}
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			for i := range v.List().Len() {
				v.List().Set(i, protoreflect.ValueOfString(redact.Text(v.List().Get(i).String())))
			}
		case f.IsList():
		case f.Message() != nil:
			err = strip(v.Message())
		case f.FullName() == adjustment:
			m.Set(f, protoreflect.ValueOfString(redact.Adjustment(v.String())))
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(redact.Text(v.String())))
		case f.Kind() == protoreflect.BytesKind:
			var without []byte
			if without, err = stripConfig(f.FullName(), v.Bytes()); err == nil {
				m.Set(f, protoreflect.ValueOfBytes(without))
			}
		}
		return err == nil
	})
	return err
}

// stripConfig removes the values of environment variables from a CRI configuration.
func stripConfig(field protoreflect.FullName, config []byte) ([]byte, error) {
	m := configOf(field)
	if m == nil {
		return config, nil
	}
	if err := proto.Unmarshal(config, m); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if c, has := m.(*cri.ContainerConfig); has {
		redact.Environment(c)
		c.ProtoReflect().SetUnknown(nil)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}
