package eventlog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ErrRemoved: records were removed on purpose, by Trim or Thin. It is a notice, not
// damage. See GapError.
var ErrRemoved = errors.New("records were removed from the event log")

// Removal is what the log keeps of a run of records that were removed. Neighbouring runs
// become one: the times of the whole are a range, the rules a sum.
type Removal struct {
	First, Last Sequence // of the first and the last record of the run

	// When the run's first and last removal took place, by the wall clock; zero if that
	// is not known.
	Since, Until time.Time

	Rules Rules
}

// Rules count removed records by the rule that removed them.
type Rules map[string]uint64

// UnknownRule is the rule of what was removed before the log kept rules.
const UnknownRule = "unknown"

// Total is how many records were removed.
func (r Rules) Total() (n uint64) {
	for _, records := range r {
		n += records
	}
	return n
}

// With returns the sum of two counts; neither is changed.
func (r Rules) With(other Rules) Rules {
	sum := make(Rules, len(r)+len(other))
	maps.Copy(sum, r)
	for rule, records := range other {
		sum[rule] += records
	}
	return sum
}

// String is such as "3212 by settled, 40 by age".
func (r Rules) String() string {
	var parts []string
	for _, rule := range slices.Sorted(maps.Keys(r)) {
		parts = append(parts, fmt.Sprintf("%d by %s", r[rule], rule))
	}
	return strings.Join(parts, ", ")
}

// Join returns the run that two neighbouring ones make; a zero one adds nothing.
func (r Removal) Join(other Removal) Removal {
	switch {
	case other.Last == 0:
		return r
	case r.Last == 0:
		return other
	}
	joined := Removal{
		First: min(r.First, other.First), Last: max(r.Last, other.Last),
		Since: r.Since, Until: r.Until, Rules: r.Rules.With(other.Rules),
	}
	if !other.Since.IsZero() && (joined.Since.IsZero() || other.Since.Before(joined.Since)) {
		joined.Since = other.Since
	}
	if other.Until.After(joined.Until) {
		joined.Until = other.Until
	}
	return joined
}

// GapError is a run of removed records that a reader comes across. It is an ErrRemoved:
// the iteration continues after it.
type GapError struct {
	Removal

	// Of ReadStream only. From and Through are the versions of the run. Base is not 0 if
	// the run begins with what the stream's base stands in for, through this version: a
	// reader that rebuilds the stream's state must start there. Versions beyond Base do
	// not matter to the state.
	Stream              Stream
	From, Through, Base Version
}

// Records is how many records the run has.
func (e *GapError) Records() uint64 {
	if e.Stream != "" {
		return uint64(e.Through-e.From) + 1
	}
	return uint64(e.Last-e.First) + 1
}

func (e *GapError) Error() string {
	var where strings.Builder
	if e.Stream != "" {
		fmt.Fprintf(&where, "versions %d to %d of stream %q", e.From, e.Through, e.Stream)
	} else {
		fmt.Fprintf(&where, "records %d to %d", e.First, e.Last)
	}
	switch since, until := e.Since.Format(time.RFC3339), e.Until.Format(time.RFC3339); {
	case e.Until.IsZero():
	case since == until:
		fmt.Fprintf(&where, " at %s", since)
	default:
		fmt.Fprintf(&where, " from %s to %s", since, until)
	}
	return fmt.Sprintf("%v: %s: %v", ErrRemoved, where.String(), e.Rules)
}

// Is makes errors.Is(err, ErrRemoved) true.
func (e *GapError) Is(target error) bool { return target == ErrRemoved }

// Join returns the run that a reader sees if it comes across two neighbouring ones, one
// after the other, or across the same one that has grown meanwhile.
func (e *GapError) Join(next *GapError) *GapError {
	if next.First <= e.First {
		return next
	}
	joined := *e
	joined.Removal = e.Removal.Join(next.Removal)
	joined.Through, joined.Base = next.Through, max(e.Base, next.Base)
	return &joined
}
