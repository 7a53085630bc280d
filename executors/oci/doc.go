// Package oci drives an OCI runtime: it has containers created, started,
// signalled and deleted, and commands executed in them.
//
// Whatever leaves a process behind (create, exec) is executed by the monitor, which
// becomes that process's parent; the rest is executed here. Every call is
// idempotent. A container's state comes from the monitor, not from `runtime state`;
// the runtime's state directory only shows whether the runtime has the container at
// all.
//
// The package must not know pods or the CRI: it gets a spec and a bundle. It knows
// three things of runc that are not in the OCI's command line: that a created
// container waits on a FIFO in its state directory (start.go), that its first
// process becomes the user's program (firstprocess.go, signal.go), and what it prints
// when that cannot be executed (execfailure.go). The last two it knows of crun, too.
// Of gVisor it knows what follows from a kernel for each container (gvisor.go).
// Other runtimes are driven by their commands.
//
// Read driver.go first, then create.go, start.go, exec.go and delete.go.
package oci
