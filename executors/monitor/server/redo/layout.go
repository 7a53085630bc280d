package redo

import (
	"sync/atomic"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
)

const (
	// version is that of the layout, and of the records that crilog makes of a
	// batch: another process must make the same ones.
	version = 2

	// MaxRead is how much is read at once, in bytes: what a pipe holds.
	MaxRead = 64 << 10
	// MaxCarry is the size of the longest unfinished line, in bytes.
	MaxCarry = crilog.MaxContent

	pageSize = 4096
	// flights is how many reads can be unfinished: one for each process that was
	// killed before somebody took up what the ones before it left.
	flights = 16
	// carries is how many streams can have an unfinished line at a time. Only those
	// that do cost memory.
	carries = 4096

	markSize = 16
	// alike is how many bytes at the end of a read may be those of the pattern by
	// chance, rather than not read.
	alike = markSize / 2
	// Short is the size of the largest read, in bytes, that Read wants to have
	// peeked at.
	Short = markSize - 1
	// unread is a header that was not read: none has all bits (see ioctl_tty(2)).
	unread = 0xff
)

// The file is a page of head, one of pattern, the table of carries, the flights and
// the contents of the carries. All of it is memory, in the machine's byte order:
// the file doesn't outlive a boot.
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
	// title tells files of this layout and boot.
	title [256]byte
	// states are those of the flights. A flight that is not idle has authority over
	// what the carry of its stream says.
	states [flights]atomic.Uint32
	// used is how many places of the table were ever in use.
	used atomic.Uint32
}

// The states of a flight.
//
//	idle ──► reading ──► landed ──► writing0 ──► written0 ──► writing1 ──► …
//	             └──► idle             └── each of landed and written ──► idle
const (
	// idle: it has nothing.
	idle = iota
	// reading: op is what is about to be read. Whether it was, the marks tell.
	reading
	// landed: op and the data are complete, and none of it is in a log.
	landed
	// writing: notes[0] or notes[1] is about a write that may have happened, in
	// part or as a whole.
	writing0
	writing1
	// written: what that note is about needs no more attention.
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
	open                 bool
	time                 int64
	carried, asked, read int64
}

// carryHead is a place in the table of carries.
type carryHead struct {
	// used is set last and taken back first.
	used atomic.Uint32
	open uint32
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
