// Package daemon runs the daemon around its parts: boot, background tasks (exits, lost
// output, network checks, reports), health, server and shutdown.
//
// Each noun has its file and takes its dependencies as interfaces (parts.go), so that
// tests need no kernel. Only drivers.go, which opens the drivers from a configuration,
// and images.go and validator.go, which adapt them to the CRI's services, know drivers.
// Every goroutine belongs to a Background or to the Server, which wait for its end.
//
// The package must not decide anything about a pod; the machines do. Read boot.go first,
// then server.go; the order of everything is in cmd/stele/serve.go.
package daemon
