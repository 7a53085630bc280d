// Package pump moves what containers write from their pipes and terminals into
// their logs: one goroutine, one epoll, one buffer for all containers, so that a
// container costs a few hundred bytes and no goroutine.
//
// Everything that touches a pipe or a log runs in that goroutine, or as a function
// handed to it; the data path has no locks. A log on a hanging disk thus blocks all
// containers' output, and nothing else.
//
// The buffer is in a redo file: a pump that is killed, at any instant, leaves to the
// next one all that it had read and not written, and notes of what was written.
//
// It knows descriptors and logs, not containers. Read pump.go first, then loop.go (the
// goroutine), stream.go, and recover.go with package redo.
package pump
