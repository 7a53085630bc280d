package projections

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Sandbox is a sandbox as of some record of the log. It is never modified.
type Sandbox struct {
	entity.Restored[sandbox.State]
	// Config is the CRI's configuration of the sandbox.
	Config *runtimeapi.PodSandboxConfig
}

// Container is a container as of some record of the log. It is never modified.
type Container struct {
	entity.Restored[container.State]
	// Config is the CRI's configuration of the container.
	Config *runtimeapi.ContainerConfig
}

// Live is the model of everything that has not ended: the states of the
// machines. It answers List and Status, and the node boots from it.
type Live struct {
	logger *slog.Logger

	mu         sync.RWMutex
	sequence   eventlog.Sequence
	sandboxes  map[id.Sandbox]*Sandbox
	containers map[id.Container]*Container
	// images maps a stream to the state of its reference.
	images map[eventlog.Stream]entity.Restored[image.State]
	host   entity.Restored[host.State]
	// damaged maps the streams that cannot be followed to the reason.
	damaged map[eventlog.Stream]string
}

// NewLive returns the model of an empty log.
func NewLive(logger *slog.Logger) *Live {
	return &Live{
		logger:     logger,
		sandboxes:  map[id.Sandbox]*Sandbox{},
		containers: map[id.Container]*Container{},
		images:     map[eventlog.Stream]entity.Restored[image.State]{},
		damaged:    map[eventlog.Stream]string{},
	}
}

// apply takes in the next record of the log. A record that cannot be understood
// puts its stream aside; the others go on.
func (l *Live) apply(record eventlog.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence = record.Sequence
	if _, damaged := l.damaged[record.Stream]; damaged {
		return
	}
	if err := l.fold(record); err != nil {
		l.putAside(record.Stream, err)
	}
}

func (l *Live) putAside(stream eventlog.Stream, err error) {
	l.damaged[stream] = err.Error()
	kind, name, _ := strings.Cut(string(stream), "/")
	switch kind {
	case "sandbox":
		delete(l.sandboxes, id.Sandbox(name))
	case "container":
		delete(l.containers, id.Container(name))
	case "image":
		delete(l.images, stream)
	}
	l.logger.Error("stream cannot be followed", "stream", string(stream), "error", err)
}

func (l *Live) fold(record eventlog.Record) error {
	kind, name, _ := strings.Cut(string(record.Stream), "/")
	switch kind {
	case "sandbox":
		return l.foldSandbox(id.Sandbox(name), record)
	case "container":
		return l.foldContainer(id.Container(name), record)
	case "image":
		next, err := follow(l.images[record.Stream], record, codec.DecodeImage, image.Evolve)
		if err != nil {
			return err
		}
		l.images[record.Stream] = next
	case "node":
		next, err := follow(l.host, record, codec.DecodeHost, host.Evolve)
		if err != nil {
			return err
		}
		l.host = next
	default:
		return fmt.Errorf("unknown kind of stream %q", kind)
	}
	return nil
}

func (l *Live) foldSandbox(name id.Sandbox, record eventlog.Record) error {
	was := l.sandboxes[name]
	if was == nil {
		was = &Sandbox{}
	}
	next, err := follow(was.Restored, record, codec.DecodeSandbox, sandbox.Evolve)
	if err != nil {
		return err
	}
	if sandbox.Ended(next.State) {
		delete(l.sandboxes, name)
		return nil
	}
	now := &Sandbox{Restored: next, Config: was.Config}
	if now.Config == nil {
		if now.Config, err = sandboxConfig(next.State); err != nil {
			return err
		}
	}
	l.sandboxes[name] = now
	return nil
}

func (l *Live) foldContainer(name id.Container, record eventlog.Record) error {
	was := l.containers[name]
	if was == nil {
		was = &Container{}
	}
	next, err := follow(was.Restored, record, codec.DecodeContainer, container.Evolve)
	if err != nil {
		return err
	}
	if container.Ended(next.State) {
		delete(l.containers, name)
		return nil
	}
	now := &Container{Restored: next, Config: was.Config}
	if now.Config == nil {
		if now.Config, err = containerConfig(next.State); err != nil {
			return err
		}
	}
	l.containers[name] = now
	return nil
}

// follow evolves a state by one record, which must be the stream's next: a gap
// would make a past that never was.
func follow[S, E any](was entity.Restored[S], record eventlog.Record, decode func(string, uint32, []byte) (E, error), evolve func(S, E) S) (entity.Restored[S], error) {
	if record.Version != was.Version+1 {
		return was, fmt.Errorf("version %d follows version %d", record.Version, was.Version)
	}
	event, err := decode(record.Type, record.Schema, record.Payload)
	if err != nil {
		return was, fmt.Errorf("version %d: %w", record.Version, err)
	}
	return entity.As(record, evolve(was.State, event)), nil
}

func sandboxConfig(s sandbox.State) (*runtimeapi.PodSandboxConfig, error) {
	config := &runtimeapi.PodSandboxConfig{}
	if err := proto.Unmarshal(s.Config, config); err != nil {
		return nil, fmt.Errorf("decode the configuration of sandbox %s: %w", s.ID, err)
	}
	return config, nil
}

func containerConfig(s container.State) (*runtimeapi.ContainerConfig, error) {
	config := &runtimeapi.ContainerConfig{}
	if err := proto.Unmarshal(s.Request.Config, config); err != nil {
		return nil, fmt.Errorf("decode the configuration of container %s: %w", s.ID, err)
	}
	return config, nil
}

// Sandbox returns the sandbox with that id, or nil.
func (l *Live) Sandbox(name id.Sandbox) *Sandbox {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sandboxes[name]
}

// Container returns the container with that id, or nil.
func (l *Live) Container(name id.Container) *Container {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.containers[name]
}

// Sandboxes returns every sandbox that has not ended, in the order of creation.
func (l *Live) Sandboxes() []*Sandbox {
	l.mu.RLock()
	all := slices.Collect(maps.Values(l.sandboxes))
	l.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Sandbox) int {
		return firstOf(a.State.CreatedAt.Compare(b.State.CreatedAt), strings.Compare(string(a.State.ID), string(b.State.ID)))
	})
	return all
}

// Containers returns every container that has not ended, in the order of
// creation.
func (l *Live) Containers() []*Container {
	l.mu.RLock()
	all := slices.Collect(maps.Values(l.containers))
	l.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Container) int {
		return firstOf(a.State.Request.At.Compare(b.State.Request.At), strings.Compare(string(a.State.ID), string(b.State.ID)))
	})
	return all
}

func firstOf(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// Pulls returns the states of the image references that something is under way
// for.
func (l *Live) Pulls() []image.State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var busy []image.State
	for _, at := range l.images {
		if !image.Ended(at.State) {
			busy = append(busy, at.State)
		}
	}
	return busy
}

// Damaged returns the streams that cannot be followed, with the reasons.
func (l *Live) Damaged() map[eventlog.Stream]string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return maps.Clone(l.damaged)
}

// Sequence is the last record that the model has taken in.
func (l *Live) Sequence() eventlog.Sequence {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sequence
}
