// Package pump moves what containers write from their pipes into their logs: one
// goroutine, one epoll, one buffer for all containers, so that a container costs
// a few hundred bytes and no goroutine.
//
// Everything that touches a pipe or a log happens in that goroutine, or as a
// function that is handed to it; there are no locks on the way of the data. A
// log on a disk that hangs thus holds up all containers' output, and nothing
// else.
//
// It knows descriptors and logs, not containers. Read pump.go first, then
// stream.go.
package pump
