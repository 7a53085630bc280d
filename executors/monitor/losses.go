package monitor

import (
	"context"
	"iter"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// Loss is output that could not be written to a container's log.
type Loss struct {
	ContainerID string
	// Bytes is the total lost since the container was created.
	Bytes uint64
	// Reason is the last error.
	Reason string
}

// Losses yields what containers have lost of their output: first one for each that
// has lost any, then one whenever a total has changed. It ends when ctx or the Client
// does. Only one loop at a time should range over it. A monitor that is too old
// yields nothing.
func (c *Client) Losses(ctx context.Context) iter.Seq[Loss] {
	request := &pb.Request{Call: &pb.Request_Losses{Losses: &pb.Losses{}}}
	return func(yield func(Loss) bool) {
		known := map[string]uint64{}
		c.subscribe(ctx, subscription{"losses of output", versionTerminals, request}, func(reply *pb.Reply) bool {
			l := reply.GetLoss()
			if l == nil || known[l.ContainerId] == l.Bytes {
				return true
			}
			known[l.ContainerId] = l.Bytes
			return yield(Loss{ContainerID: l.ContainerId, Bytes: l.Bytes, Reason: l.Reason})
		})
	}
}
