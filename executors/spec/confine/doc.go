// Package confine plans what confines a container's process beside its namespaces:
// capabilities, seccomp, AppArmor, SELinux labels and the paths that are hidden from it.
//
// It is a part of the plan that package spec makes, and like that a pure function over
// values: what it must know of the node, Ask lists as Questions. It must not know mounts,
// users or resources.
//
// Read request.go first; each concept has a file with its checks.
package confine
