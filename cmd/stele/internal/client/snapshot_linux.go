package client

import (
	"context"

	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/projections"
)

// verifyRoot compares the snapshot in a stopped daemon's log with a fold of the records.
func verifyRoot(ctx context.Context, path string) (Verdict, error) {
	log, err := boltlog.OpenReadOnly(path)
	if err != nil {
		return Verdict{}, err
	}
	defer func() { _ = log.Close() }() // read-only
	c, err := projections.CompareSnapshot(ctx, log)
	return Verdict{
		Of: "the snapshot", Sequence: uint64(c.Sequence), Difference: c.Difference, Pods: c.Pods, Containers: c.Containers, Records: c.Records, Dropped: c.Dropped,
	}, err
}
