// Package namespaces pins the kernel namespaces of a pod: each is made by a
// thread that ends, and kept alive by a bind mount on a file of the sandbox's own,
// so that no process has to hold it.
//
// It must not know pods or the CRI. Read pin.go first; sysctl.go says which
// sysctls belong to which namespace, and refuses the others.
package namespaces
