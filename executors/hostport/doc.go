// Package hostport maps ports of the node to pods with nftables, for networks whose CNI
// plugins cannot.
//
// Each daemon has a table of its own, named after its root directory. Mappings are elements
// of the table's maps, and each carries the id of its pod: the kernel is the only record,
// so that a mapping is found again after a crash, and after a reboot there is none to undo.
// What changes for one pod changes at once or not at all. A packet costs two look-ups,
// however many pods there are.
//
// The kernel is reached by netlink, so that a node needs no nft program, and no process is
// started.
//
// It must not know the CRI, CNI, the event log or why a pod's network cannot map ports. Read
// driver.go first, then plan.go (what a pod's ports become) and table.go (what the kernel does
// with a packet); loopback.go and conntrack.go are about two traps.
package hostport
