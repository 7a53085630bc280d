// Package sandbox is the pod sandbox's machine: three total functions over
// plain values.
//
//	Decide(State, Command) ([]Event, error)   what a command means here and now
//	Evolve(State, Event) State                what is true after a fact
//	Owed(State) []Effect                      what the state still calls for
//
// It does no I/O and reads no clock: commands carry their time and ids. It must
// not know protoactor, the log, the CRI or any driver; the actor shell
// (actors/entity) persists what Decide returns before it issues what Owed names.
//
// Read state.go first, for the diagram; then decide.go.
package sandbox
