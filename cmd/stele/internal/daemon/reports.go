package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/stele-runtime/stele/actors/host"
)

// maxReports bounds the reports that wait for the node's stream.
const maxReports = 64

// Reports carries what drivers notice to the node's stream. Drivers begin before the
// actors do and must not wait for them.
type Reports struct{ commands chan host.Command }

// NewReports returns a Reports that holds what it gets until Record runs.
func NewReports() *Reports { return &Reports{commands: make(chan host.Command, maxReports)} }

// Put never blocks; a flood of reports loses its tail.
func (r *Reports) Put(c host.Command) {
	select {
	case r.commands <- c:
	default:
	}
}

// Record brings reports to the node's stream until ctx is done.
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
