package node

import (
	"fmt"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// names keeps names unique: no two entities that have not ended share one.
type names struct {
	owners map[string]eventlog.Stream
	named  map[eventlog.Stream]string
}

func newNames() names {
	return names{owners: map[string]eventlog.Stream{}, named: map[eventlog.Stream]string{}}
}

// claim gives a name to a stream, unless another one has it, and returns its owner.
func (n names) claim(name string, stream eventlog.Stream) eventlog.Stream {
	if owner, taken := n.owners[name]; taken {
		return owner
	}
	n.owners[name], n.named[stream] = stream, name
	return stream
}

func (n names) free(stream eventlog.Stream) {
	if name, has := n.named[stream]; has {
		delete(n.named, stream)
		delete(n.owners, name)
	}
}

func (n names) has(stream eventlog.Stream) bool {
	_, has := n.named[stream]
	return has
}

func sandboxName(name sandbox.Name) string {
	return fmt.Sprintf("sandbox %q %q %q %d", name.Namespace, name.Name, name.UID, name.Attempt)
}

func containerName(s id.Sandbox, name container.Name) string {
	return fmt.Sprintf("container %q %q %d", s, name.Name, name.Attempt)
}
