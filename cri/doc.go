// Package cri serves the Kubernetes Container Runtime Interface, version 1: one
// RPC a file. A call that changes something becomes a command to an actor and
// waits for its answer; a call that reads is answered from the projections.
//
// The comments of the CRI's api.proto are the contract. The package must not
// know protoactor, the log's format or any driver; parts.go names what it needs of
// them. Errors become gRPC codes in errors.go and nowhere else.
//
// Read run_pod_sandbox.go first: every other call has the same form.
package cri
