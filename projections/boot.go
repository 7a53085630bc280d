package projections

import (
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Past is what the node boots from: the state of everything that has not ended.
type Past struct {
	Sandboxes  map[id.Sandbox]entity.Restored[sandbox.State]
	Containers map[id.Container]entity.Restored[container.State]
	// Images holds only the references that something is under way for.
	Images map[string]entity.Restored[image.State]
	Host   entity.Restored[host.State]
}

// Past returns the states at the model's sequence.
func (l *Live) Past() Past {
	l.mu.RLock()
	defer l.mu.RUnlock()
	past := Past{
		Sandboxes:  map[id.Sandbox]entity.Restored[sandbox.State]{},
		Containers: map[id.Container]entity.Restored[container.State]{},
		Images:     map[string]entity.Restored[image.State]{},
		Host:       *l.host,
	}
	for name, s := range l.sandboxes.byID {
		past.Sandboxes[name] = s.Restored
	}
	for name, c := range l.containers.byID {
		past.Containers[name] = c.Restored
	}
	for _, at := range l.busy {
		past.Images[at.State.Ref] = *at
	}
	return past
}
