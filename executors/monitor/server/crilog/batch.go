package crilog

import "time"

// Rest says what becomes of the end of a batch: at most MaxContent bytes of an
// unfinished line.
type Rest uint8

const (
	// Keep returns it: more of the line is expected.
	Keep Rest = iota
	// Part writes it as a piece of a line. The piece is the line's last if the stream
	// ends, as other CRI runtimes have it: the kubelet shows no newline then.
	Part
)

// Batch is output that is written at once. Its records are a function of the fields up
// to Rest, so that another process can finish it.
type Batch struct {
	Stream Stream
	// Time is the time of all records.
	Time time.Time
	// Data begins at the beginning of a record.
	Data []byte
	Rest Rest
	// Ledger is notified of each write; nil for none.
	Ledger Ledger
}

// Note describes a write to a Ledger.
type Note struct {
	// Device and Inode name the file, and Size is its size before, in bytes.
	Device, Inode uint64
	Size          int64
	// From and To are where the write's records begin and end in the batch's data, and
	// Length is the size of these records, in bytes.
	From, To, Length int
	// Last: the last record is what Rest asked for.
	Last bool
}

// Ledger records the last write.
type Ledger interface {
	// Writing is called before anything is written.
	Writing(Note)
	// Written is called after a write, even if that failed: it needs no more attention.
	Written()
}

// next makes r the record that follows it, if that is complete: see cut.
func (b *Batch) next(r *record) bool {
	content, size, full, ok := cut(b.Data[r.to:])
	if ok {
		r.content, r.full = content, full
		r.to += size
	}
	return ok
}

// last makes r the record that Rest asks for, if any, after the others, which end at a
// place.
func (b *Batch) last(place int, r *record) bool {
	if b.Rest != Part || place == len(b.Data) {
		return false
	}
	*r = record{content: b.Data[place:], to: len(b.Data)}
	return true
}
