// Package codec turns the machines' events into what the log stores and back:
// the messages of proto/event/v1 under names that never change. For checkpoints it does
// the same with their states, as messages of proto/state/v1 that may change freely.
//
// The name on disk is the stream's kind, the event's name and the version of its
// message ("sandbox.NetworkAttached.v1"); a name is never used for anything else.
// When an event's message has to change incompatibly, the event gets a second row with
// the next version, below the first: the later row encodes, and both decode to the
// event as the machine knows it today. A row and its golden file in testdata are never
// removed: old logs are read with them.
//
// A decoder never trusts the log: bytes that make no sense are an error and never a
// panic, and what was decoded can be encoded again and shown. An encoder never fails on
// what users or plugins wrote: invalid UTF-8 is replaced.
//
// The package decides nothing and must not know the log, the actors' shell or
// the effects. Read table.go first; the tables are in sandbox.go and its like.
// state.go begins what is about states, describe.go shows events to people.
package codec
