// Package boltlog is the event log in a bbolt file with a journal. What a log
// promises is in package eventlog; here is how.
//
// Read log.go first, then writer.go (group commit), journal.go, repair.go (what
// happens when a commit fails), reader.go, change.go (what is made in pieces: saving.go,
// removal.go, compact.go), and file.go (what must be true of a file before bbolt may see
// it). It must not know what is in the payloads.
//
// # The bbolt file
//
// Seven buckets. All integers are big endian, so that bbolt's key order is the
// log's order.
//
//	meta       "format" → "stele event log 3 ", CRC-32C of that without the space, in hex
//	           "last" → transaction (8 bytes), its last record's sequence (8 bytes)
//	           "removing" → what is being removed; missing if no trim or thinning is under way
//	           "removed" → the last transaction that made a removal at once (8 bytes), zeros (8 bytes)
//	           "usage" → bytes of all records (8 bytes), removal of all that was removed, CRC-32C
//	           "journal" → pass (16 bytes), CRC-32C (4 bytes); missing if it is empty
//	records    sequence (8 bytes) → record
//	index      stream, 0x00, version (8 bytes) → sequence (8 bytes)
//	checkpoints
//	           name, 0x00 → head
//	           name, 0x00, area (8 bytes), key → entry
//	bases      stream → base
//	holes      first sequence of a removed run (8 bytes) → last one (8 bytes), removal,
//	           CRC-32C of key and value
//	gaps       stream, 0x00, first version of a thinned run (8 bytes) → last version, first
//	           and last sequence (8 bytes each), removal, CRC-32C of key and value
//
// A removal is the times of the first and the last one (8 bytes each, nanoseconds since
// 1970), and for each rule, in order, its name (string) and a count (uvarint), up to the end.
// Holes and gaps that touch become one, so there is at most one more of them than there are
// records, and a probe that is thinned out every second for a year is one of each.
//
// A record, format 1, where uvarint is the base-128 encoding of
// encoding/binary in its shortest form, and string is a uvarint length and as
// many bytes:
//
//	format       1 byte, 0x01
//	sequence     8 bytes
//	wall time    8 bytes, nanoseconds since 1970, signed
//	since boot   uvarint, nanoseconds
//	version      uvarint
//	schema       uvarint
//	cause event  uvarint
//	boot id, stream, type, cause command, cause trace, payload   strings
//	CRC-32C      4 bytes, of everything before
//
// A checkpoint's head, format 1:
//
//	format       1 byte, 0x01
//	name         string
//	sequence, schema, edition, base, overlay, loose, pairs   uvarints
//	sum          8 bytes, sum of the CRCs of its pairs
//	CRC-32C      4 bytes, of everything before
//
// An entry is 1 byte (0x01: a value, 0x02: the key is gone), the value, and the CRC-32C
// of name, 0x00, key, 0x00 and these.
//
// A stream's base, format 2:
//
//	format       1 byte, 0x02
//	stream       string
//	version, sequence, schema   uvarints
//	state        string
//	first sequence that it stands in for   uvarint
//	removal      of what it stands in for
//	CRC-32C      4 bytes, of everything before
//
// What is being removed:
//
//	kind         1 byte: 0x01 a thinning, 0x02 a trim, 0x03 a trim of a whole stream
//	time         8 bytes
//	rule         string
//	thinning     uvarints: each sequence, less the one before
//	trim         stream (string), version (uvarint)
//	CRC-32C      4 bytes, of everything before
//
// Older files are read, and converted when they are opened for writing. The first format had
// snapshots; the second had no gaps, no usage, no removals (but "trimmed" for a trim under
// way), and bases of format 1. A newer one is left alone (ErrNewer).
//
// A record repeats its key and its place in the index, a head its name:
// bbolt has no checksums, so only the value reveals a damaged key. The decoders trust
// nothing and accept exactly what the encoders write.
//
// # The journal
//
// A file of 4 MiB beside it (.journal), allocated and written once, so that a sync concerns
// no metadata. It is a sequence of frames, each at the start of a page of
// 4096 bytes, with zeros up to the end of its last page:
//
//	magic        "stele/j2"
//	pass         16 bytes
//	synced       8 bytes, sequence of the last record that was on the disk by then
//	length       4 bytes, of the body
//	CRC-32C      4 bytes, of all the rest of the frame
//	body         for each record: uvarint length, record
//
// A frame is one group commit. If it belongs to another pass than the bbolt file names, that
// file has its records. An incomplete frame is ignored. If a later one says that it was
// synced, its records are reported as missing. If none does, it was volatile or being
// written when the power failed: the log ends there, what comes after it in the file is
// dropped, and the log continues in another pass.
//
// # Writing
//
// One goroutine takes all waiting requests and commits them together. It checks the
// expected versions, so a refused append costs the others nothing.
//
// A bbolt transaction writes some eight scattered pages and syncs twice. In the journal
// the same records take one page and one sync, which makes an append a third faster. They
// move to the bbolt file a thousand at a time: when the journal is full, or half full while
// no request waits, with a checkpoint or a trim, and at the end. Until then they are also
// in memory, where reads find them.
//
// A commit whose appends are all volatile is answered when the frame is written. The next
// one that is not volatile syncs it as well; if none comes, the writer does so after
// eventlog.VolatileFor.
//
// A small change of a checkpoint is part of a commit. A large one is written in pieces of
// 256 KiB, in turn with the commits, to an area that no reader looks at; then one commit
// changes the head, and the checkpoint is the new one. The area of a change overlays the
// base and is then merged into it, also in pieces; the area of a replacement becomes the
// base. The next saving removes what a crash left.
//
// Trims and thinnings that wait, and that together have no more than a piece, are made by one
// commit. Of any other, a commit records the base, and what goes. From then on readers do not
// see the records, while pieces turn them into holes and gaps. There is one at a time; the next
// start continues one that was interrupted. A thinning is by sequence, of any streams: what
// lies together goes together, so each page is written once.
//
// # Compaction
//
// bbolt reuses free pages, but never returns them. A compaction (compact.go) copies what the
// log holds to a new file beside it (.compact), which then takes the name:
//
//  1. A goroutine copies all buckets, a piece of 256 KiB in each transaction, read from the
//     old file and written to the new one without the writer. Nothing but appends changes the
//     log meanwhile, since a compaction is one of the changes that are made one at a time.
//     Every 2 MiB it syncs, so that the journal's syncs wait for little.
//  2. In further rounds it copies what was appended during the round before, until little is
//     left.
//  3. The writer adds the rest, and what the journal has; gives the copy another pass of the
//     journal; syncs it; renames it; syncs the directory; and goes on with it.
//
// A crash before the rename leaves the old file and its journal; the next start removes the
// copy. After the rename the copy is whole, and the journal's frames belong to no pass. Until
// the disk knows the name, a power failure may bring back the old file, so nothing is written
// to the journal and nothing is acknowledged before. If the directory cannot be synced,
// appends are refused until it can.
//
// Who reads the old file goes on in it; it is closed, and its space is free, when the last
// one has left. The copy is locked before it has the name, and whoever gets a lock looks
// whether the file still has the name.
//
// It needs room for the used part of the file and eventlog.CompactRoom, and gives up as soon
// as half of that is left. On a log of which 1 GiB stays, appends of four producers waited
// 3.5 ms at the 99th percentile, and 22 ms at most, during the 5 s that it took, on two CPUs.
// Where 20 other processes kept CPUs and disk busy it was 18 ms, and 14 ms without a
// compaction (BenchmarkCompact).
//
// # A commit that fails
//
// After an error the journal may have the frame or not. It is given up, and its records and
// the new ones go to the bbolt file, with no pass, so that the frame counts for nothing.
// The log continues without a journal, and Health says so. A late sync that fails is handled
// the same way: the acknowledged records are still in memory.
//
// If that fails, too, but the journal is not in doubt and bbolt has written no meta page,
// nothing has changed, and the appends are refused. Otherwise the records may be in either
// file, or not. The files are closed, the kernel's copy of them is dropped (after a failed
// sync it may hold what the disk does not), and they are reopened and searched: each waiting
// append gets the true answer. Until something can be written again, appends are refused at
// once, Health has the cause, and the writer writes a probe after 0.1 s, 0.2 s … 5 s.
//
// # Opening
//
// Each transaction also writes bbolt's list of free pages while that is short. A clean close
// writes it in any case, and leaves a mark in place of the journal's first frame:
//
//	magic        "stele/c1"
//	size         8 bytes, of the bbolt file
//	CRC-32Cs     4 bytes each, of both meta pages, of the free list, and of all before
//
// Opening the log for writing removes it, so that a daemon that dies of what it reads is
// not followed by one that trusts the file; every transaction invalidates it. A file that matches its mark is opened at once. Any other
// file, and any that is opened read-only, is walked first, on all processors.
//
// # Damage
//
// bbolt panics on a damaged page, in Open even in a goroutine of its own. So the walk, with
// internal/boltpages, refuses a file whose structure is damaged, names the pages, and leaves
// it unchanged. It reads the file in disk order: page faults in bbolt's map, which is
// advised as random, take twenty times longer. A Read of most of a log that was not walked
// does so, too. guard (recover, SetPanicOnFault) handles damage that appears later. Reads
// skip damaged records and report them.
package boltlog
