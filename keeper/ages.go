package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// ages tells how old records are by how long the node has been up since. A wall clock that
// jumps a year ahead must not drop a year of history; time that passes while the node
// is off makes nothing older.
type ages struct {
	clock eventlog.Clock
	boots []boot // that the node's stream knows of, the present one last
}

// boot is one boot of the node.
type boot struct {
	id string
	// lasted is when its last known record was made, since its beginning.
	lasted time.Duration
}

// hostStream has a record of each boot: that a daemon was started.
const hostStream eventlog.Stream = "node"

// readAges finds the boots in the node's stream. A boot lasted at least until the record
// before the next one's first.
func readAges(ctx context.Context, log eventlog.Reader, bootID string, clock eventlog.Clock) (*ages, error) {
	a := &ages{clock: clock}
	for record, err := range log.ReadStream(ctx, hostStream, 1) {
		if passable(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the node's boots: %w", err)
		}
		if n := len(a.boots); n > 0 && a.boots[n-1].id != record.BootID {
			if err := a.ends(ctx, log, record.Sequence); err != nil {
				return nil, err
			}
		}
		a.note(record)
	}
	if n := len(a.boots); n == 0 || a.boots[n-1].id != bootID {
		if err := a.ends(ctx, log, log.Last()+1); err != nil {
			return nil, err
		}
		a.boots = append(a.boots, boot{id: bootID})
	}
	return a, nil
}

// ends finds the last record of a boot before the first one of the next.
func (a *ages) ends(ctx context.Context, log eventlog.Reader, next eventlog.Sequence) error {
	if len(a.boots) == 0 || next < 2 {
		return nil
	}
	last := a.boots[len(a.boots)-1].id
	for record, err := range log.Read(ctx, next-1) {
		switch {
		case passable(err):
			continue
		case err != nil:
			return fmt.Errorf("read the end of boot %s: %w", last, err)
		case record.BootID == last:
			a.note(record)
		}
		return nil
	}
	return nil
}

func (a *ages) note(record eventlog.Record) {
	n := len(a.boots)
	if n == 0 || a.boots[n-1].id != record.BootID {
		a.boots = append(a.boots, boot{record.BootID, record.SinceBoot})
		return
	}
	a.boots[n-1].lasted = max(a.boots[n-1].lasted, record.SinceBoot)
}

// of is how long the node has been up since a record was made, or less. A boot that the node's
// stream no longer knows of was before all that it knows.
func (a *ages) of(record eventlog.Record) time.Duration {
	n := len(a.boots) - 1
	age := a.clock.SinceBoot()
	for i := n; i >= 0; i-- {
		if i < n {
			age += a.boots[i].lasted
		}
		if a.boots[i].id == record.BootID {
			return max(age-record.SinceBoot, 0)
		}
	}
	return max(age, 0)
}

// passable reports whether an error of an iteration is about records that are gone or
// damaged, so that reading goes on behind it.
func passable(err error) bool {
	if errors.Is(err, eventlog.ErrRemoved) {
		return true
	}
	_, damaged := errors.AsType[*eventlog.DamageError](err)
	return damaged
}
