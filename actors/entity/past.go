package entity

import (
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// Past is what a node boots from: the states of everything that has not ended, as of the
// end of the log. It is defined here because the projections make it, the node uses it,
// and neither may import the other.
type Past struct {
	Sandboxes  map[id.Sandbox]Restored[sandbox.State]
	Containers map[id.Container]Restored[container.State]
	// Images holds the references with work under way.
	Images map[string]Restored[image.State]
	Host   Restored[host.State]
	// Damaged are the streams that cannot be read to their end, and why. The states above
	// are those before the damage; a stream damaged from its beginning has none.
	Damaged map[eventlog.Stream]string
}
