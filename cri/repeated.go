package cri

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"
)

// repeated keeps the last answer of a List call without a filter, encoded. A kubelet lists
// everything once a second, and mostly finds what it found before: encoding it each time makes a
// KiB of garbage for each pod.
type repeated[T comparable] struct {
	mu sync.Mutex
	// of is what encoded was made of; its elements never change.
	of      []T
	encoded []byte
	made    bool
}

// answer is the message that list returns for such elements. Its fields are where only an
// encoder finds them: among those that this version of the message does not know.
func (r *repeated[T]) answer(of []T, into proto.Message, list func() proto.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.made || !slices.Equal(of, r.of) {
		encoded, err := proto.Marshal(list())
		if err != nil {
			return err
		}
		r.of, r.encoded, r.made = of, encoded, true
	}
	into.ProtoReflect().SetUnknown(r.encoded)
	return nil
}

// unfiltered reports whether a filter lets everything pass.
func unfiltered(filter proto.Message) bool { return proto.Size(filter) == 0 }
