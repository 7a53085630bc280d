package projections

import (
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

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
	Shown SandboxShown
	// Damage is why its stream cannot be followed; empty if it can. The state is then the
	// last good one.
	Damage string
}

func (s *Sandbox) rank() rank { return rank{s.State.CreatedAt, string(s.State.ID)} }

// Container is a container as of some record of the log. It is never modified.
type Container struct {
	entity.Restored[container.State]
	Shown ContainerShown
	// Damage is why its stream cannot be followed; empty if it can. The state is then the
	// last good one.
	Damage string
}

func (c *Container) rank() rank { return rank{c.State.Request.At, string(c.State.ID)} }

// Image is an image reference as of some record of the log. It is never modified. An
// idle one has the zero State, since nothing later depends on more.
type Image = entity.Restored[image.State]

// Host is the node itself as of some record of the log.
type Host = entity.Restored[host.State]

// Live is the model of everything that has not ended: the states of the machines. It
// answers List and Status, and the node boots from it. Only the feed changes it. Its
// lists are shared between readers and must not be modified.
type Live struct {
	logger *slog.Logger
	// words belong to the feed.
	words words

	// mu is never held for long: records are decoded and folded outside it.
	mu         sync.RWMutex
	sequence   eventlog.Sequence
	sandboxes  index[id.Sandbox, *Sandbox]
	containers index[id.Container, *Container]
	// members are the containers of each sandbox that has any.
	members map[id.Sandbox]*sorted[*Container]
	// busy are the image references with work under way. Idle ones may be many, so
	// only their places are kept.
	busy map[eventlog.Stream]*Image
	idle map[eventlog.Stream]place
	host *Host
	// removed reports whether versions of a stream, from one through another, were
	// removed from the log on purpose. It is the feed's.
	removed func(s eventlog.Stream, from, through eventlog.Version) bool
	// damaged maps the streams that cannot be followed to the reason.
	damaged map[eventlog.Stream]string
	// passedOver counts records of unknown types that could be skipped.
	passedOver atomic.Uint64
}

// newLive returns the model of an empty log.
func newLive(logger *slog.Logger) *Live {
	return &Live{
		logger:     logger,
		words:      words{},
		sandboxes:  newIndex[id.Sandbox, *Sandbox](),
		containers: newIndex[id.Container, *Container](),
		members:    map[id.Sandbox]*sorted[*Container]{},
		busy:       map[eventlog.Stream]*Image{},
		idle:       map[eventlog.Stream]place{},
		host:       &Host{},
		damaged:    map[eventlog.Stream]string{},
	}
}

// Sandbox returns the sandbox with that id, or nil.
func (l *Live) Sandbox(name id.Sandbox) *Sandbox {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sandboxes.byID[name]
}

// Container returns the container with that id, or nil.
func (l *Live) Container(name id.Container) *Container {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.containers.byID[name]
}

// Sandboxes returns all sandboxes that have not ended, in creation order.
func (l *Live) Sandboxes() []*Sandbox {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sandboxes.sorted.all()
}

// Containers returns all containers that have not ended, in creation order.
func (l *Live) Containers() []*Container {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.containers.sorted.all()
}

// All returns everything that has not ended as of one record, and which that is.
func (l *Live) All() (eventlog.Sequence, []*Sandbox, []*Container) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sequence, l.sandboxes.sorted.all(), l.containers.sorted.all()
}

// ContainersOf returns the containers of a sandbox that have not ended, in creation
// order.
func (l *Live) ContainersOf(name id.Sandbox) []*Container {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if members := l.members[name]; members != nil {
		return members.all()
	}
	return nil
}

