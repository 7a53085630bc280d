package eventlog

// Base stands in for the trimmed records at the beginning of a stream. It is zero for a
// stream that has all its records, or lacks none but those that Thin removed.
type Base struct {
	Version  Version  // the last one that was trimmed; the stream's records begin after it
	Sequence Sequence // of that record
	Schema   uint32   // version of the state's encoding
	State    []byte   // opaque; the stream's state after that record; at most MaxValue bytes

	// Removed is what is known of the records through Version. Those that had been removed
	// before by Thin are part of it.
	Removed Removal
}

// Gap is the base as ReadStream yields it; nil for a zero one.
func (b *Base) Gap(s Stream) *GapError {
	if b.Version == 0 {
		return nil
	}
	return &GapError{Removal: b.Removed, Stream: s, From: 1, Through: b.Version, Base: b.Version}
}

// Trim says which records of a stream to remove: all of them, if the stream has ended, or
// those up to a version, leaving a state from which a replay can start.
type Trim struct {
	Stream  Stream
	Through Version // the last version to remove; a record that exists
	Rule    string  // why, in a word that people read, such as "age"; MaxRule

	// Whole: the stream ceases to exist. Through must be its version, so that no record
	// is removed that the caller has not seen.
	Whole bool

	Schema uint32 // of State; 0 if Whole
	State  []byte // of the Base; empty if Whole
}

// Thin says which single records to remove, of any streams. What is left of a stream must
// lead to the same state: the log does not know, the caller does. Since records that are
// near each other in the log are removed together, one Thin for many streams costs less
// than one for each.
type Thin struct {
	// Sequences are 1 to MaxThin, ascending. None is the last of its stream, so that the
	// stream's version stays known. Those that are gone already count for nothing.
	Sequences []Sequence
	Rule      string // why, in a word that people read, such as "settled"; MaxRule
}

// StreamInfo describes a stream that exists.
type StreamInfo struct {
	Stream  Stream
	Version Version // of its last record
	Base    Base
}

// Places says where the records of a stream are.
type Places struct {
	Stream Stream
	// Sequences are those of the records that the log has, in order. They are valid until
	// the next step of the iteration.
	Sequences []Sequence
}

// Usage is how large a log is. It is answered without reading the log.
type Usage struct {
	// Bytes is the size of the log's files. Free is how much of it holds nothing: it is
	// used by what comes next, and Compact gives it back to the file system. What Records
	// leaves of the rest is the index, checkpoints and bases, the journal, and unused
	// parts of pages. All are 0 for a log in memory but RecordBytes.
	Bytes, Free int64
	RecordBytes int64 // of the records themselves

	Records uint64   // how many there are, readable or not
	First   Sequence // of the first record, 0 if there is none
	Last    Sequence // of the last one, also if it was removed
	Removed Rules    // how many records were removed, in total
}
