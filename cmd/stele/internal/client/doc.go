// Package client connects the tools to a daemon: by its socket or, if it is not running,
// by its event log.
//
// It must not know what is done with the answers, which package show renders. Read
// source.go first.
package client
