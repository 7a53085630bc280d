package entity

import (
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

// Past is what a node boots from: the states of everything that has not ended, at the
// end of the log. It stands here because the projections make it and the node takes it,
// and neither may know the other.
type Past struct {
	Sandboxes  map[id.Sandbox]Restored[sandbox.State]
	Containers map[id.Container]Restored[container.State]
	// Images holds, by reference, only those that something is under way for.
	Images map[string]Restored[image.State]
	Host   Restored[host.State]
}
