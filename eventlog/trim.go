package eventlog

// Base stands in for the trimmed records at the beginning of a stream. It is zero for a
// stream that has all its records.
type Base struct {
	Version  Version  // the last one that was trimmed; the stream's records begin after it
	Sequence Sequence // of that record
	Schema   uint32   // version of the state's encoding
	State    []byte   // opaque; the stream's state after that record; at most MaxValue bytes
}

// Trim says which records of a stream to remove: all of them, if the stream has ended, or
// those up to a version, leaving a state from which a replay can start.
type Trim struct {
	Stream  Stream
	Through Version // the last version to remove

	// Whole: the stream ceases to exist. Through must be its version, so that no record
	// is removed that the caller has not seen.
	Whole bool

	Schema uint32 // of State; 0 if Whole
	State  []byte // of the Base; empty if Whole
}

// StreamInfo describes a stream that exists.
type StreamInfo struct {
	Stream  Stream
	Version Version // of its last record
	Base    Base
}
