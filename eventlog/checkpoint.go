package eventlog

import "iter"

// Checkpoint says which records a saved state comes from, and how it is encoded. The
// state itself is pairs of key and value, so that saving it again costs what has
// changed. A checkpoint spares time and nothing else: whoever cannot load one replays
// the log.
type Checkpoint struct {
	Sequence Sequence // the state is that after all records up to and including this one
	Schema   uint32   // version of the values' encoding
}

// Pair is a key of a checkpoint with its value.
type Pair struct {
	Key   string // 1 to MaxName bytes of printable ASCII without spaces
	Value []byte // opaque; at most MaxValue bytes; belongs to the receiver
}

// Saved is a checkpoint that was loaded.
type Saved struct {
	Checkpoint

	// Pairs yields the pairs by ascending key. An error is the last thing that is
	// yielded: ErrCorrupt if the checkpoint is damaged (then what came before is
	// of no use either), ErrStale if it was saved anew meanwhile (load it again),
	// or one of Read's.
	Pairs iter.Seq2[Pair, error]
}

// Delta is a change of a checkpoint: all of it is made, or nothing.
type Delta struct {
	Checkpoint // what the checkpoint says afterwards

	// After is the sequence that the checkpoint has before, 0 for one that does not
	// exist. If it has another one, the delta is refused as ErrStale.
	After Sequence

	// Replace takes away all pairs that were there, damaged or not. After does not
	// count then, and must be 0.
	Replace bool

	Put    map[string][]byte // values by key, new or in place of older ones
	Delete []string          // keys that go away; those that are not there already have
}
