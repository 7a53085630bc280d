package eventlog

import (
	"errors"
	"fmt"
)

// What errors.Is finds in the errors of a log. Unless said otherwise, an
// append that failed changed nothing.
var (
	// ErrWrongVersion: the stream is not at the version that the append
	// expected, so there was another writer. See WrongVersionError.
	ErrWrongVersion = errors.New("wrong stream version")

	// ErrInvalid: the request breaks a rule of this package, such as a limit.
	ErrInvalid = errors.New("invalid request to the event log")

	// ErrClosed: the log was closed.
	ErrClosed = errors.New("the event log is closed")

	// ErrUnavailable: the log cannot be written at the moment (or read, if it cannot
	// be reopened), for instance because the disk is full. Health has the reason;
	// the log recovers by itself.
	ErrUnavailable = errors.New("the event log is unavailable")

	// ErrDegraded: the log works, but appends take longer than they need to, because
	// something it uses to be fast has failed. It lasts until the log is opened again.
	ErrDegraded = errors.New("the event log is degraded")

	// ErrOutcomeUnknown: the append may or may not be in the log. Read the
	// stream again before going on.
	ErrOutcomeUnknown = errors.New("the outcome of the append is unknown")

	// ErrCorrupt: what is on the disk is not what was written. See
	// DamageError for damage that has a place.
	ErrCorrupt = errors.New("the event log is damaged")

	// ErrStale: a checkpoint is not of the record that a delta expects, or it was
	// saved anew while its values were read.
	ErrStale = errors.New("the checkpoint has changed")

	// ErrNoRoom: the disk has not enough room for a compaction. The log is as before.
	ErrNoRoom = errors.New("not enough free space on the disk")

	// ErrNewer: the file was written by a newer version of Stele, in a format that this one
	// does not know. It is not damaged, and was not changed.
	ErrNewer = errors.New("the event log is of a newer version")

	// ErrLocked: another process has the log open.
	ErrLocked = errors.New("the event log is in use by another process")
)

// WrongVersionError is an ErrWrongVersion in full.
type WrongVersionError struct {
	Stream   Stream
	Expected Version // what the append asked for
	Actual   Version // what the stream has; 0 if it does not exist
}

func (e *WrongVersionError) Error() string {
	return fmt.Sprintf("stream %q at version %d: %v: it is at %d",
		e.Stream, e.Expected, ErrWrongVersion, e.Actual)
}

// Is makes errors.Is(err, ErrWrongVersion) true.
func (e *WrongVersionError) Is(target error) bool { return target == ErrWrongVersion }

// DegradedError is an ErrDegraded with its cause.
type DegradedError struct{ Cause error }

func (e *DegradedError) Error() string { return fmt.Sprintf("%v: %v", ErrDegraded, e.Cause) }

// Is makes errors.Is(err, ErrDegraded) true.
func (e *DegradedError) Is(target error) bool { return target == ErrDegraded }

// Unwrap returns the cause.
func (e *DegradedError) Unwrap() error { return e.Cause }

// Degraded tells the error from those of something that does not work, also for
// callers that do not know this package.
func (e *DegradedError) Degraded() bool { return true }

// DamageError is one place in the log where something is wrong. It is an
// ErrCorrupt. Fields that are not known, or do not apply, are zero.
type DamageError struct {
	Sequence   Sequence // the record, or the first of the range Sequence..Through
	Through    Sequence // the last of a range of missing records
	Stream     Stream
	Version    Version
	Checkpoint string // name of a damaged checkpoint
	Page       uint64 // page of the file, for damage to the file's structure
	Problem    string // what is wrong, in words
}

func (e *DamageError) Error() string {
	var where string
	switch {
	case e.Checkpoint != "":
		where = fmt.Sprintf("checkpoint %q", e.Checkpoint)
	case e.Page != 0:
		where = fmt.Sprintf("page %d", e.Page)
	case e.Through > e.Sequence:
		where = fmt.Sprintf("records %d to %d", e.Sequence, e.Through)
	case e.Sequence != 0:
		where = fmt.Sprintf("record %d", e.Sequence)
	default:
		where = "file"
	}
	if e.Stream != "" {
		where += fmt.Sprintf(" (stream %q, version %d)", e.Stream, e.Version)
	}
	return fmt.Sprintf("%v: %s: %s", ErrCorrupt, where, e.Problem)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *DamageError) Is(target error) bool { return target == ErrCorrupt }
