package eventlog

import (
	"context"
	"iter"
	"time"
)

// Sequence is the place of a record in the whole log. The first record has 1,
// every further one has one more than its predecessor; 0 means "none". The sequences of
// records that were removed are not reused.
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
	// Volatile says that the entries describe what ends with the boot, so they must
	// survive the process but not the machine: the log answers before they are synced
	// to the disk, which follows within VolatileFor. A power failure in between loses
	// them and everything after them.
	Volatile bool
}

// VolatileFor is the longest time before a volatile append is synced to the disk.
const VolatileFor = 50 * time.Millisecond

// Reader is the read-only half of a log. It is all there is for the file of a
// daemon that is not running.
type Reader interface {
	// Read yields the records from the given sequence (0 is taken for 1) to
	// the one that was last when the iteration began, in order.
	//
	// Each run of removed records is yielded as a *GapError, and the iteration continues
	// after it if the consumer does. The run is the whole one, between records that are
	// there: it may begin before the first sequence to read, or with records that the
	// reader got before they were removed. Streams lists the bases that stand in for
	// trimmed ones.
	//
	// A damaged or missing record is yielded as a *DamageError, and the
	// iteration continues after it if the consumer does. Any other error
	// (of the context, ErrClosed, ErrUnavailable, ErrCorrupt without a
	// record) is the last thing that is yielded.
	Read(ctx context.Context, from Sequence) iter.Seq2[Record, error]

	// ReadStream is Read for the records of one stream, from the given
	// version (0 is taken for 1). A stream that does not exist is empty. One with
	// a Base begins after it: a reader that gets a *GapError with a Base must start
	// from there. One that starts behind it is not told of it.
	ReadStream(ctx context.Context, s Stream, from Version) iter.Seq2[Record, error]

	// Stream describes a stream; false if it does not exist.
	Stream(ctx context.Context, s Stream) (StreamInfo, bool, error)

	// Streams yields the streams whose names have the prefix, by name. Streams that
	// appear or disappear meanwhile may be included or not. An error is the last thing
	// that is yielded, but for a *DamageError of one stream.
	Streams(ctx context.Context, prefix string) iter.Seq2[StreamInfo, error]

	// Bases yields, as Streams does, only the streams that have a Base. It costs nothing
	// for the others.
	Bases(ctx context.Context) iter.Seq2[StreamInfo, error]

	// Places yields, in no order, where the records of each stream are, without reading
	// them: that takes a small part of the time of a Read. A stream of which only the Base is
	// left is not among them. Records that are appended or removed meanwhile may be included
	// or not. An error is the last thing that is yielded.
	Places(ctx context.Context) iter.Seq2[Places, error]

	// ReadAt yields the records of some sequences, which ascend, as Read yields those of
	// all. A *GapError may be about more records than these.
	ReadAt(ctx context.Context, sequences []Sequence) iter.Seq2[Record, error]

	// Backup writes a consistent copy of the log to a new file: everything that was
	// durable before the call, and perhaps more. Appends continue. The copy is
	// complete, or there is none. An existing file is an fs.ErrExist.
	Backup(ctx context.Context, path string) error

	// Usage says how large the log is. It costs little.
	Usage(ctx context.Context) (Usage, error)

	// Last is the sequence of the newest durable record, 0 if there is none.
	// It never goes back, and is answered from memory.
	Last() Sequence

	// LoadCheckpoint returns the newest checkpoint of a name, and false if there is
	// none. If it is damaged, the error is an ErrCorrupt: replay the log instead, and
	// replace the checkpoint.
	LoadCheckpoint(ctx context.Context, name string) (Saved, bool, error)

	// Verify reads everything and reports what is damaged. Its error says why it
	// could not finish; damage is in the report.
	Verify(ctx context.Context) (Report, error)

	// Close ends the use of the log. Iterators end with ErrClosed. A second
	// call does nothing.
	Close() error
}

