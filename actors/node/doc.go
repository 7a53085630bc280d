// Package node is the root of the actors: it routes commands to the entity they
// are for, spawns and retires entities, guards the names that must be unique,
// and boots everything from the log.
//
// One root actor owns the routing table. Every command passes through it, so
// that two commands for one entity keep their order and a decision such as "this
// container must never come to be" (its sandbox is being stopped) cannot be
// overtaken. The root does nothing slow.
//
// It must not know the CRI, gRPC or any driver: effects are carried out by
// functions that it is given. Read node.go first, then router.go.
package node
