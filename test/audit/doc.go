// Package audit finds what a daemon left behind on a node: mounts, network
// namespaces, veth pairs, addresses, firewall rules, cgroups, processes, files
// and storage records.
//
//	before, err := audit.Take(scope)
//	…  // pods come and go
//	audit.Check(t, scope, before)
//
// It looks at the node only: it must not ask the daemon, nor know more of Stele than where
// its resources are (Scope) and that their names have their owner's id. So it also finds
// leaks of a daemon that is gone.
//
// Read audit.go first; each other file is one kind of trace.
package audit
