// Package entity is the one actor shell, shared by every machine: it recovers a
// stream, decides commands, appends what was decided, evolves the state,
// answers the callers and issues the effects that the state owes.
//
// It is the only place where a machine meets the log, and it upholds the first
// two invariants: nothing is issued or answered before the events behind it are
// durable, and what is issued depends on the state alone, whether the state was
// reached a moment ago or by a replay.
//
// It is cut in two. The Core is pure: it takes a message and returns what is to be
// done. The Entity carries that out, on surroundings that are given to it. The simulator
// (test/sim) and production run both; only actor.go knows the actor library.
//
//	machine.go   what a machine is, and how it is asked
//	core.go      the messages, and what a step can call for; the queue
//	append.go    one append at a time, and what the log says of it
//	effects.go   which effects begin, wait for their time, or for their resource
//	waiters.go   who has an answer, and who learns that a name is free
//	trouble.go   panics, replays, quarantine
//	entity.go    carrying it out
//
// An entity never blocks. Appending, reading and effects run elsewhere and come
// back as messages. A panic in a machine ends in the core: the command that led to it is
// answered with an error and the state is rebuilt from the stream, while every other pod
// goes on.
//
// Read machine.go first, then core.go.
package entity
