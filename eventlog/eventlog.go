package eventlog

import (
	"context"
	"iter"
	"time"
)

// Sequence is the place of a record in the whole log. The first record has 1,
// every further one has one more than its predecessor; 0 means "none".
type Sequence uint64

// Version is the place of a record in its stream. The first record has 1,
// every further one has one more than its predecessor; 0 means that the
// stream does not exist.
type Version uint64

// Stream names one history within the log, such as "node" or
// "container/4f1c…". The log attaches no meaning to it. It has 1 to MaxName
// bytes of printable ASCII without spaces.
type Stream string

// Cause says why an entry was written.
type Cause struct {
	Command string   // name of the command that led to it; may be empty
	Event   Sequence // the earlier record that led to it; 0 if there is none
	Trace   string   // trace id of the request that led to it; may be empty
}

// Entry is what a writer puts into the log.
type Entry struct {
	Type    string // stable name of the payload's type
	Schema  uint32 // version of the payload's encoding
	Cause   Cause
	Payload []byte // opaque; at most MaxPayload bytes
}

// Record is an entry that is in the log. Its payload is shared between all
// who received the record and must not be modified.
type Record struct {
	Sequence  Sequence
	Stream    Stream
	Version   Version
	Time      time.Time     // wall clock at the append, UTC, nanoseconds
	SinceBoot time.Duration // CLOCK_BOOTTIME at the append: durations survive a wall clock that jumps
	BootID    string        // the boot in which SinceBoot counts
	Entry
}

// Append asks for entries to be put at the end of one stream, all or none.
type Append struct {
	Stream   Stream
	Expected Version // the stream's version before; 0 if it must not exist
	Entries  []Entry // 1 to MaxEntries
	// Volatile says that the entries tell of what ends with the boot, so that they need
	// to outlive the process only, and not the machine: the log answers before they are
	// synced to the disk, which follows within VolatileFor. A power failure in between
	// takes them away, with everything behind them.
	Volatile bool
}

// VolatileFor is the longest time after which a volatile append is on its way to the
// disk.
const VolatileFor = 50 * time.Millisecond

// Reader is the half of a log that changes nothing. It is all that can be had
// of the file of a daemon that is not running.
type Reader interface {
	// Read yields the records from the given sequence (0 is taken for 1) to
	// the one that was last when the iteration began, in order.
	//
	// A damaged or missing record is yielded as a *DamageError, and the
	// iteration goes on behind it if the consumer does. Any other error
	// (of the context, ErrClosed, ErrUnavailable, ErrCorrupt without a
	// record) is the last thing that is yielded.
	Read(ctx context.Context, from Sequence) iter.Seq2[Record, error]

	// ReadStream is Read for the records of one stream, from the given
	// version (0 is taken for 1). A stream that does not exist is empty.
	ReadStream(ctx context.Context, s Stream, from Version) iter.Seq2[Record, error]

	// Last is the sequence of the newest durable record, 0 if there is none.
	// It never goes back, and is answered from memory.
	Last() Sequence

	// LoadCheckpoint returns the newest checkpoint of a name, and false if there is
	// none. A damaged one is an ErrCorrupt: replay the log instead, and replace it.
	LoadCheckpoint(ctx context.Context, name string) (Saved, bool, error)

	// Verify reads everything and says what is damaged. The error says that
	// the walk itself could not be made or finished; damage is not an error
	// but in the report.
	Verify(ctx context.Context) (Report, error)

	// Close ends the use of the log. Iterators end with ErrClosed. A second
	// call does nothing.
	Close() error
}

// Log is an event log. All methods may be called concurrently.
type Log interface {
	Reader

	// Append puts the entries at the end of their stream and returns them as
	// records, in order, when they are durable: from then on they are seen
	// by Read, ReadStream and Last, also after a crash. Volatile ones are durable
	// as soon as the kernel has them.
	//
	// Errors: ErrInvalid, ErrWrongVersion, ErrClosed, ErrUnavailable and
	// ErrCorrupt (the stream cannot be gone on with because of damage) mean
	// that nothing was appended. If the context ends while the append still
	// waits, it is withdrawn and the error is the context's; if it is already
	// being written, the error is ErrOutcomeUnknown as well.
	// ErrOutcomeUnknown means that the records may or may not be there; read
	// the stream again before going on.
	Append(ctx context.Context, a Append) ([]Record, error)

	// AppendAsync is Append for callers that must not wait. It never blocks
	// on I/O. It calls done once, with Append's results, from the writer's
	// goroutine, in the order of the calls: done must not block, since all
	// further appends wait for it, nor call Close. Only after Close is done
	// called (with ErrClosed) before AppendAsync returns.
	//
	// The append is taken over: do not modify its entries afterwards.
	AppendAsync(a Append, done func([]Record, error))

	// Subscribe yields all records from the given sequence (0 is taken for
	// 1), in order and without gaps: first those that are there, then new
	// ones as they become durable. It ends when the consumer stops, the
	// context ends, the log is closed, or the file turns out to be damaged
	// (an ErrCorrupt that is no *DamageError); damage to records is treated as
	// in Read. Times in which the log is unavailable it sits out. Each
	// subscription reads at its own pace and none slows the writer.
	Subscribe(ctx context.Context, from Sequence) iter.Seq2[Record, error]

	// SaveCheckpoint changes the checkpoint of a name, or makes it. The change is
	// durable on return. After a crash the checkpoint is the old one or the new one.
	// A large change is written in pieces between the appends, so that none of them
	// waits for more than a piece.
	//
	// Errors: ErrInvalid, also for a sequence beyond Last; ErrStale; ErrCorrupt
	// (the checkpoint is damaged: replace it); and those of Append that concern
	// the log. ErrOutcomeUnknown means that the change may or may not be made.
	SaveCheckpoint(ctx context.Context, name string, d Delta) error

	// Health is nil, or says why appends are refused now, or, as an ErrDegraded, why
	// they take longer than they should. The log retries what was refused by itself;
	// there is nothing to call.
	Health() error
}
