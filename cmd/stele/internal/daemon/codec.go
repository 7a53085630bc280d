package daemon

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// codec is gRPC's for protobuf, but sends an answer that is encoded already as it is. A kubelet
// lists everything once a second, and mostly gets the last answer again: gRPC would copy it into
// a buffer of 1 MiB, which it then keeps.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if message, is := v.(proto.Message); is {
		if encoded := encodedOnly(message.ProtoReflect()); len(encoded) > 0 {
			return mem.BufferSlice{mem.SliceBuffer(encoded)}, nil
		}
	}
	return c.CodecV2.Marshal(v)
}

// encodedOnly is what a message has that is not decoded; nil if it has anything else, too.
func encodedOnly(m protoreflect.Message) []byte {
	encoded := m.GetUnknown()
	if len(encoded) == 0 {
		return nil
	}
	m.Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
		encoded = nil
		return false
	})
	return encoded
}
