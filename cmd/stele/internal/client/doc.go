// Package client is how the tools reach a daemon: by its socket, or by the event log of
// one that is not running.
//
// It must not know what is done with the answers: package show renders them, and the
// commands in cmd/stele choose. Read source.go first.
package client
