// Package userns knows a pod's user namespace: which ids of its containers are which of the
// node's. It reads and checks what the CRI says, and translates. It must not know how a
// namespace is made. Read mapping.go first.
package userns
