package executors

import (
	"context"
	"net"
	"path/filepath"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors/namespaces"
)

// Dial connects to a port on the loopback of a pod's network; for a pod on the node's
// network, of the node.
func (x *Executor) Dial(ctx context.Context, pod id.Sandbox, hostNetwork bool, port uint16) (*net.TCPConn, error) {
	path := ""
	if !hostNetwork {
		path = filepath.Join(x.namespacesDir(pod), string(namespaces.Network))
	}
	return namespaces.DialLoopback(ctx, path, port)
}
