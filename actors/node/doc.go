// Package node is the root of the actors: it routes commands to their entities, spawns
// and retires entities, keeps names unique, and boots everything from the log.
//
// Every command passes through one Router, so that two commands for one entity keep
// their order and a decision such as "this container must never be created" (its sandbox
// is being stopped) cannot be overtaken. It does nothing slow.
//
// Core and Router know neither actors nor contexts: the simulator runs them on a stage of
// its own. Node puts them on the actor library and gives calls a context.
//
//	core.go              the machines, and how their entities are made
//	calls.go, create_container.go   the calls
//	boot.go              what a start does
//	asking.go            a command on its way, and its answer
//	router.go, names.go  the actors of streams, the owners of names
//	node.go, actors.go   on the actor library, with contexts
//
// It must not know the CRI, gRPC or any driver: effects are carried out by
// functions that it is given. Read calls.go first, then router.go.
package node
