package codec

import (
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// stateCodec is a machine's pair of functions with the machine's type left out.
type stateCodec struct {
	of     reflect.Type
	encode func(state any) ([]byte, error)
	decode func([]byte) (any, error)
}

func stateCodecOf[S any](encode func(S) ([]byte, error), decode func([]byte) (S, error)) stateCodec {
	return stateCodec{
		of:     reflect.TypeFor[S](),
		encode: func(state any) ([]byte, error) { return encode(state.(S)) },
		decode: func(b []byte) (any, error) { return decode(b) },
	}
}

func stateCodecs() map[string]stateCodec {
	return map[string]stateCodec{
		"sandbox":   stateCodecOf[sandbox.State](EncodeSandboxState, DecodeSandboxState),
		"container": stateCodecOf[container.State](EncodeContainerState, DecodeContainerState),
		"image":     stateCodecOf[image.State](EncodeImageState, DecodeImageState),
		"node":      stateCodecOf[host.State](EncodeHostState, DecodeHostState),
	}
}

// TestStateRoundTrip: every field of every state is read back as it was written.
func TestStateRoundTrip(t *testing.T) {
	for name, c := range stateCodecs() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				v := reflect.New(c.of).Elem()
				draw(t, v, name, rapid.String())
				b, err := c.encode(v.Interface())
				if err != nil {
					t.Fatal(err)
				}
				got, err := c.decode(b)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, v.Interface()) {
					t.Fatalf("read back as\n%+v\nwant\n%+v", got, v.Interface())
				}
			})
		})
	}
}

// TestStateTakesAnyBytes: a state that cannot be kept would end all checkpoints.
func TestStateTakesAnyBytes(t *testing.T) {
	bytes := rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) })
	for name, c := range stateCodecs() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				v := reflect.New(c.of).Elem()
				draw(t, v, name, bytes)
				b, err := c.encode(v.Interface())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.decode(b); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestNoState(t *testing.T) {
	for name, c := range stateCodecs() {
		var bad *StateError
		if _, err := c.decode([]byte{0xff}); !errors.As(err, &bad) || bad.Kind != name || bad.Unwrap() == nil {
			t.Errorf("%s: got %v, want a StateError that names it and holds the cause", name, err)
		}
		got, err := c.decode(nil)
		if err != nil || !reflect.DeepEqual(got, reflect.Zero(c.of).Interface()) {
			t.Errorf("%s: nothing is read as %+v, %v", name, got, err)
		}
	}
}
