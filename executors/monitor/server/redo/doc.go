// Package redo keeps what a monitor has read from a pipe and not yet written to a log,
// safe from SIGKILL: in a file on a tmpfs that is mapped into memory, where the next
// process finds what this one has stored.
//
// Output is in the pipe, in the flight (flight.go), in a carry if it begins a line
// (carry.go), or in the log. Which of them counts is decided by one word per flight, its
// state, which is stored when everything it refers to is complete:
//
//   - before a read the destination is marked, to tell afterwards whether the read
//     happened: the kernel does not stop in the middle of copying from a pipe;
//   - before a write the log's inode and size are noted: the kernel may stop in the
//     middle, and the size shows where;
//   - before the carry is set, everything else is in the log.
//
// It knows stream keys, bytes and notes about a file, not pipes, logs or containers. Read layout.go first, then flight.go.
package redo
