package keeper

import (
	"context"
	"errors"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// cursor goes through the log behind a rule: it has seen every record before next, and
// removed what was due.
type cursor struct {
	next eventlog.Sequence
}

// biteRecords bounds what one step reads.
const biteRecords = 512

// bite reads on from a cursor, as long as records are due and take wants more, up to a record.
// The cursor has not moved yet: advance is where it goes once what
// take has found is removed. due says how long to wait for a record, 0 if it is due.
func (k *Keeper) bite(ctx context.Context, from, through eventlog.Sequence, due func(eventlog.Record) time.Duration, take func(eventlog.Record) (more bool, err error)) (b bitten, err error) {
	b.next = max(from, 1)
	read := 0
	for record, err := range k.log.Read(ctx, b.next) {
		if passable(err) {
			b.next = max(b.next, behind(err))
			continue
		}
		if err != nil {
			return b, err
		}
		if record.Sequence > through {
			return b, nil
		}
		if b.wait = due(record); b.wait > 0 {
			return b, nil
		}
		more, err := take(record)
		if err != nil {
			return b, err
		}
		b.next = record.Sequence + 1
		if read++; !more || read == biteRecords {
			b.more = true
			return b, nil
		}
	}
	return b, nil
}

// bitten is what became of a bite.
type bitten struct {
	next eventlog.Sequence
	// more: it ended before a record that may be due.
	more bool
	// wait is how long until the next record is due, 0 if there is none.
	wait time.Duration
}

// behind is the sequence behind the records that an error is about, 0 if it is about none.
func behind(err error) eventlog.Sequence {
	if gap, is := errors.AsType[*eventlog.GapError](err); is {
		return gap.Last + 1
	}
	if damage, is := errors.AsType[*eventlog.DamageError](err); is && damage.Sequence > 0 {
		return max(damage.Sequence, damage.Through) + 1
	}
	return 0
}
