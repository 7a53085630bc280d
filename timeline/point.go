package timeline

import (
	"fmt"
	"time"
)

// Point is a moment of the history: a place in the log or a wall time. The zero Point is its
// end.
type Point struct {
	// Sequence is the last record that belongs to it; 0 for a point by time.
	Sequence uint64
	// Time is the wall time of the last moment that belongs to it. History ends for it at the
	// first record that is later, also if the clock was set back afterwards.
	Time time.Time
}

// IsEnd reports whether it is the end of the history.
func (p Point) IsEnd() bool { return p.Sequence == 0 && p.Time.IsZero() }

// Has reports whether a record belongs to the history until the point.
func (p Point) Has(sequence uint64, at time.Time) bool {
	if p.Sequence > 0 {
		return sequence <= p.Sequence
	}
	return p.Time.IsZero() || !at.After(p.Time)
}

func (p Point) String() string {
	switch {
	case p.Sequence > 0:
		return fmt.Sprintf("sequence %d", p.Sequence)
	case p.Time.IsZero():
		return "the end"
	}
	return day(p.Time)
}

// PointError says that a history has no such point.
type PointError struct {
	Point Point
	// First and Last are the history's first and last records; Empty: it has none.
	First, Last Record
	Empty       bool
}

func (e *PointError) Error() string {
	switch {
	case e.Empty:
		return fmt.Sprintf("there is no %s: the log has no records", e.Point)
	case e.Point.Sequence > e.Last.Sequence:
		return fmt.Sprintf("there is no %s: the log ends with %d", e.Point, e.Last.Sequence)
	case e.Point.Sequence > 0:
		return fmt.Sprintf("there is no %s: the log begins with %d", e.Point, e.First.Sequence)
	}
	return fmt.Sprintf("%s is before the log's first record, of %s", e.Point, day(e.First.Time))
}

// Reached returns the moment that durations at a point count to, given the records that were
// read until it, the first of the log and the last that was read. Errors: *PointError.
func (p Point) Reached(first, last Record) (time.Time, error) {
	switch {
	case first.Sequence == 0 && p.IsEnd():
		return time.Time{}, nil
	case first.Sequence == 0:
		return time.Time{}, &PointError{Point: p, Empty: true}
	case p.Sequence > 0 && (p.Sequence < first.Sequence || p.Sequence > last.Sequence), !p.Has(first.Sequence, first.Time):
		return time.Time{}, &PointError{Point: p, First: first, Last: last}
	case !p.Time.IsZero():
		return p.Time, nil
	}
	return last.Time, nil
}
