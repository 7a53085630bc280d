package boltlog

import (
	"context"
	"fmt"

	"github.com/stele-runtime/stele/eventlog"
)

// Compact implements eventlog.Log.
func (l *Log) Compact(ctx context.Context) error {
	return fmt.Errorf("%w: compaction", eventlog.ErrUnavailable)
}
