// Package cni attaches pods to the node's network with CNI plugins, through
// libcni: ADD, CHECK, DEL, GC and STATUS.
//
// A record of each attachment is on disk before the first plugin runs, with the
// configuration that is used, so that it can be undone after a crash in mid-ADD,
// after the configuration has changed, and after a reboot without the network
// namespace.
//
// It must not know the CRI, the event log or how namespaces are made. Read
// driver.go first, then record.go, config.go and folder.go, and turns.go, plugin.go and
// orphans.go about the processes.
package cni
