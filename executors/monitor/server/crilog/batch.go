package crilog

import "time"

// Rest says what becomes of the end of a batch: at most MaxContent bytes of an
// unfinished line.
type Rest uint8

const (
	// Keep returns it: more of the line is expected.
	Keep Rest = iota
	// Part writes it as a piece of a line that continues.
	Part
	// Finish ends the line in the container's stead, since readers of logs wait
	// for the end of a line before they show it.
	Finish
)

// Batch is output that is written at once. Its records are a function of the fields up
// to Open, so that another process can finish it.
type Batch struct {
	Stream Stream
	// Time is the time of all records.
	Time time.Time
	// Data begins at the beginning of a record.
	Data []byte
	Rest Rest
	// Open: the stream's previous record was a piece of a line.
	Open bool
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

// openAt is Open after the records before a place. Only a record that ends a line ends
// with a newline.
func (b *Batch) openAt(place int) bool {
	if place == 0 {
		return b.Open
	}
	return b.Data[place-1] != '\n'
}

// next returns the record that begins at a place, if one is complete: see cut.
func (b *Batch) next(place int) (r record, ok bool) {
	content, size, full, ok := cut(b.Data[place:])
	return record{content: content, full: full, to: place + size}, ok
}

// last returns the record that Rest asks for, if any, after the others, which end at a
// place.
func (b *Batch) last(place int) (r record, ok bool) {
	r = record{content: b.Data[place:], to: len(b.Data)}
	switch b.Rest {
	case Part:
		return r, len(r.content) > 0
	case Finish:
		r.full = true
		return r, len(r.content) > 0 || b.openAt(place)
	default:
		return record{}, false
	}
}

// openAfter is Open after the batch.
func (b *Batch) openAfter(place int) bool {
	if r, ok := b.last(place); ok {
		return !r.full
	}
	return b.openAt(place)
}
