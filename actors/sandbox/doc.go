// Package sandbox is the pod sandbox's machine: three total functions over plain
// values.
//
//	Decide(State, Command) ([]Event, error)   what a command means here and now
//	Evolve(State, Event) State                what is true after a fact
//	Owed(State) []Effect                      what the state still calls for
//
// It does no I/O and reads no clock: commands carry their time and ids. It must not
// know protoactor, the log, the CRI or any driver. The actor shell (actors/entity)
// persists what Decide returns before it issues what Owed returns.
//
// Read state.go first, for the diagram. command.go, event.go and effect.go are the
// vocabulary; decide.go, evolve.go and owed.go dispatch to one file for each concept:
// creation, network, holder, containers, resources and stopping.
package sandbox
