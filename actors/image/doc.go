// Package image is the machine of one image reference: who pulls it, loads it or
// removes it, and how that ended. Decide, Evolve and Owed, as in package sandbox.
//
// The image store knows which images exist; this machine knows what was asked of it.
// Credentials never enter an event: a pull's id stands for them, and only the daemon
// that was given them can use them. A pull that outlives its daemon is therefore
// recorded as interrupted, and the kubelet asks again.
//
// It does no I/O and reads no clock. It must not know protoactor, the log, the CRI,
// any driver or any other machine. Read state.go first.
package image
