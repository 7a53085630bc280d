// Package redo keeps what a monitor has taken out of a pipe and not yet written
// into a log where SIGKILL does not reach it: in a file of a tmpfs that is mapped
// into memory, so that what the process has stored is there for the next one.
//
// A pipe's bytes are in the pipe, or in the flight (flight.go), or the beginning of
// a line in a carry (carry.go), or in the log. Which of them counts is one word for
// each flight, its state, that is stored when everything about it is complete:
//
//   - before a read the place where the data are to land is marked, so that one can
//     tell afterwards whether they did: the kernel doesn't stop in the middle of
//     copying from a pipe;
//   - before a write the log's inode and size are noted: the kernel may stop in the
//     middle, and the size tells where;
//   - before the carry is set, all else is in the log.
//
// It knows keys of streams, bytes and notes about a file, not pipes, logs or
// containers. Read layout.go first, then flight.go.
package redo
