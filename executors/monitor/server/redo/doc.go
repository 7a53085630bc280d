// Package redo keeps what a monitor has taken out of a pipe and not yet written
// into a log where SIGKILL does not reach it: in a file of a tmpfs that is mapped
// into memory, so that what the process has stored is there for the next one.
//
// It knows keys of streams, bytes and notes about a file, not pipes, logs or
// containers. Read file.go first, then flight.go.
package redo
