// Package container is the container's machine: Decide, Evolve and Owed, as in
// package sandbox, for one container from CreateContainer to RemoveContainer.
//
// It does no I/O and reads no clock, and it must not know protoactor, the log,
// the CRI, any driver or any other machine.
//
// Read state.go first, for the diagram; then decide.go.
package container
