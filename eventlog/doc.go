// Package eventlog is the memory of Stele: one append-only log of records,
// from which everything else is derived. It knows records, not pods: types,
// streams and payloads are opaque here, and it imports nothing of ours.
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
// Both count from 1 and have no gaps. An append puts entries at the end of one
// stream, all or none, and says which version it expects the stream to have:
// two writers on one stream are a bug that is caught, not merged.
//
// # What is promised
//
//  1. What Append returned is durable: it is there after a crash of the
//     process or the machine, as far as the disk keeps what it has synced. An
//     append that says it is volatile is there after a crash of the process; one
//     of the machine may take the end of the log away, back to the last record
//     that is not volatile or was synced since, which a log that is open and
//     healthy does every VolatileFor.
//  2. Records are read in the order of their sequences, each once, by Read,
//     ReadStream and Subscribe alike. None changes, none goes away, but for the
//     end that a power failure takes: its sequences are given again, in another
//     boot.
//  3. Nobody who reads slows the writer or another reader.
//  4. An error of Append is the truth: nothing was appended, except with
//     ErrOutcomeUnknown, which says that even a second look didn't tell.
//  5. A record that is returned is what was appended; what is not, is an
//     error with a place. Damage to one stream doesn't keep others from
//     being read or written.
//
// # Limits
//
// Names (streams, types, commands, traces, checkpoints, keys) have up to 255 bytes of
// printable ASCII, payloads up to 32 MiB, an append up to 1024 entries and
// 64 MiB, a value of a checkpoint up to 64 MiB and a delta up to 256 MiB; see
// limits.go. At most 128 MiB wait for
// the writer of a boltlog; more is refused as ErrUnavailable.
//
// # Crash cases
//
//   - The process is killed before the commit: nothing was appended, and
//     nobody was told otherwise.
//   - It is killed after the commit and before the answer: the records are
//     there. Who asked finds them when it reads its stream again, as
//     everybody does at the start.
//   - The machine loses power during the commit: the file is as before or as
//     after; bbolt's two meta pages see to that.
//   - It loses power after volatile appends: they are there up to some one of
//     them, and what reached the disk behind it is dropped.
//   - It is killed while the log is created: there is no log, or a whole one.
//     So a file that is there but empty, or isn't a log, is always damage
//     (ErrCorrupt) and never silently taken for a new log.
//   - It is killed, or the machine loses power, while a checkpoint is saved: the
//     checkpoint is the old one or the new one.
//   - The disk is full or fails: appends are refused with ErrUnavailable,
//     reads go on, Health has the reason, and when writing works again so do
//     appends, by themselves.
//   - The disk fails in the middle of a commit: the outcome is looked up in
//     the file before anyone gets an answer.
//   - Records or the index are damaged: reads report the place and go on,
//     Verify lists all places.
//   - The file's structure is damaged: it isn't opened (ErrCorrupt, naming the
//     pages) and not changed. If only the newest meta page is, the file opens
//     as it was one transaction before, which is logged and in Verify's report.
package eventlog
