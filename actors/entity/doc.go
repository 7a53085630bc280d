// Package entity is the one actor shell, shared by every machine: it recovers a
// stream, decides commands, appends the events, evolves the state, answers the
// callers and issues the effects that the state owes.
//
// It is the only place where a machine meets the log, and it upholds the first
// two invariants: nothing is issued or answered before the events behind it are
// durable, and what is issued depends on the state alone, whether the state was
// reached a moment ago or by a replay.
//
// It has two halves. The Core is pure: it takes a message and returns work. The Entity
// does the work, in surroundings that it is given. The simulator (test/sim) and
// production run both; only actor.go knows the actor library.
//
//	machine.go   what a machine is, and how to ask it
//	core.go      the messages, the work that a step returns, the queue
//	append.go    one append at a time, and its result
//	effects.go   which effects begin, wait for their time, or for their resource
//	waiters.go   answers to callers, and the report that a name is free
//	trouble.go   panics, replays, quarantine
//	entity.go    doing the work
//
// An entity never blocks. Appending, reading and effects run elsewhere and come
// back as messages. The core catches a machine's panic: it answers the command with an
// error and rebuilds the state from the stream, while every other pod goes on.
//
// Read machine.go first, then core.go.
package entity
