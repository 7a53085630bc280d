package projections

import (
	"maps"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/entity"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Past returns what the node boots from, at the model's sequence.
func (l *Live) Past() entity.Past {
	l.mu.RLock()
	defer l.mu.RUnlock()
	past := entity.Past{
		Sandboxes:  map[id.Sandbox]entity.Restored[sandbox.State]{},
		Containers: map[id.Container]entity.Restored[container.State]{},
		Images:     map[string]entity.Restored[image.State]{},
		Host:       *l.host,
		Damaged:    maps.Clone(l.damaged),
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