// Lives reports whether a stream's entity has not ended, or its stream cannot be followed.
// The node's own never ends; an image reference lives while work on it is under way.
func (l *Live) Lives(stream eventlog.Stream) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, damaged := l.damaged[stream]; damaged {
		return true
	}
	kind, name, _ := strings.Cut(string(stream), "/")
	switch kind {
	case "sandbox":
		return l.sandboxes.byID[id.Sandbox(name)] != nil
	case "container":
		return l.containers.byID[id.Container(name)] != nil
	case "image":
		return l.busy[stream] != nil
	default:
		return true
	}
}

// Pulls returns the states of the image references with work under way.
func (l *Live) Pulls() []image.State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var busy []image.State
	for _, at := range l.busy {
		busy = append(busy, at.State)
	}
	return busy
}

// Damaged returns the streams that cannot be followed, and why.
func (l *Live) Damaged() map[eventlog.Stream]string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return maps.Clone(l.damaged)
}

// PassedOver is how many records the model has skipped since it was made, because a newer version
// wrote them and marked them so.
func (l *Live) PassedOver() uint64 { return l.passedOver.Load() }

// Sequence is the last record that the model includes.
func (l *Live) Sequence() eventlog.Sequence {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sequence
}

// reached notes that the model includes everything up to a record.
func (l *Live) reached(s eventlog.Sequence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence = s
}

// apply makes a record's change.
func (l *Live) apply(c *Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence = c.Record.Sequence
	switch what := c.What.(type) {
	case SandboxChanged:
		if what.Ended {
			l.sandboxes.remove(what.After.State.ID)
			break
		}
		l.sandboxes.put(what.After.State.ID, what.After)
	case ContainerChanged:
		if what.Ended {
			l.removeContainer(what.After.State.ID)
			break
		}
		l.putContainer(what.After)
	case ImageChanged:
		l.putImage(c.Record.Stream, what.After, what.Idle)
	case HostChanged:
		l.host = what.After
		if closed, is := what.Event.(host.StreamClosed); is {
			l.close(eventlog.Stream(closed.Stream))
		}
	case StreamPutAside:
		l.putAside(c.Record.Stream, what.Reason)
	}
}

func (l *Live) putContainer(c *Container) {
	l.containers.put(c.State.ID, c)
	members := l.members[c.State.Sandbox]
	if members == nil {
		members = &sorted[*Container]{}
		l.members[c.State.Sandbox] = members
	}
	members.put(c)
}

func (l *Live) removeContainer(name id.Container) {
	was := l.containers.byID[name]
	if was == nil {
		return
	}
	l.containers.remove(name)
	members := l.members[was.State.Sandbox]
	members.remove(was)
	if len(members.items) == 0 {
		delete(l.members, was.State.Sandbox)
	}
}

// putAside keeps the last good state of a stream: what may run must not be forgotten.
func (l *Live) putAside(stream eventlog.Stream, reason string) {
	l.damaged[stream] = reason
	l.markDamaged(stream)
	l.logger.Error("stream cannot be followed", "stream", string(stream), "error", reason)
}

// markDamaged marks the entity of a stream that cannot be followed.
func (l *Live) markDamaged(stream eventlog.Stream) {
	kind, name, _ := strings.Cut(string(stream), "/")
	switch kind {
	case "sandbox":
		if was := l.sandboxes.byID[id.Sandbox(name)]; was != nil {
			now := *was
			now.Damage = l.damaged[stream]
			l.sandboxes.put(id.Sandbox(name), &now)
		}
	case "container":
		if was := l.containers.byID[id.Container(name)]; was != nil {
			now := *was
			now.Damage = l.damaged[stream]
			l.putContainer(&now)
		}
	case "image":
		delete(l.busy, stream)
		delete(l.idle, stream)
	}
}

// close forgets a stream that cannot be followed, once nothing is left of what it was
// about.
func (l *Live) close(stream eventlog.Stream) {
	delete(l.damaged, stream)
	kind, name, _ := strings.Cut(string(stream), "/")
	switch kind {
	case "sandbox":
		l.sandboxes.remove(id.Sandbox(name))
	case "container":
		l.removeContainer(id.Container(name))
	}
}
