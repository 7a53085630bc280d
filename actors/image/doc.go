// Package image is the machine of one image reference: who is pulling it and
// what became of it. Decide, Evolve and Owed, as in package sandbox.
//
// The image store is the truth about which images exist; this machine is the
// truth about what was asked of it. Credentials never enter an event: a pull is
// named by an id that stands for them, and only the daemon that was given them
// can use them. A pull that the daemon did not survive is therefore recorded as
// interrupted, and the kubelet asks again.
package image
