// Package container is the container's machine: Decide, Evolve and Owed, as in
// package sandbox, for one container from CreateContainer to RemoveContainer.
//
// It does no I/O and reads no clock. It must not know protoactor, the log, the CRI,
// any driver or any other machine.
//
// Read state.go first, for the diagram. command.go, event.go and effect.go are the
// vocabulary; decide.go, evolve.go and owed.go dispatch to one file for each concept:
// configuration, creation, run, stopping, execs, resources, logs, removal and reboot.
package container
