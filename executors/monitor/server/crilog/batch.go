package crilog

import "time"

// Rest says what becomes of the end of a batch, at most MaxContent bytes of a line
// that has not ended in it.
type Rest uint8

const (
	// Keep returns it: more of the line is expected.
	Keep Rest = iota
	// Part writes it as a piece of a line that goes on.
	Part
	// Finish ends the line in the container's stead, since readers of logs wait
	// for the end of a line before they show it.
	Finish
)

// Batch is output that is written at a time. What its records are is a function of
// the fields up to Open, which is what lets another process finish it.
type Batch struct {
	Stream Stream
	// Time is that of all records.
	Time time.Time
	// Data begins at the beginning of a record.
	Data []byte
	Rest Rest
	// Open says that the stream's last record before was a piece of a line.
	Open bool
	// Ledger is told of each write; nil for none.
	Ledger Ledger
}

// Note is what a Ledger is told of a write, before.
type Note struct {
	// Device and Inode name the file, and Size is its size, in bytes.
	Device, Inode uint64
	Size          int64
	// From and To are the place in the batch's data where the first record of the
	// write begins and where the last one ends, and Length is the size of these
	// records, in bytes.
	From, To, Length int
	// Last says that the last record is what Rest asked for.
	Last bool
}

// Ledger remembers the last write.
type Ledger interface {
	// Writing is called before anything is written.
	Writing(Note)
	// Written is called afterwards: that write needs no more attention, though it
	// may have failed.
	Written()
}

// openAt tells Open after the records of the data before a place. A record that
// ends a line ends with the newline, and one that does not cannot.
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

// last returns the record that Rest asks for, if any, after the others, which end
// at a place.
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

// openAfter tells Open after the batch.
func (b *Batch) openAfter(place int) bool {
	if r, ok := b.last(place); ok {
		return !r.full
	}
	return b.openAt(place)
}
