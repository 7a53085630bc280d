// Package entity is the one actor shell, shared by every machine: it recovers a
// stream, decides commands, appends what was decided, evolves the state,
// answers the callers and issues the effects that the state owes.
//
// It is the only place where a machine meets the log, and it upholds the first
// two invariants: nothing is issued or answered before the events behind it are
// durable, and what is issued depends on the state alone, whether the state was
// reached a moment ago or by a replay.
//
// An actor never blocks. Appending, reading and effects run elsewhere and come
// back as messages; while an append is under way, further commands wait in the
// shell's own queue, in order. A panic in a machine is caught here: the command
// that led to it is answered with an error and the state is rebuilt from the
// stream, while every other pod goes on.
//
// Read machine.go first, then shell.go.
package entity