// Log is an event log. All methods may be called concurrently.
type Log interface {
	Reader

	// Append puts the entries at the end of their stream and returns them as
	// records, in order, when they are durable: from then on Read, ReadStream and
	// Last see them, also after a crash. Volatile ones are durable
	// as soon as the kernel has them.
	//
	// Errors: ErrInvalid, ErrWrongVersion, ErrClosed, ErrUnavailable and
	// ErrCorrupt (the stream is damaged and cannot continue) mean that nothing
	// was appended. If the context ends while the append still waits, it is
	// withdrawn and the error is the context's; if it is already being written,
	// the error is also an ErrOutcomeUnknown.
	// ErrOutcomeUnknown means that the records may or may not be there; read
	// the stream again before going on.
	Append(ctx context.Context, a Append) ([]Record, error)

	// AppendAsync is Append for callers that must not wait. It never blocks
	// on I/O. It calls done once, with Append's results, from the writer's
	// goroutine, in the order of the calls. done must not block, since all
	// later appends wait for it, and must not call Close. After Close, done is
	// called with ErrClosed before AppendAsync returns.
	//
	// The log keeps the append: do not modify its entries afterwards.
	AppendAsync(a Append, done func([]Record, error))

	// Subscribe yields all records from the given sequence (0 is taken for
	// 1), in order: first those that are there, then new ones as they become
	// durable. Removed ones are reported as in Read: the first thing that is yielded is
	// a *GapError if the sequence is gone. It ends when the consumer stops, the
	// context ends, the log is closed, or the file turns out to be damaged
	// (an ErrCorrupt that is no *DamageError); damage to records is treated as
	// in Read. While the log is unavailable, a subscription waits. Each
	// reads at its own pace and none slows the writer.
	Subscribe(ctx context.Context, from Sequence) iter.Seq2[Record, error]

	// SaveCheckpoint changes the checkpoint of a name, or makes it. The change is
	// durable on return. After a crash the checkpoint is the old one or the new one.
	// A large change is written in pieces between appends, so an append waits for one
	// piece at most.
	//
	// Errors: ErrInvalid, also for a sequence beyond Last; ErrStale; ErrCorrupt
	// (the checkpoint is damaged: replace it); and those of Append that concern
	// the log. ErrOutcomeUnknown means that the change may or may not be made.
	SaveCheckpoint(ctx context.Context, name string, d Delta) error

	// Trim removes records for good. It is durable on return and atomic: readers see
	// all of the records or none. A reader that is in the middle of the stream may see
	// it end early. A large trim is carried out in pieces between appends; small ones that
	// wait at the same time become durable together. While a whole stream is being removed,
	// appends to it are refused as ErrUnavailable; afterwards it can begin again at version 1.
	//
	// Errors: ErrInvalid, also for a version that the stream has not reached or
	// that is already removed; ErrWrongVersion, if the whole stream is to go but has
	// another version; and those of SaveCheckpoint that concern the log.
	Trim(ctx context.Context, t Trim) error

	// Thin removes single records for good. It is durable on return and atomic, like
	// Trim, and carried out in the same way.
	//
	// Errors: ErrInvalid, also for a record that does not exist yet or is the last of
	// its stream; ErrCorrupt, for a damaged one; and those of SaveCheckpoint that concern
	// the log. None was removed then.
	Thin(ctx context.Context, t Thin) error

	// Compact gives the space of removed records back to the file system: afterwards the
	// files are about as large as what is in them. Appends go on meanwhile; trims,
	// thinnings and savings of checkpoints wait. It needs room for what the log holds,
	// and CompactRoom: ErrNoRoom if there is less. A crash at any time leaves the log
	// whole, and the same. A compaction whose context ends is given up, or is just being
	// completed (ErrOutcomeUnknown). The errors that concern the log are those of Append.
	Compact(ctx context.Context) error

	// Health is nil, or says why appends are refused now, or, as an ErrDegraded, why
	// they take longer than they should. The log recovers by itself; there is nothing
	// to call.
	Health() error
}
