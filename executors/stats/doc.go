// Package stats reads what containers and pods use, from the cgroup files, from the pods'
// network namespaces and, for some metrics, from /proc.
//
// Nothing is collected between calls: each call reads each file once, in parallel over
// the containers with a bounded number of workers. What is remembered is the last CPU
// sample of each cgroup (rate.go), and what a pod and its containers used when they were
// read last, because containers of a pod in which nothing has run since then need not be
// read again (idle.go). What has vanished by the time that it is read is left out of the
// answer; nothing makes a whole list fail.
//
// The answers are the CRI's messages. The package must not know pods' lives, the log or
// the image store: the caller says what exists and where its cgroup is, and a function
// returns the size of a writable layer. github.com/opencontainers/cgroups is not used for
// reading: its Stats has no way to ask for less than some thirty files of a cgroup, and the
// CRI's calls need five to nine.
//
// Read reader.go first, then usage.go and idle.go; v1.go and v2.go read the two kinds of cgroups,
// network.go the interfaces. metrics.go makes the metrics of descriptors.go.
package stats
