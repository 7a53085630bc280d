package projections

import (
	"strings"
	"sync"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// historyKept is how many ended streams are remembered. A sandbox and a container take
// some 400 bytes each.
const historyKept = 10_000

// Ended is a stream to which nothing will be added: that of a sandbox or container
// which is gone, or never came to be.
type Ended struct {
	Stream eventlog.Stream
	// Sandbox is the sandbox, or the one that the container was in.
	Sandbox id.Sandbox
	// Container is empty for a sandbox.
	Container id.Container
	// Pod is the pod's name; empty for a container whose sandbox was not live when the
	// container ended. ContainerName is the container's name in it.
	Pod           sandbox.Name
	ContainerName container.Name
	// Failed: it never came to be.
	Failed bool
	// Version and Sequence are those of the stream's last record, EndedAt is its wall
	// time.
	Version   eventlog.Version
	Sequence  eventlog.Sequence
	CreatedAt time.Time
	EndedAt   time.Time
}

// named reports whether a person means it by the beginning of an id (its own or, for a
// container, its sandbox's) or by the pod's name.
func (e *Ended) named(name string) bool {
	return strings.HasPrefix(string(e.Container), name) || strings.HasPrefix(string(e.Sandbox), name) || e.Pod.Name == name
}

// History remembers what has ended, the last historyKept streams.
type History struct {
	mu sync.RWMutex
	// ended is in the order of the last records. A list that was handed out is never
	// modified, only added to.
	ended []*Ended
}

// Ended returns what has ended and is remembered, in the order of the last records. It
// must not be modified.
func (h *History) Ended() []*Ended {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.ended[:len(h.ended):len(h.ended)]
}

// Find returns what a person may mean by a name: the beginning of the id of a sandbox
// or container, or a pod's name. A sandbox comes with its containers.
func (h *History) Find(name string) []*Ended {
	if name == "" {
		return nil
	}
	var found []*Ended
	for _, e := range h.Ended() {
		if e.named(name) {
			found = append(found, e)
		}
	}
	return found
}

// apply remembers what a record has ended. pod is the sandbox of a container; it may be
// nil. It returns what came and what is forgotten for it, nil for nothing.
func (h *History) apply(c *Change, pod *Sandbox) (came, gone *Ended) {
	e := &Ended{Stream: c.Record.Stream, Version: c.Record.Version, Sequence: c.Record.Sequence, EndedAt: c.Record.Time}
	switch what := c.What.(type) {
	case SandboxChanged:
		if !what.Ended {
			return nil, nil
		}
		s := what.After.State
		e.Sandbox, e.Pod, e.CreatedAt, e.Failed = s.ID, s.Name, s.CreatedAt, s.Phase == sandbox.Failed
	case ContainerChanged:
		if !what.Ended {
			return nil, nil
		}
		s := what.After.State
		e.Sandbox, e.Container, e.ContainerName, e.CreatedAt, e.Failed = s.Sandbox, s.ID, s.Name, s.Request.At, s.Phase == container.Failed
		if pod != nil {
			e.Pod = pod.State.Name
		}
	case ImageChanged, HostChanged, StreamPutAside:
		return nil, nil
	}
	return e, h.add(e)
}

// add remembers an ended stream and returns the one that is forgotten for it, or nil.
func (h *History) add(e *Ended) (gone *Ended) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, e)
	if len(h.ended) > historyKept {
		gone, h.ended = h.ended[0], h.ended[1:]
	}
	return gone
}
