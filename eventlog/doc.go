// Package eventlog is the memory of Stele: one append-only log of records,
// from which everything else is derived. It knows records, not pods: types,
// streams and payloads are opaque here, and it imports no other package of Stele.
//
// Read eventlog.go: the nouns and the contract. The package itself only has
// those; there are two logs that keep the contract, and a suite of tests,
// logtest, that both pass:
//
//	boltlog   one file; group commit, repair, verification. Its doc.go has the bytes
//	memlog    memory, for tests
//
// # Nouns
//
// A record is an entry (type, schema, cause, payload) with a place and a time.
// It has two places: its Sequence in the log, and its Version in its Stream.
// Both count from 1 and have no gaps but those that Trim and Thin make. These are on record
// with their time and rule, readers are told of them (GapError), and they never look like
// damage. A stream that was trimmed begins at its base. An append puts entries at the end of one
// stream, all or none, and says which version it expects the stream to have:
// two writers on one stream are a bug that is caught, not merged.
//
// # What is promised
//
//  1. What Append returned is durable: it is there after a crash of the
//     process or the machine, as far as the disk keeps what it has synced. An
//     append that says it is volatile is there after a crash of the process; a
//     crash of the machine may lose the end of the log, back to the last record
//     that is not volatile or was synced since. A log that is open and healthy
//     syncs every VolatileFor.
//  2. Records are read in the order of their sequences, each once, by Read,
//     ReadStream, ReadAt and Subscribe alike. No record changes or disappears, except those
//     that Trim and Thin remove and the end of the log that a power failure loses, whose
//     sequences are used again in the next boot.
//  3. Readers do not slow the writer or each other.
//  4. An error of Append is the truth: nothing was appended, except with
//     ErrOutcomeUnknown, when the log could not find out.
//  5. A record that is returned is what was appended; anything else is an error
//     with a place. A damaged stream does not stop others from being read or
//     written.
//
// # Limits
//
// Names (streams, types, commands, traces, checkpoints, keys) have up to 255 bytes of
// printable ASCII, payloads up to 32 MiB, an append up to 1024 entries and
// 64 MiB, a value of a checkpoint up to 64 MiB and a delta up to 256 MiB, a thinning up to
// 8192 records, the name of a rule up to 32 bytes; see limits.go. At most 128 MiB wait for
// the writer of a boltlog; more is refused as ErrUnavailable.
//
// # Crash cases
//
//   - The process is killed before the commit: nothing was appended, and
//     no caller was told otherwise.
//   - It is killed after the commit and before the answer: the records are
//     there. The caller finds them when it reads its stream again, as every
//     caller does at the start.
//   - The machine loses power during the commit: the file is as before or as
//     after; bbolt's two meta pages see to that.
//   - It loses power after volatile appends: the log ends after one of
//     them, and what reached the disk after that is dropped.
//   - It is killed while the log is created: there is no log or a complete one.
//     So a file that is empty or not a log is always damage (ErrCorrupt), never
//     silently taken for a new log.
//   - It is killed, or the machine loses power, while a checkpoint is saved: the
//     checkpoint is the old one or the new one.
//   - It is killed, or the machine loses power, while records are removed: all of
//     them are there or none.
//   - It is killed, or the machine loses power, while the log is compacted: the log is
//     whole, in the old file or in the new one.
//   - The disk is full or fails: appends are refused with ErrUnavailable,
//     reads go on, Health has the reason, and appends work again by themselves
//     when writing does.
//   - The disk fails in the middle of a commit: the outcome is looked up in
//     the file before any caller gets an answer.
//   - Records or the index are damaged: reads report the place and continue;
//     Verify lists all places.
//   - The file's structure is damaged: it isn't opened (ErrCorrupt, naming the
//     pages) and not changed. If only the newest meta page is, the file opens
//     as it was one transaction before, which is logged and in Verify's report.
package eventlog
