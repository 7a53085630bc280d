package redo

import (
	"sync/atomic"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
)

const (
	// version is the version of the layout and of the records that crilog makes of a
	// batch: another process must make the same ones.
	version = 3

	// MaxRead is how much is read at once, in bytes: what a pipe holds.
	MaxRead = 64 << 10
	// MaxCarry is the size of the longest unfinished line, in bytes.
	MaxCarry = crilog.MaxContent

	pageSize = 4096
	// flights is how many reads can be unfinished: one for each process that was killed
	// before it had completed those of earlier ones.
	flights = 16
	// carries is how many streams can have an unfinished line at once. Only those in
	// use cost memory.
	carries = 4096

	markSize = 16
	// alike is how many bytes at the end of a read may equal the pattern by chance,
	// rather than because they were not read.
	alike = markSize / 2
	// Short is the size, in bytes, of the largest read that should be peeked at.
	Short = markSize - 1
	// unread is a header that was not read: none has all bits (see ioctl_tty(2)).
	unread = 0xff
)

// The file is the head (a page), the pattern (a page), the table of carries, the flights
// and the contents of the carries, in the machine's byte order: the file does not
// outlive a boot.
const (
	patternAt = pageSize
	tableAt   = patternAt + pageSize
	flightsAt = tableAt + carries*carryHeadSize
	carriesAt = flightsAt + flights*flightSize
	fileSize  = carriesAt + carries*MaxCarry

	flightSize = pageSize + MaxCarry + MaxRead
)

// fileHead is the first page.
type fileHead struct {
	// title identifies files of this layout and boot.
	title [256]byte
	// states are the flights'. A flight that is not idle overrides its stream's carry.
	states [flights]atomic.Uint32
	// used is how many places of the table were ever in use.
	used atomic.Uint32
}

// The states of a flight.
//
//	idle ──► reading ──► landed ──► writing0 ──► written0 ──► writing1 ──► …
//	             └──► idle             └── each of landed and written ──► idle
const (
	// idle: nothing.
	idle = iota
	// reading: op is about to be read. The marks show whether it was.
	reading
	// landed: op and the data are complete, and none of the data is in a log.
	landed
	// writing: notes[0] or notes[1] describes a write that may have happened, in part
	// or completely.
	writing0
	writing1
	// written: the write of that note needs no more attention.
	written0
	written1
	states
)

// flightHead is the first page of a flight; the data follow it.
type flightHead struct {
	op     opRecord
	header [1]byte
	mark   [markSize]byte
	notes  [2]crilog.Note
}

// opRecord is an Op, the time, and how many bytes were carried, asked for and read.
type opRecord struct {
	key                  Key
	stream               crilog.Stream
	rest                 crilog.Rest
	time                 int64
	carried, asked, read int64
}

// carryHead is a place in the table of carries.
type carryHead struct {
	// used is set last and cleared first.
	used atomic.Uint32
	size uint64
	key  Key
}

// Key names a stream. The zero Key names none.
type Key struct {
	// Device is 0 for pipes, which are all of one device.
	Device, Inode uint64
	// Terminal is 1 more than the number of a terminal, and 0 for pipes.
	Terminal uint64
}
