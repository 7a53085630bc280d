package eventlog

import "iter"

// Checkpoint says which records a saved state comes from, and how it is encoded. The
// state itself is pairs of key and value, so that saving it again costs what has
// changed. A checkpoint only saves time: if it cannot be loaded, replay the log.
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
	// of no use either), ErrStale if it was saved again meanwhile (load it again),
	// or one of Read's.
	Pairs iter.Seq2[Pair, error]
}

// Delta is an atomic change of a checkpoint.
type Delta struct {
	Checkpoint // what the checkpoint says afterwards

	// After is the sequence that the checkpoint has before, 0 for one that does not
	// exist. If it has another one, the delta is refused as ErrStale.
	After Sequence

	// Replace removes all existing pairs, damaged or not. After must be 0 then.
	Replace bool

	Put    map[string][]byte // values by key, new or in place of older ones
	Delete []string          // keys to remove; one that does not exist is no error
}
