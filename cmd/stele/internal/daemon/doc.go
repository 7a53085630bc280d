// Package daemon is the running of the daemon around its parts: the boot, what goes on
// beside the calls (exits, losses of output, the network's state, reports), the node's
// health, the server and the orderly end.
//
// Each noun has its file and takes what it needs as an interface (parts.go), so that its
// tests need no kernel. Only drivers.go, which opens the real ones from a configuration,
// and images.go and validator.go, which show them to the CRI's services, know drivers.
// Every goroutine belongs to a Background or to the Server, whose ends wait for it.
//
// The package must not decide anything about a pod: that is the machines'. Read boot.go
// first, then server.go; the order of everything stands in cmd/stele/serve.go.
package daemon
