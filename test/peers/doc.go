// Package peers runs other runtimes beside Stele, for benchmarks: with the registry, the runtime
// and the CNI plugins of an e2e harness, and files, networks and cgroups of their own.
//
// The package must not know what is measured. Read containerd.go.
package peers
