// Package boltlog is the event log in one bbolt file. What a log promises is
// in package eventlog; here is how.
//
// Read log.go first, then writer.go (group commit), repair.go (what happens
// when a commit fails), reader.go, and file.go (what must be true of a file
// before bbolt may see it). It must not know what is in the payloads.
//
// # The file
//
// Four buckets. All integers are big endian, so that bbolt's key order is the
// log's order.
//
//	meta       "format" → "stele event log 1"
//	           "last" → transaction (8 bytes), its last record's sequence (8 bytes)
//	records    sequence (8 bytes) → record
//	index      stream, 0x00, version (8 bytes) → sequence (8 bytes)
//	snapshots  name → snapshot
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
// A snapshot, format 1:
//
//	format       1 byte, 0x01
//	name         string
//	sequence     uvarint
//	schema       uvarint
//	payload      string
//	CRC-32C      4 bytes, of everything before
//
// A record repeats its key and its place in the index, a snapshot its name:
// bbolt has no checksums, so a damaged key can only be told by what it leads
// to. The decoders trust nothing and accept exactly what the encoders write.
//
// # Writing
//
// One goroutine takes all requests that wait and commits them in one
// transaction. Expected versions are checked inside of it, so a refused append
// costs the others nothing.
//
// bbolt would sync twice for a commit: the data, then the meta page that makes
// it valid. Here it is once, for both, which halves what an append waits for.
// After a power failure the last transaction may therefore be torn; nobody was
// told that it is durable, and the file has a meta page of the transaction
// before, whose pages no later one has touched yet. So the first Open after a
// boot checks the whole content, and goes back by one transaction if that mends
// it (torn.go).
//
// # A commit that fails
//
// After an error the transaction may be in the file or not. The file is
// closed, the kernel's copy of it dropped (after a failed sync it may hold
// what the disk doesn't), and it is opened and looked at again: each waiting
// append then gets the true answer. Until something can be written again,
// appends are refused at once, Health has the cause, and the writer tries
// again after 0.1 s, 0.2 s … 5 s by writing a probe.
//
// # Damage
//
// bbolt panics on a damaged page, in Open even in a goroutine of its own. So
// Open walks all pages first with internal/boltpages and refuses a file whose
// structure is damaged, naming the pages and leaving it as it is. The walk
// costs little because the file has to be read once anyway: bbolt maps it for
// random access, and a cold replay without that read is twenty times slower.
// Damage that comes later is met with guard (recover, SetPanicOnFault).
// Damage inside of records is left to the reads, which skip and report it.
package boltlog
