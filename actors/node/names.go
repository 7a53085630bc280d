package node

import (
	"cmp"
	"crypto/sha256"
	"fmt"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
)

// names keeps names unique: no two entities that have not ended share one. It keeps digests:
// names may be long, and are not asked for.
type names struct {
	owners map[digest]eventlog.Stream
	named  map[eventlog.Stream]digest
}

// digest is the first half of a name's SHA-256.
type digest [sha256.Size / 2]byte

func newNames() names {
	return names{owners: map[digest]eventlog.Stream{}, named: map[eventlog.Stream]digest{}}
}

// claim gives a name to a stream, unless another one has it, and returns its owner.
func (n names) claim(name string, stream eventlog.Stream) eventlog.Stream {
	sum := sha256.Sum256([]byte(name))
	d := digest(sum[:sha256.Size/2])
	if owner, taken := n.owners[d]; taken {
		return owner
	}
	n.owners[d], n.named[stream] = stream, d
	return stream
}

// packed is a copy that shares its streams' names with entities.
func (n names) packed(entities map[eventlog.Stream]*entityRef) names {
	of := make(map[eventlog.Stream]eventlog.Stream, len(entities))
	for stream := range entities {
		of[stream] = stream
	}
	copied := names{owners: make(map[digest]eventlog.Stream, len(n.owners)), named: make(map[eventlog.Stream]digest, len(n.named))}
	for stream, d := range n.named {
		stream = cmp.Or(of[stream], stream)
		copied.owners[d], copied.named[stream] = stream, d
	}
	return copied
}

func (n names) free(stream eventlog.Stream) {
	if d, has := n.named[stream]; has {
		delete(n.named, stream)
		delete(n.owners, d)
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
