// Package usermode has CRI-O's annotation that gives a pod a user namespace: what it asks for
// (mode.go), and which of the node's ids the pod gets (fill.go), as mappings of the CRI. What
// becomes of them does not differ from those that the kubelet sends. It must not know where the
// node's ids are listed, nor who else has which. Read mode.go first.
package usermode
