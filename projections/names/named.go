package names

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// Named is a pod or a container that the log knows, or knew.
type Named struct {
	Stream eventlog.Stream
	// Sandbox is the sandbox, or the container's; Container is empty for a sandbox.
	Sandbox   id.Sandbox
	Container id.Container
	// Pod is the pod's name, Name the container's.
	Pod  sandbox.Name
	Name container.Name
	// Sequence is the place of its first record in the log, and At the wall time of that.
	Sequence eventlog.Sequence
	At       time.Time
}

// begins reports whether a record of that type begins a pod or a container.
func begins(recordType string) bool {
	return strings.HasPrefix(recordType, "sandbox.SandboxRequested.") || strings.HasPrefix(recordType, "container.ContainerRequested.")
}

// named returns what a record begins; false if it begins nothing, or cannot be read.
func named(r eventlog.Record) (Named, bool) {
	n := Named{Stream: r.Stream, Sequence: r.Sequence, At: r.Time}
	switch {
	case !begins(r.Type):
		return n, false
	case strings.HasPrefix(r.Type, "sandbox."):
		e, err := codec.DecodeSandbox(r.Type, r.Schema, r.Payload)
		requested, is := e.(sandbox.SandboxRequested)
		if err != nil || !is {
			return n, false
		}
		n.Sandbox, n.Pod = requested.ID, requested.Name
	default:
		e, err := codec.DecodeContainer(r.Type, r.Schema, r.Payload)
		requested, is := e.(container.ContainerRequested)
		if err != nil || !is {
			return n, false
		}
		n.Sandbox, n.Container, n.Name, n.Pod = requested.Sandbox, requested.ID, requested.Name, podOf(requested.SandboxConfig)
	}
	return n, true
}

// podOf is a pod's name by its configuration.
func podOf(config []byte) sandbox.Name {
	pod := &runtimeapi.PodSandboxConfig{}
	if proto.Unmarshal(config, pod) != nil {
		return sandbox.Name{}
	}
	m := pod.GetMetadata()
	return sandbox.Name{Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUid(), Attempt: m.GetAttempt()}
}

// key is that of a record's pair: they are in the order of the log.
func key(s eventlog.Sequence) string { return fmt.Sprintf("%020d", s) }

func (n Named) value() ([]byte, error) {
	clean := func(s string) string { return strings.ToValidUTF8(s, "�") }
	return proto.Marshal(&statepb.Named{
		Stream: string(n.Stream), Sandbox: clean(string(n.Sandbox)), Container: clean(string(n.Container)),
		Pod: clean(n.Pod.Name), Namespace: clean(n.Pod.Namespace), Uid: clean(n.Pod.UID), Attempt: n.Pod.Attempt,
		ContainerName: clean(n.Name.Name), ContainerAttempt: n.Name.Attempt,
		Sequence: uint64(n.Sequence), At: timestamppb.New(n.At),
	})
}

func parse(value []byte) (Named, error) {
	m := &statepb.Named{}
	if err := proto.Unmarshal(value, m); err != nil {
		return Named{}, err
	}
	return Named{
		Stream: eventlog.Stream(m.GetStream()), Sandbox: id.Sandbox(m.GetSandbox()), Container: id.Container(m.GetContainer()),
		Pod:      sandbox.Name{Name: m.GetPod(), Namespace: m.GetNamespace(), UID: m.GetUid(), Attempt: m.GetAttempt()},
		Name:     container.Name{Name: m.GetContainerName(), Attempt: m.GetContainerAttempt()},
		Sequence: eventlog.Sequence(m.GetSequence()), At: m.GetAt().AsTime(),
	}, nil
}
