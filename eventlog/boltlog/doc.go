// Package boltlog is the event log in a bbolt file with a journal. What a log
// promises is in package eventlog; here is how.
//
// Read log.go first, then writer.go (group commit), journal.go, repair.go (what
// happens when a commit fails), reader.go, change.go (what is
// written in pieces: saving.go, trimming.go), and file.go (what must be true of a file
// before bbolt may see it). It must not know what is in the payloads.
//
// # The bbolt file
//
// Six buckets. All integers are big endian, so that bbolt's key order is the
// log's order.
//
//	meta       "format" → "stele event log 2"
//	           "last" → transaction (8 bytes), its last record's sequence (8 bytes)
//	           "trimmed" → stream (string), version (uvarint), 1 if it is the whole stream,
//	                       CRC-32C; missing if no trim is under way
//	           "journal" → pass (16 bytes), CRC-32C (4 bytes); missing if it is empty
//	records    sequence (8 bytes) → record
//	index      stream, 0x00, version (8 bytes) → sequence (8 bytes)
//	checkpoints
//	           name, 0x00 → head
//	           name, 0x00, area (8 bytes), key → entry
//	bases      stream → base
//	holes      first sequence that was trimmed (8 bytes) → last one (8 bytes), CRC-32C of both
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
// A stream's base, format 1:
//
//	format       1 byte, 0x01
//	stream       string
//	version, sequence, schema   uvarints
//	state        string
//	CRC-32C      4 bytes, of everything before
//
// A record repeats its key and its place in the index, a head its name:
// bbolt has no checksums, so a damaged key can only be told by what it leads
// to. The decoders trust nothing and accept exactly what the encoders write.
//
// # The journal
//
// A file of 4 MiB beside it (.journal), all of it written once so that a sync of it
// concerns no metadata. It is a sequence of frames, each at the start of a page of
// 4096 bytes, with zeros up to the end of its last page:
//
//	magic        "stele/j2"
//	pass         16 bytes
//	synced       8 bytes, sequence of the last record that was on the disk by then
//	length       4 bytes, of the body
//	CRC-32C      4 bytes, of all the rest of the frame
//	body         for each record: uvarint length, record
//
// A frame is one group commit. Those of another pass than the bbolt file names are in
// that file already. A frame that is not whole counts for nothing. If a later one says that
// it was synced, its records are missing, which is reported. If none does, it was being
// written, or volatile, when the power failed: there the log ends. What is behind it in
// the file is dropped, and the log goes on in another pass.
//
// # Writing
//
// One goroutine takes all requests that wait and commits them together. Expected
// versions are checked by it, so a refused append costs the others nothing.
//
// A transaction of bbolt writes some eight pages all over the file, and syncs twice. In
// the journal the same records take one page and one sync, which takes a third off what
// an append waits for; and they come to the bbolt file a thousand at a time, when the
// journal is full, or half full and nobody waits, when a checkpoint is saved, and at the
// end. What is in the journal is kept in memory as well, where reads find it.
//
// A commit of which everything is volatile is answered when the frame is written. The
// next one that is not volatile syncs it as well; if none comes, the writer does, after
// eventlog.VolatileFor.
//
// A small change of a checkpoint is part of a commit. A large one is written in pieces of
// 256 KiB, in turn with the commits, to an area that no reader looks at; then one commit
// changes the head, and the checkpoint is the new one. A change has an area that is laid
// over the base and afterwards merged into it, also in pieces; a replacement becomes the
// base. What a crash leaves over, the next saving removes.
//
// A trim counts with the commit that notes it, and leaves the base. Readers do not see the
// records from then on, while pieces remove them and make holes of them. There is one at a
// time; what a kill interrupts goes on at the next start.
//
// # A commit that fails
//
// After an error the journal may have the frame or not. It is given up, and the
// records go to the bbolt file, with those before them; the next pass is another one,
// to which the frame does not belong. That works without a journal just as well; Health
// says so. A late sync that fails is met in the same way: what was answered is in memory
// still.
//
// If that fails, too, before bbolt has written a meta page, nothing has changed, and the
// appends are refused. Otherwise the records may be in either file, or not. The files are
// closed, the kernel's copy of them dropped (after a failed sync it may hold
// what the disk doesn't), and they are opened and looked at again: each waiting
// append then gets the true answer. Until something can be written again,
// appends are refused at once, Health has the cause, and the writer tries
// again after 0.1 s, 0.2 s … 5 s by writing a probe.
//
// # Opening
//
// A log that is closed in order saves bbolt's list of free pages, and leaves a mark in
// place of the journal's first frame:
//
//	magic        "stele/c1"
//	size         8 bytes, of the bbolt file
//	CRC-32Cs     4 bytes each, of both meta pages, of the free list, and of all before
//
// Every transaction makes it void. A file that it fits is opened as it is. Any other, and
// any that is opened for reading only, is walked first.
//
// # Damage
//
// bbolt panics on a damaged page, in Open even in a goroutine of its own. So the walk, with
// internal/boltpages, refuses a file whose structure is damaged, naming the pages and leaving
// it as it is. The file is read in order for that, since bbolt maps it for random access,
// which is twenty times slower when it is cold; whoever reads most of a log that was not
// walked has it read in order, too.
// Damage that comes later is met with guard (recover, SetPanicOnFault).
// Damage inside of records is left to the reads, which skip and report it.
package boltlog
