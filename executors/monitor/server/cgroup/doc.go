// Package cgroup puts the monitor into a cgroup (join.go) and counts the processes
// that the kernel has killed in a container's for lack of memory (oom.go), on v1, v2
// and both. It knows the hierarchies' files, and neither containers nor limits.
package cgroup
