package projections

import (
	"slices"
	"sync"
	"time"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// historyKept is how many ended streams are remembered, at some 400 bytes each.
const historyKept = 10_000

// Ended is a stream that is complete: its sandbox or container is gone, or its creation
// failed.
type Ended struct {
	Stream eventlog.Stream
	// Sandbox is the sandbox, or the container's.
	Sandbox id.Sandbox
	// Container is empty for a sandbox.
	Container id.Container
	// Pod is the pod's name; empty for a container whose sandbox was unknown when the
	// container ended. ContainerName is empty for a sandbox.
	Pod           sandbox.Name
	ContainerName container.Name
	// Failed: the creation failed.
	Failed bool
	// Version, Sequence and EndedAt (wall time) are those of the stream's last record.
	Version   eventlog.Version
	Sequence  eventlog.Sequence
	CreatedAt time.Time
	EndedAt   time.Time
}

// History remembers what has ended, the last historyKept streams.
type History struct {
	mu sync.RWMutex
	// ended is in the order of the last records. It is only cut at the front and
	// appended to, so that lists that were handed out never change.
	ended []*Ended
}

// Ended returns what is remembered, in the order of the last records. It must not be
// modified.
func (h *History) Ended() []*Ended {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.ended[:len(h.ended):len(h.ended)]
}

// apply remembers what a record has ended. pod is a container's sandbox, or nil. It
// returns what was added, and what was dropped for it; either may be nil.
func (h *History) apply(c *Change, pod *Sandbox) (added, dropped *Ended) {
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
		} else {
			e.Pod = h.podOf(s.Sandbox)
		}
	case ImageChanged, HostChanged, StreamPutAside:
		return nil, nil
	}
	return e, h.add(e)
}

// podOf is the name of the pod of a sandbox that has ended, if that is remembered.
func (h *History) podOf(s id.Sandbox) sandbox.Name {
	for _, e := range slices.Backward(h.Ended()) {
		if e.Sandbox == s && e.Container == "" {
			return e.Pod
		}
	}
	return sandbox.Name{}
}

// add remembers an ended stream and returns the one dropped for it, or nil.
func (h *History) add(e *Ended) (dropped *Ended) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, e)
	if len(h.ended) > historyKept {
		dropped, h.ended = h.ended[0], h.ended[1:]
	}
	return dropped
}
