// Package audit finds what a daemon left behind on a node: mounts, network
// namespaces, veth pairs, addresses, firewall rules, cgroups, processes, files
// and storage records.
//
//	before, err := audit.Take(scope)
//	…  // pods come and go
//	audit.Check(t, scope, before)
//
// It looks at the node only: it must not ask the daemon, nor know how Stele
// works beyond where its resources are (Scope) and that their names hold their
// owner's id. So it finds leaks of a daemon that is gone as well.
//
// Read audit.go first; each other file is one kind of trace.
package audit
