package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/stele-runtime/stele/actors/host"
)

// maxReports bounds the queue.
const maxReports = 64

// Reports queues what drivers notice for the node's stream. Drivers start before the
// actors and must not wait for them.
type Reports struct{ commands chan host.Command }

// NewReports returns an empty queue.
func NewReports() *Reports { return &Reports{commands: make(chan host.Command, maxReports)} }

// Put never blocks. It drops reports while the queue is full.
func (r *Reports) Put(c host.Command) {
	select {
	case r.commands <- c:
	default:
	}
}

// Record records reports in the node's stream until ctx is done.
func (r *Reports) Record(ctx context.Context, actors Actors, logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-r.commands:
			if err := actors.Host(ctx, c); err != nil && ctx.Err() == nil {
				logger.Warn("report not recorded", "report", fmt.Sprintf("%+v", c), "error", err)
			}
		}
	}
}
