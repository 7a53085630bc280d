// Package codec turns the machines' events into what the log stores and back:
// the messages of proto/event/v1 under names that never change.
//
// The name on disk is the stream's kind, the event's name and the version of its
// message ("sandbox.NetworkAttached.v1"); a name is never used for anything else.
// When a fact has to be told in another way, it gets a new version: a new row
// whose decode makes the same event, while the old row goes on reading old logs.
//
// A decoder never trusts the log: bytes that make no sense are an error and
// never a panic. Read table.go first; the tables are in sandbox.go and its like.
package codec
