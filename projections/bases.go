package projections

import (
	"context"
	"fmt"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/eventlog"
	statepb "github.com/stele-runtime/stele/proto/state/v1"
)

// takeBases begins each stream whose beginning was trimmed at its base, unless a checkpoint
// has seen more of it.
func (f *Feed) takeBases(ctx context.Context) error {
	for info, err := range f.log.Streams(ctx, "") {
		if err != nil {
			if f.passedOver(err) {
				continue
			}
			return fmt.Errorf("list the log's streams: %w", err)
		}
		if base := info.Base; base.Version > 0 && base.Sequence > f.Live.sequence {
			f.Live.begin(info.Stream, base)
		}
	}
	return nil
}

// begin gives a stream the state that stands in for its trimmed records.
func (l *Live) begin(stream eventlog.Stream, base eventlog.Base) {
	err := codec.CheckState(base.Schema)
	if err == nil {
		err = l.restore(&statepb.Entity{
			Stream: string(stream), Version: uint64(base.Version), Sequence: uint64(base.Sequence), State: base.State,
		})
	}
	if err != nil {
		l.putAside(stream, fmt.Sprintf("its base at version %d: %v", base.Version, err))
	}
}
